//! Arguments, exit codes, and the only `println!`.
