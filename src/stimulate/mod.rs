//! Prompts in, effects out: what changes when neurons do. Gradients, attributions and ablations of a
//! model that answers questions, batch by batch, on one device.

pub mod arms;
pub mod column_gradients;
pub mod diffmask;
pub mod facts;
pub mod gradients;
pub mod hard_concrete;
pub mod integrated_gradients;
pub mod log_prob_increase;
pub mod masks;
pub mod maximize;
pub mod mediation;
pub mod neurons;
pub mod plain_sweep;
pub mod question;
pub mod read;
pub mod readout;
pub mod resample;
pub mod sparsity;
pub mod sweep;
pub mod task;
mod work;
