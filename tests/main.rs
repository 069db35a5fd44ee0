//! All integration tests in one binary: one link, one set of helpers.

#[path = "kernels/class_sums.rs"]
mod class_sums;
#[path = "kernels/histogram.rs"]
mod histogram;
#[path = "laws/mod.rs"]
mod laws;
#[path = "kernels/sample_rows.rs"]
mod sample_rows;
#[path = "engine/segment.rs"]
mod segment;
#[path = "kernels/top_tokens.rs"]
mod top_tokens;
