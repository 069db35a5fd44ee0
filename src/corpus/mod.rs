//! Text to blocks to batches, and labels aligned to tokens. Knows no model beyond its tokenizer.

pub mod align;
pub mod batch;
pub mod block;
pub mod config;
pub mod document;
pub mod labels;
pub mod plan;
pub mod read;
pub mod stream;
pub mod tokenize;
