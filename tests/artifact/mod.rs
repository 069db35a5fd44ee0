//! The on-disk result.

mod atomic;
mod manifest;
mod tables;
