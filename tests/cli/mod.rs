//! The real binary, as a shell sees it: exit code, stdout, stderr.

mod compare;
mod config;
#[path = "../support/config_table.rs"]
mod config_table;
mod devices;
mod experiment_keys;
mod gpus;
mod inspect;
mod methods;
mod probing_keys;
mod shell;
mod similarity_keys;

use std::process::{Command, Stdio};

/// What a finished command left.
pub(crate) struct Finished {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// The program at the repository root, without the caller's logging environment.
fn electrode() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_electrode"));
    command.current_dir(env!("CARGO_MANIFEST_DIR")).env_remove("ELECTRODE_LOG");
    command.stdin(Stdio::null());
    command
}

/// Runs it with these arguments.
pub(crate) fn run(arguments: &[&str]) -> Finished {
    finish(electrode().args(arguments))
}

fn finish(command: &mut Command) -> Finished {
    let output = command.output().expect("the program starts");
    Finished {
        code: output.status.code().expect("it was not killed"),
        stdout: String::from_utf8(output.stdout).expect("stdout is UTF-8"),
        stderr: String::from_utf8(output.stderr).expect("stderr is UTF-8"),
    }
}
