//! `electrode similarity`: how alike layers and models are.

use std::path::PathBuf;

use super::{device, output};
use crate::error::Result;
use crate::run::similarity::{Compared, Similarity, SimilarityConfig, similarity};

/// Compare layers and models over the same words: CKA, SVCCA, PWCCA, partners and clusters of neurons
#[derive(clap::Args, Debug)]
pub struct SimilarityArgs {
    /// Similarity file (TOML): models, corpus, sites
    #[arg(value_name = "CONFIG")]
    config: PathBuf,
    /// Changes to it: corpus.max_documents=100, similarity.rows=4096
    #[arg(value_name = "KEY=VALUE")]
    overrides: Vec<String>,
    /// Where it runs: auto (every GPU, else the CPU), cpu, cuda, cuda:0,2
    #[arg(long, value_name = "DEVICE")]
    device: Option<String>,
    /// CPU threads; all by default
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=4096))]
    threads: Option<u16>,
}

pub(super) fn run(args: SimilarityArgs) -> Result<()> {
    let mut config = SimilarityConfig::load(&args.config, &args.overrides)?;
    if args.device.is_some() {
        config.device.name = args.device;
    }
    config.device.threads = args.threads.map(usize::from).or(config.device.threads);
    device::threads(config.device.threads)?;
    let asked = Similarity::new(config)?;
    let stop = super::run::stop_flag()?;
    let found = super::run::with_progress(|report| similarity(&asked, &stop, report))?;
    output::print(&summary(&found))
}

fn summary(found: &Compared) -> String {
    let resumed = match found.resumed_blocks {
        0 => String::new(),
        blocks => format!(", {blocks} blocks from earlier attempts"),
    };
    format!(
        "{} pairs of {} sites over {} rows{resumed}\n{}\n",
        found.pairs,
        found.sites,
        found.rows,
        found.report.display(),
    )
}
