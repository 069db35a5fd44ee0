//! electrode runs transformer language models over corpora and finds the neurons behind
//! linguistic concepts. See ARCHITECTURE.md for the walk through these modules.

pub use electrode_core::{
    accumulate, capture, config, corpus, device, disk, error, hash, id, model,
};

pub mod artifact;
pub mod cli;
pub mod engine;
pub mod generate;
pub mod methods;
pub mod probe;
pub mod report;
pub mod rewrite;
pub mod run;
pub mod stimulate;
