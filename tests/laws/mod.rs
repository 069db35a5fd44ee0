//! Laws of the accumulators.

pub(crate) mod data;
mod gram;
mod merge;
mod tree;
