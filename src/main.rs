//! The `electrode` program.

use std::process::ExitCode;

fn main() -> ExitCode {
    electrode::cli::main()
}
