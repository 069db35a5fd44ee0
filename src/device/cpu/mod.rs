//! The device of machines without a GPU: float32, vectorised, parallel over rows or columns.

pub mod class_sums;
pub mod histogram;
pub mod sample_rows;
pub mod simd;
pub mod statistics;
pub mod top_tokens;
