//! `electrode report`.

use std::path::PathBuf;

use crate::error::Result;

/// Draw the report of a finished run again from its tables
#[derive(clap::Args, Debug)]
pub struct ReportArgs {
    /// The run folder
    #[arg(value_name = "RUN")]
    pub folder: PathBuf,
}

pub(super) fn run(args: ReportArgs) -> Result<()> {
    let page = crate::report::build(&args.folder)?;
    super::output::print(&format!("{}\n", page.display()))
}
