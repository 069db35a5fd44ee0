//! Passes over blocks: devices, resume, merge order, memory plan. Decides nothing scientific.

pub mod ids;
pub mod loss;
