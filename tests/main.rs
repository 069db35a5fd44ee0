//! All integration tests in one binary: one link, one set of helpers.

mod artifact;
#[allow(dead_code, reason = "shared with the binary of tests/reliability")]
#[path = "support/bench.rs"]
mod bench;
mod cli;
mod corpus;
mod engine {
    mod devices;
    mod segment;
}
mod extract;
mod golden {
    mod attribution;
    mod bf16;
    mod cuda;
    mod cuda_gradients;
    mod differences;
    mod edits;
    mod electra_wide;
    pub(crate) mod fixture;
    mod forward;
    mod gradients;
    mod interventions;
    mod minilm;
}
mod kernels {
    mod class_sums;
    mod cuda;
    pub(crate) mod gram;
    mod histogram;
    pub(crate) mod probe_bank;
    mod probe_fixtures;
    pub(crate) mod probe_measures;
    pub(crate) mod probe_reference;
    mod sample_rows;
    mod top_tokens;
}
#[path = "support/cuda.rs"]
mod cuda;
mod generate;
mod laws;
mod methods;
mod model;
#[path = "support/noise.rs"]
mod noise;
mod planted;
mod report;
mod rewrite;
mod run;
#[path = "support/run_folder.rs"]
mod run_folder;
mod stimulate;
#[path = "support/tensors.rs"]
mod tensors;
mod tidy;
mod tidy_kernels;
