//! The `electrode` program.

fn main() {}
