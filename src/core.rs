//! The lower layers of electrode, down to the statistics: what reads a corpus and runs a model.
//! A crate of its own, so that it is built once and with optimisation while the layers above it
//! change; `electrode` lends every module under the same name. See ARCHITECTURE.md.

pub mod accumulate;
pub mod capture;
pub mod config;
pub mod corpus;
pub mod device;
pub mod disk;
pub mod error;
pub mod hash;
pub mod id;
pub mod model;
