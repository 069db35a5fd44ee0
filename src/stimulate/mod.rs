//! Prompts in, effects out: what changes when neurons do. Gradients, attributions and ablations of a
//! model that answers questions, batch by batch, on one device.

pub mod arms;
pub mod gradients;
pub mod integrated_gradients;
pub mod maximize;
pub mod question;
pub mod read;
pub mod sparsity;
pub mod sweep;
pub mod task;
