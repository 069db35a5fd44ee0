//! The on-disk result and its provenance: tables, arrays and the manifest. Computes nothing.

pub mod atomic;
pub mod columns;
pub mod comparison;
pub mod effects;
pub mod machine;
pub mod manifest;
pub mod mediators;
pub mod packed;
pub mod probing;
pub mod ranked;
mod record;
pub mod rows;
pub mod sealed;
pub mod secrets;
pub mod similarity;
pub mod sparsity;
pub mod steering;
pub mod table;
pub mod tables;
pub mod words;
