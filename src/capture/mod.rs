//! Which sites are read, and which are edited.

pub mod collect;
pub mod grid;
pub mod intervention;
mod object;
mod patch;
pub mod plan;
