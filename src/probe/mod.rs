//! Linear probes on the neurons of a model: who the rows are and which part of the data they belong
//! to, where their activations come from again and again, and the training of banks of probes.

pub mod bank;
mod optimum;
pub mod rows;
pub mod scale;
pub mod source;
pub mod split;
pub mod store;
pub mod tasks;
pub mod train;
