//! Texts continued by a model, and steered by its neurons.
//! Oracles: in each file.

mod cli;
mod decode;
mod measures;
mod sample;
pub(crate) mod steer;
pub(crate) mod texts;
