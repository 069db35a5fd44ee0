//! Checkpoints described and mapped: `config.json` to a [`ModelSpec`], safetensors to [`HostTensor`]s.
//! Knows no device and no corpus.

pub mod spec;

pub use spec::*;
