//! The on-disk result and its provenance: tables, arrays and the manifest. Computes nothing.

pub mod rows;
