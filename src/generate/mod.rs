//! Texts continued by a model: tokens chosen from its logits, and what is said of the texts.

pub mod continuation;
pub mod measures;
pub mod prompts;
pub mod sample;
