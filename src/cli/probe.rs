//! `electrode probe`: linear probes on the neurons of a model.

use std::path::PathBuf;

use super::{device, output};
use crate::error::Result;
use crate::run::probing::{Probed, Probing, ProbingConfig, probe};

/// Train probes on the neurons of a model, as a file says, and judge them
#[derive(clap::Args, Debug)]
pub struct ProbeArgs {
    /// Probing file (TOML), see configs/probes
    #[arg(value_name = "CONFIG")]
    config: PathBuf,
    /// Changes to it: corpus.max_documents=100, probes.seeds='[0, 1]'
    #[arg(value_name = "KEY=VALUE")]
    overrides: Vec<String>,
    /// Where it runs: auto, cpu, cuda, cuda:0,2; several GPUs share the sites
    #[arg(long, value_name = "DEVICE")]
    device: Option<String>,
    /// CPU threads; all by default
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=4096))]
    threads: Option<u16>,
}

pub(super) fn run(args: ProbeArgs) -> Result<()> {
    let mut config = ProbingConfig::load(&args.config, &args.overrides)?;
    if args.device.is_some() {
        config.device.name = args.device;
    }
    config.device.threads = args.threads.map(usize::from).or(config.device.threads);
    device::threads(config.device.threads)?;
    let probing = Probing::new(config)?;
    let stop = super::run::stop_flag()?;
    let probed = super::run::with_progress(|report| probe(&probing, &stop, report))?;
    output::print(&summary(&probed))
}

fn summary(probed: &Probed) -> String {
    let resumed = match probed.resumed {
        0 => String::new(),
        sites => format!(" ({sites} sites from earlier attempts)"),
    };
    format!(
        "{} probes on {} rows, activations {}{resumed}; {:.1} s\n{}\n",
        probed.probes,
        probed.rows,
        probed.kept,
        probed.seconds,
        probed.report.display(),
    )
}
