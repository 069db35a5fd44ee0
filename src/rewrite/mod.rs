//! Checkpoints made of others: layers dropped, neurons deleted or merged, what neurons write
//! changed, a direction taken out. Reads a [`Model`](crate::model::Model)'s folder and writes a new
//! one that opens the same way; runs nothing and never touches the original.
//!
//! Each edit makes a [`Rewrite`], which is written by [`Rewrite::write`]. A student for distillation
//! (`distill-init`) is [`layers::drop_layers`] followed by [`neurons::remove`].

pub mod activations;
mod checkpoint;
pub mod choose;
pub mod cluster;
pub mod direction;
pub mod heads;
pub mod knowledge;
pub mod layers;
pub mod means;
pub mod merge;
pub mod neurons;
pub mod selected;
mod tensor;
pub mod undo;
mod writer;

pub use checkpoint::{HISTORY, Rewrite, SHARD_BYTES, Written};
