//! Arguments, exit codes, and the only `println!`.

pub mod rank;
