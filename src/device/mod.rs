//! Devices: buffers, the list of operations, and the one forward program over them.

pub mod cpu;
pub mod statistics;
