//! Laws of the accumulators.

pub(crate) mod data;
mod merge;
mod tree;
