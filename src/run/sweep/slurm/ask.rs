//! The cluster's own commands.

use std::process::{Command, Stdio};

use crate::error::{Error, Result};

/// What a command of the cluster says.
pub(super) fn ask(command: &str, arguments: &[&str]) -> Result<String> {
    ask_holding(command, arguments, Stdio::null())
}

/// The same, with something open for as long as it runs.
pub(super) fn ask_holding(command: &str, arguments: &[&str], held: Stdio) -> Result<String> {
    let mut asked = Command::new(command);
    asked.args(arguments).stdin(held);
    // Of a submitter that is a job itself: its number of restarts and its array are not the new job's.
    for (name, _) in std::env::vars_os() {
        let is_own = |name: &str| name.starts_with("SLURM_") && !KEPT.contains(&name);
        if command == "sbatch" && name.to_str().is_some_and(is_own) {
            asked.env_remove(name);
        }
    }
    let output = match asked.output() {
        Ok(output) => output,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let what = "is not to be found: is this a login node of a Slurm cluster?";
            let remedy = "run the tasks here with --local N, or look at the files with --dry-run";
            return Err(Error::config(command, what, remedy));
        }
        Err(error) => return Err(Error::io(command, "start")(error)),
    };
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let what = format!("{} {}: {}", command, arguments.join(" "), said.trim());
    Err(Error::Unfinished { what })
}

/// What says where the cluster is, in place of what job this is.
const KEPT: [&str; 2] = ["SLURM_CONF", "SLURM_CLUSTERS"];
