//! `electrode run`.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use signal_hook::consts::{SIGINT, SIGTERM};

use super::progress::Progress;
use super::{device, output};
use crate::config::RunConfig;
use crate::error::{Error, Result};
use crate::run::{self, Finished, MemoryPlan, Prepared, Room};

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
    /// Where it runs: auto (every GPU, else the CPU), cpu, cuda, cuda:0,2
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
    let config = args.resolve()?;
    device::threads(config.device.threads)?;
    let prepared = Prepared::new(config)?;
    if args.dry_run {
        return dry_run(&prepared);
    }
    let stop = stop_flag()?;
    let finished = with_progress(|report| run::run(&prepared, &stop, report))?;
    output::print(&summary(&finished))
}

/// Does work that tells how far it is.
pub(super) fn with_progress<T>(work: impl FnOnce(run::Report<'_>) -> Result<T>) -> Result<T> {
    let mut stage: Option<(&'static str, Progress)> = None;
    let mut report = |name: &'static str, tokens: u64, share: f64| {
        if stage.as_ref().is_none_or(|(current, _)| *current != name) {
            tracing::debug!(stage = name);
            stage = Some((name, Progress::new(name)));
        }
        if let Some((_, progress)) = &mut stage {
            progress.update(tokens, share);
        }
    };
    work(&mut report)
}

/// Set by TERM and INT: the run stops between two batches, and resumes when started again.
pub(super) fn stop_flag() -> Result<Arc<AtomicBool>> {
    stop_at(&[SIGTERM, SIGINT])
}

/// Set by any of these signals.
pub(super) fn stop_at(signals: &[i32]) -> Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    for &signal in signals {
        // A second signal ends the process at once.
        signal_hook::flag::register_conditional_default(signal, Arc::clone(&stop))
            .and_then(|_| signal_hook::flag::register(signal, Arc::clone(&stop)))
            .map_err(Error::io("signal handler", "create"))?;
    }
    Ok(stop)
}

fn dry_run(prepared: &Prepared) -> Result<()> {
    let memory = run::memory_plan(prepared, prepared.limits.tokens)?;
    let plan = &prepared.plan;
    let neurons: usize =
        prepared.sites.iter().map(|site| prepared.model.spec.site_width(*site)).sum();
    output::print(&format!(
        "# run {}\n# corpus: {} documents, {} words, {} blocks, {} label groups\n\
         # sites: {} with {} neurons\n# batches: {} tokens\n{}{}",
        prepared.run_id_hex(),
        plan.documents,
        plan.words,
        plan.blocks.len(),
        plan.labels.groups(),
        prepared.sites.len(),
        neurons,
        prepared.limits.tokens,
        memory_lines(&memory),
        prepared.config.to_toml(),
    ))
}

/// The memory plan as comments: the host, then each GPU.
pub(super) fn memory_lines(memory: &MemoryPlan) -> String {
    let mib = |bytes: u64| format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20));
    let mut model = format!("weights {}", mib(memory.weights));
    if memory.transposed > 0 {
        model += &format!(" + transposed {}", mib(memory.transposed));
    }
    let way = if memory.transposed > 0 { "forward and back" } else { "forward pass" };
    model += &format!(" + {way} {}", mib(memory.workspace));
    if memory.kept > 0 {
        model += &format!(" + kept of a batch {}", mib(memory.kept));
    }
    let states = format!("{} states of {}", memory.states, mib(memory.state));
    let total = mib(memory.total());
    if memory.gpus.is_empty() {
        return format!("# memory: {total} = {model} + {states}\n");
    }
    let filled = match memory.statistics {
        0 => String::new(),
        bytes => format!(" + statistics {}", mib(bytes)),
    };
    let on_gpu = format!("{} = {model}{filled}", mib(memory.on_gpu()));
    let gpu = |room: &Room| {
        let fits = if memory.too_small().any(|small| small == room) {
            ": not all fits, batches get smaller"
        } else {
            ""
        };
        format!("# {}: {on_gpu}, of {} free{fits}\n", room.device, mib(room.free))
    };
    let gpus: String = memory.gpus.iter().map(gpu).collect();
    format!("# memory: {total} = {states}\n{gpus}")
}

fn summary(finished: &Finished) -> String {
    let counts = &finished.counts;
    let resumed = match finished.resumed_blocks {
        0 => String::new(),
        blocks => format!(", {blocks} blocks from earlier attempts"),
    };
    let speed = match finished.tokens_per_second {
        0.0 => "nothing left to read".to_owned(),
        rate => format!("{rate:.0} tokens/s"),
    };
    format!(
        "{} documents, {} tokens, {} rows ({} words dropped, {} truncated, {} rows excluded)\n\
         {speed}{resumed}\n{}\n",
        counts.documents,
        counts.tokens,
        counts.rows,
        counts.dropped_words,
        counts.truncated_words,
        counts.excluded_rows,
        finished.report.display(),
    )
}
