//! Tests of the test bench itself.

mod kernels;
mod support;
