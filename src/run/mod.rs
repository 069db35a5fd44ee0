//! `electrode run` from its configuration to its report: opens everything, makes the pass, asks
//! the methods, writes the tables. Everything it decides is in the run file.

pub mod compare;
mod contexts;
pub mod contribution;
pub mod devices;
mod document_units;
pub mod fact_editing;
mod folder;
pub mod generate;
pub mod maximize;
mod memory;
pub mod metrics;
pub mod neuronpedia;
mod opened;
pub mod order;
mod pieces;
mod prepare;
pub mod probing;
mod provenance;
pub mod questions;
mod rankings;
mod record;
pub mod similarity;
pub mod sparsity;
mod statistics_tables;
pub mod steer;
pub mod sweep;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

pub use devices::Devices;
pub use memory::{MemoryPlan, Room, memory_plan};
pub use prepare::Prepared;

use self::metrics::Metrics;
use crate::accumulate::summary::SiteSummary;
use crate::artifact::machine::utc_now;
use crate::corpus::block::{Counts, Sequence};
use crate::corpus::labels::LabelIndex;
use crate::corpus::stream::{BlockStream, documents, tokenize_documents};
use crate::device::forward::Forward;
use crate::device::statistics::StatisticsPlan;
use crate::engine::calibrate::calibrate;
use crate::engine::fleet::{Device, Fleet, Setup, Slot};
use crate::engine::pass::{PassPlan, PassProgress, run_pass};
use crate::engine::states::States;
use crate::error::Result;
use crate::id::Site;

/// What a run tells while it works: the name of its stage, tokens so far, share done (0 to 1).
pub type Report<'a> = &'a mut dyn FnMut(&'static str, u64, f64);

/// What a finished run leaves.
#[derive(Clone, Debug)]
pub struct Finished {
    /// The run folder.
    pub folder: PathBuf,
    /// The page to open.
    pub report: PathBuf,
    /// What was seen and what was lost.
    pub counts: Counts,
    /// Tokens of this attempt per second of its pass.
    pub tokens_per_second: f64,
    /// Blocks that earlier attempts had done.
    pub resumed_blocks: u64,
}

/// How the pass went, for the manifest.
struct PassFacts {
    start: String,
    clock: Instant,
    tokens: u64,
    seconds: f64,
    resumed: u64,
    /// Blocks that the result covers, and how it does not where some are missing.
    done: u32,
    partial: Option<String>,
    /// Devices that failed on the way.
    lost: Vec<String>,
}

/// Runs everything where the run file says; goes on where an earlier attempt in the same folder
/// stopped.
pub fn run(prepared: &Prepared, stop: &AtomicBool, report: Report<'_>) -> Result<Finished> {
    memory_plan(prepared, prepared.limits.tokens)?.warn();
    match &prepared.devices {
        Devices::Cpu => {
            run_on(prepared, vec![devices::cpu(prepared.config.model.dtype)], stop, report)
        }
        Devices::Cuda(found) => {
            let slots = devices::gpus(found, prepared.config.model.dtype);
            run_on(prepared, slots, stop, report)
        }
    }
}

/// As [`run`], on these devices: how many they are changes no bit. They are all of the kind that the
/// run was prepared for.
pub fn run_on<O: Device>(
    prepared: &Prepared,
    slots: Vec<Slot<'_, O>>,
    stop: &AtomicBool,
    report: Report<'_>,
) -> Result<Finished> {
    let folder = folder::RunFolder::open(prepared)?;
    let (start, clock) = (utc_now(), Instant::now());
    let wanted: BTreeSet<Site> = prepared.sites.iter().copied().collect();
    let setup = Setup::forward(&prepared.model, prepared.limits, &wanted);
    let mut fleet = Fleet::new(slots, setup);
    report("calibrating", 0, 0.0);
    let plan = pass_plan(prepared, &mut fleet)?;
    let mut states = States::load(&folder.states(), prepared.run_id, plan.sites.clone())?
        .commit_every(prepared.commit_interval());
    let todo = states.missing(plan.blocks);
    let resumed = u64::from(plan.blocks) - todo.len() as u64;
    let before = states.tokens();
    let (pass_clock, mut tokens) = (Instant::now(), before);
    let blocks = BlockStream::start_for(fleet.len(), prepared.block_rules(), todo)?;
    folder.claim(prepared)?;
    let total = f64::from(plan.blocks);
    let metrics = Metrics::start(folder.path().join(metrics::METRICS), folder.states());
    metrics.runs_on(&prepared.devices);
    metrics.begin((resumed as f64, plan.blocks), before);
    let progress = |PassProgress { tokens: now, blocks }| {
        tokens = now;
        metrics.note(now, blocks);
        report("reading neurons", now, blocks / total);
    };
    run_pass(&mut fleet, &plan, &mut states, blocks, (stop, progress))?;
    drop(metrics);
    let mut facts = PassFacts {
        start,
        clock,
        tokens: tokens - before,
        seconds: pass_clock.elapsed().as_secs_f64(),
        resumed,
        done: plan.blocks,
        partial: None,
        lost: Vec::new(),
    };
    let (counts, summaries) = states.finish(plan.blocks)?.finish();
    prepared.check_unchanged()?;
    finish(prepared, &folder, &mut fleet, (counts, &summaries, &mut facts), report)
}

/// From merged statistics to tables and report.
fn finish<O: Device>(
    prepared: &Prepared,
    folder: &folder::RunFolder,
    fleet: &mut Fleet<'_, O>,
    (counts, summaries, facts): (Counts, &[SiteSummary], &mut PassFacts),
    report: Report<'_>,
) -> Result<Finished> {
    report("ranking", counts.tokens, 1.0);
    let ranked = rankings::rank_all(prepared, summaries)?;
    folder.write_neurons(statistics_tables::neurons(summaries)?)?;
    folder.write_rankings(ranked.rows())?;
    folder.write_histograms(statistics_tables::histograms(
        summaries,
        &prepared.plan.labels,
        &ranked.shown,
    ))?;
    if ranked.has_words() {
        let neurons = statistics_tables::all_neurons(summaries);
        folder.write_top_words(ranked.top_words(&neurons))?;
    }
    report("tracing contexts", counts.tokens, 1.0);
    let contexts =
        fleet.on_one(|forward| contexts::contexts(prepared, summaries, &ranked.shown, forward))?;
    folder.write_contexts(contexts)?;
    facts.lost = fleet.lost().to_vec();
    provenance::write_manifest(prepared, folder, (counts, summaries, facts), &ranked)?;
    report("drawing the report", counts.tokens, 1.0);
    let page = crate::report::build(folder.path())?;
    Ok(Finished {
        folder: folder.path().to_path_buf(),
        report: page,
        counts,
        tokens_per_second: rate(facts),
        resumed_blocks: facts.resumed,
    })
}

fn rate(facts: &PassFacts) -> f64 {
    if facts.tokens == 0 { 0.0 } else { facts.tokens as f64 / facts.seconds }
}

/// Shifts and bin edges from the calibration sample, and with them the plan of the pass.
fn pass_plan<O: Device>(prepared: &Prepared, fleet: &mut Fleet<'_, O>) -> Result<PassPlan> {
    let sequences = calibration(prepared)?;
    let sites = fleet.on_one(|forward| calibrated(prepared, forward, &sequences))?;
    Ok(pass_of(prepared, sites))
}

/// The pass of a run that was calibrated.
fn pass_of(prepared: &Prepared, sites: Calibrated) -> PassPlan {
    PassPlan {
        sites,
        pool: prepared.config.capture.pool,
        batch_tokens: prepared.batch_tokens(),
        blocks: prepared.blocks(),
        max_nan: prepared.config.statistics.max_nan,
    }
}

/// The sequences that a run is calibrated on.
fn calibration(prepared: &Prepared) -> Result<Vec<Sequence>> {
    let wanted: BTreeSet<u64> = prepared.plan.calibration.iter().copied().collect();
    let sample = documents(&prepared.plan, &prepared.config.corpus, &wanted)?;
    let labels = LabelIndex::new(&prepared.plan.labels, &prepared.config.concepts);
    Ok(tokenize_documents(&sample, &prepared.tokenizer, &labels, &prepared.rules)?.0)
}

/// What is collected at each site.
type Calibrated = Vec<(Site, Arc<StatisticsPlan>)>;

/// What is collected at each site: its shifts and bins are taken from these sequences.
fn calibrated<O: Device>(
    prepared: &Prepared,
    forward: &mut Forward<O>,
    sequences: &[Sequence],
) -> Result<Calibrated> {
    let (statistics, pool) = (&prepared.config.statistics, prepared.config.capture.pool);
    let groups = prepared.plan.labels.groups();
    calibrate(forward, &prepared.sites, sequences, (statistics, pool, groups))
}
