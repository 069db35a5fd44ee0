//! Tests of the test bench itself.

mod block;
mod driver;
mod products;
mod support;
