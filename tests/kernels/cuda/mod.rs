//! Every kernel against the CPU device and float64 loops, at odd sizes, through the fake driver (or
//! on a real GPU).

mod residual;
mod statistics;
