//! Laws of the accumulators.

#[path = "../support/data.rs"]
pub(crate) mod data;
mod gram;
mod merge;
mod pieces;
mod tree;
