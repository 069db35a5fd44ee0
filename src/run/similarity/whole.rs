//! One pass over the corpus for all models together, which leaves the second moments of their sites and of
//! the pairs that are asked for: of every row that all of them have. States of blocks merge and resume as
//! those of a run.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::Similarity;
use super::pair::asked_pairs;
use crate::accumulate::gram::{GramPlan, GramSite, GramState};
use crate::artifact::machine::available_memory;
use crate::config::Dtype;
use crate::corpus::block::Block;
use crate::corpus::stream::BlockStream;
use crate::device::forward::{Forward, Limits};
use crate::device::moment_ops::MomentOps;
use crate::engine::abreast::{Abreast, AbreastPlan};
use crate::engine::fleet::{Device, Fleet, Setup, Slot};
use crate::engine::pass::{PassProgress, run_pass};
use crate::engine::states::States;
use crate::error::{Error, Result};
use crate::id::Site;
use crate::run::devices::{self, Devices, Typed};
use crate::run::prepare::Prepared;
use crate::run::{Report, calibrated, calibration};

/// States on the host: a finished node, the one that comes in, the half it merges with, a node as bytes.
const STATES: u64 = 4;
/// Squares of a site that its directions take.
const SQUARES: u64 = 4;

/// What the pass leaves.
pub(super) struct Whole {
    pub(super) state: GramState,
    /// Tokens of this attempt.
    pub(super) tokens: u64,
    /// Blocks that earlier attempts had done.
    pub(super) resumed: u64,
    /// Devices that failed on the way.
    pub(super) lost: Vec<String>,
}

/// Refused where the squares of the asked pairs have no room; says how much they take.
pub(super) fn check_memory(asked: &Similarity) -> Result<()> {
    let places = asked.places();
    let width = |at: usize| {
        let (model, site) = places[at];
        asked.models[model].model.spec.site_width(site) as u64
    };
    let own = (0..places.len()).map(|at| width(at) * width(at)).sum::<u64>();
    let pairs = asked_pairs(&places, asked.config.similarity.pairs);
    let squares = 8 * (own + pairs.iter().map(|(a, b)| width(*a) * width(*b)).sum::<u64>());
    let host = STATES * squares + SQUARES * 8 * own;
    let refuse = |needed: u64, free: u64, place: &str| {
        let what = format!(
            "moments of {} sites and {} pairs take {} MiB {place}, {} are free",
            places.len(),
            pairs.len(),
            needed >> 20,
            free >> 20
        );
        let remedy = "set similarity.pairs = \"same\", name fewer sites, or take a sample: \
                      similarity.rows = 16384";
        Err(Error::config("similarity", what, remedy))
    };
    match available_memory() {
        Some(free) if free < host => return refuse(host, free, "of the host"),
        _ => {}
    }
    let gpus = match &asked.models[0].devices {
        Devices::Cpu => None,
        Devices::Cuda(found) => found.iter().map(|gpu| gpu.free).min(),
    };
    match gpus {
        Some(free) if free < squares => refuse(squares, free, "of each GPU"),
        _ => Ok(()),
    }
}

/// The pass, whose states are kept in `folder`.
pub(super) fn whole(
    asked: &Similarity,
    folder: &Path,
    (stop, report): (&AtomicBool, Report<'_>),
) -> Result<Whole> {
    match &asked.models[0].devices {
        Devices::Cpu => whole_on(asked, vec![devices::cpu(Dtype::F32)], folder, (stop, report)),
        Devices::Cuda(found) => {
            whole_on(asked, devices::gpus(found, Dtype::F32), folder, (stop, report))
        }
    }
}

fn whole_on<O: Device + MomentOps + Typed>(
    asked: &Similarity,
    slots: Vec<Slot<'_, O>>,
    folder: &Path,
    (stop, report): (&AtomicBool, Report<'_>),
) -> Result<Whole> {
    let models = &asked.models;
    let most = |of: fn(&Prepared) -> usize| models.iter().map(of).max().unwrap_or(1);
    let limits = Limits {
        tokens: most(|model| model.limits.tokens),
        sequence: most(|model| model.limits.sequence),
    };
    let wanted: Vec<_> = models.iter().map(|model| model.sites.iter().copied().collect()).collect();
    let setup = Setup::new(limits, |ops: O, limits: Limits| {
        let mut all = Vec::new();
        for (model, wanted) in models.iter().zip(&wanted) {
            let own = model.limits;
            let tokens = limits.tokens.min(own.tokens).max(own.sequence);
            let limits = Limits { tokens, ..own };
            let ops = ops.typed(model.config.model.dtype);
            all.push((Forward::new(ops, &model.model, limits, wanted)?, &model.sites[..]));
        }
        Abreast::new(all, ops.typed(Dtype::F32))
    });
    let mut fleet: Fleet<'_, O, Abreast<O>> = Fleet::new(slots, setup);
    report("calibrating", 0, 0.0);
    let plan = plan(asked, &mut fleet)?;
    let interval = models[0].commit_interval();
    let mut states = States::load(folder, asked.run_id, Arc::clone(&plan.gram))?;
    states = states.commit_every(interval);
    let todo = states.missing(plan.blocks);
    let resumed = u64::from(plan.blocks) - todo.len() as u64;
    let before = states.tokens();
    let mut streams = Vec::new();
    for model in models {
        let rules = model.block_rules();
        streams.push(BlockStream::start_for(fleet.len(), rules, todo.clone())?);
    }
    let total = f64::from(plan.blocks);
    let progress =
        |PassProgress { tokens, blocks }| report("reading neurons", tokens, blocks / total);
    run_pass(&mut fleet, &plan, &mut states, Together(streams), (stop, progress))?;
    let tokens = states.tokens() - before;
    for model in models {
        model.model.check_unchanged()?;
        model.plan.check_unchanged(&model.config.corpus)?;
    }
    let lost = fleet.lost().to_vec();
    Ok(Whole { state: states.finish(plan.blocks)?, tokens, resumed, lost })
}

/// Shifts from a few documents, the pairs that are asked for, and each site with the norms.
fn plan<O: Device + MomentOps>(
    asked: &Similarity,
    fleet: &mut Fleet<'_, O, Abreast<O>>,
) -> Result<AbreastPlan> {
    let mut sites = Vec::new();
    for (number, model) in asked.models.iter().enumerate() {
        let sequences = calibration(model)?;
        let own = fleet.on_one(|program| calibrated(model, program.forward(number), &sequences))?;
        let shifted = |(site, plan): (Site, Arc<_>)| {
            let plan: &crate::device::statistics::StatisticsPlan = &plan;
            GramSite { site, shift: plan.shift.clone() }
        };
        sites.extend(own.into_iter().map(shifted));
    }
    let places = asked.places();
    let mut pairs = asked_pairs(&places, asked.config.similarity.pairs);
    pairs.extend((0..places.len()).map(|at| (at, places.len())));
    sites.push(GramSite { site: sites[0].site, shift: vec![0.0; places.len()] });
    let first = &asked.models[0];
    let of_model = |model: &Prepared| (model.sites.clone(), model.batch_tokens());
    Ok(AbreastPlan {
        gram: Arc::new(GramPlan::of_places(sites, &pairs)?),
        models: asked.models.iter().map(of_model).collect(),
        pool: first.config.capture.pool,
        blocks: first.blocks(),
    })
}

/// The same blocks as each model reads them.
struct Together(Vec<BlockStream>);

impl Iterator for Together {
    type Item = Result<Vec<Block>>;

    fn next(&mut self) -> Option<Self::Item> {
        self.0.iter_mut().map(Iterator::next).collect::<Option<Result<Vec<Block>>>>()
    }
}
