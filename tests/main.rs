//! All integration tests in one binary: one link, one set of helpers.

mod artifact;
mod report;
#[path = "support/run_folder.rs"]
mod run_folder;
