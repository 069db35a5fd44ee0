//! The on-disk result.

mod atomic;
mod manifest;
mod packed;
mod tables;
