//! Laws of the accumulators.

pub(crate) mod data;
mod merge;
mod pieces;
mod tree;
