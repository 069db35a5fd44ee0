//! `electrode inspect`: what a model is, before anything is run.

use crate::error::Result;

/// Show the architecture, sites, parameters and cost of a model
#[derive(clap::Args, Debug)]
pub struct InspectArgs {
    /// Folder with config.json, or org/name in the local Hub cache
    #[arg(value_name = "MODEL")]
    pub model: String,
    /// As JSON
    #[arg(long)]
    pub json: bool,
}

pub(super) fn run(_args: InspectArgs) -> Result<()> {
    super::not_yet("inspect")
}
