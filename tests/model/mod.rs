//! Tests of the model layer.

mod fixtures;
mod hostile;
mod hub;
mod layout;
mod sites;
mod specs;
#[path = "../support/checkpoints.rs"]
mod support;
