//! electrode runs transformer language models over corpora and finds the neurons behind
//! linguistic concepts. See ARCHITECTURE.md for the walk through these modules.

pub mod accumulate;
pub mod artifact;
pub mod capture;
pub mod cli;
pub mod config;
pub mod corpus;
pub mod device;
pub mod engine;
pub mod error;
pub mod generate;
pub mod hash;
pub mod id;
pub mod methods;
pub mod model;
pub mod probe;
pub mod report;
pub mod rewrite;
pub mod run;
pub mod stimulate;
