//! Text to blocks to batches, and labels aligned to tokens. Knows no model beyond its tokenizer.

pub mod batch;
pub mod block;
pub mod config;
pub mod document;
