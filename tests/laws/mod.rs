//! Laws of the accumulators.

pub(crate) mod data;
mod gram;
mod merge;
mod pieces;
mod tree;
