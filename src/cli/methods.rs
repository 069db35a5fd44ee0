//! `electrode methods`: the registry as a table.

use crate::error::Result;

/// List the methods, their settings and their papers
#[derive(clap::Args, Debug)]
pub struct MethodsArgs {
    /// As JSON
    #[arg(long)]
    pub json: bool,
}

pub(super) fn run(_args: MethodsArgs) -> Result<()> {
    super::not_yet("methods")
}
