//! Passes over blocks: calibration, resume, merge order; and `extract`, one pass that keeps the
//! activations themselves. Decides nothing scientific.

pub mod abreast;
pub mod array;
pub mod calibrate;
pub mod fleet;
pub mod ids;
mod ids_gradient;
pub mod loss;
pub mod measure;
pub mod merge;
mod padded;
pub mod pass;
mod queue;
pub mod segment;
pub mod segment_reader;
pub mod share;
pub mod states;
pub mod tokenizer;
pub mod watch;
pub mod watch_moments;
pub mod word_rows;
pub mod words;
