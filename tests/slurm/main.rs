//! Sweeps on a real Slurm, started by `.ci/slurm-up` (controller and four nodes on one machine), with
//! everything that happens to jobs there. Oracle: an undisturbed sweep of the same plan, `--local`.
//!
//! Runs only with `ELECTRODE_SLURM=1`; `ELECTRODE_NIGHT=1` runs the long forms. Nodes are shared out so
//! that most tests run beside each other: `cargo test --test slurm -- --test-threads 8`.

#![allow(dead_code)] // of what the tests share with those of main.rs

#[path = "../support/bench.rs"]
mod bench;
mod cluster;
mod events;
#[path = "../reliability/figures.rs"]
mod figures;
mod mixed;
mod submitting;
mod sweeps;
mod thousand;
