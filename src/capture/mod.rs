//! Which sites are read, and which are edited.

pub mod collect;
pub mod intervention;
