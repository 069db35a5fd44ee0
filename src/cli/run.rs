//! `electrode run`.

use std::path::PathBuf;

use super::output;
use crate::config::RunConfig;
use crate::error::Result;

/// Run a model over a corpus as a run file says: tables, rankings and a report
#[derive(clap::Args, Debug)]
pub struct RunArgs {
    /// Run file (TOML), see README.md for its keys
    #[arg(value_name = "CONFIG")]
    config: PathBuf,
    /// Changes to it: corpus.max_documents=100, methods='["ap"]'
    #[arg(value_name = "KEY=VALUE")]
    overrides: Vec<String>,
    /// Print the resolved run and its memory plan, then stop
    #[arg(long)]
    dry_run: bool,
    /// Where it runs: auto or cpu
    #[arg(long, value_name = "DEVICE")]
    device: Option<String>,
    /// CPU threads; all by default
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=4096))]
    threads: Option<u16>,
}

impl RunArgs {
    /// The run file with overrides and flags applied.
    pub fn resolve(&self) -> Result<RunConfig> {
        let mut run = RunConfig::load(&self.config, &self.overrides)?;
        if self.device.is_some() {
            run.device.name.clone_from(&self.device);
        }
        run.device.threads = self.threads.map(usize::from).or(run.device.threads);
        Ok(run)
    }
}

pub(super) fn run(args: RunArgs) -> Result<()> {
    let run = args.resolve()?;
    if args.dry_run {
        return output::print(&format!("# run {}\n{}", run.run_id(), run.to_toml()));
    }
    super::not_yet("run")
}
