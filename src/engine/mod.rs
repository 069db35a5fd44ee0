//! Passes over blocks: devices, resume, merge order, memory plan. Decides nothing scientific.

pub mod merge;
pub mod segment;
pub mod segment_reader;
