//! `electrode completions`.

use clap_complete::Shell;

use super::output;
use crate::error::Result;

/// Print a completion script for a shell
#[derive(clap::Args, Debug)]
pub struct CompletionsArgs {
    /// The shell
    shell: Shell,
}

pub(super) fn run(args: CompletionsArgs) -> Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut super::command(), "electrode", &mut script);
    output::print(&String::from_utf8_lossy(&script))
}
