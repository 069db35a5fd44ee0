//! One pass over the corpus for each model, which leaves a uniform sample of its rows: the rows with the
//! smallest hashes, and so the same ones in every model. States of blocks merge and resume as those of a
//! run.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::atomic::AtomicBool;

use crate::corpus::block::Counts;
use crate::corpus::stream::BlockStream;
use crate::device::statistics::RowSample;
use crate::engine::fleet::{Device, Fleet, Setup, Slot};
use crate::engine::pass::{PassProgress, run_pass};
use crate::engine::states::States;
use crate::error::Result;
use crate::id::{RowId, Site};
use crate::run::devices::{self, Devices};
use crate::run::prepare::Prepared;
use crate::run::{Report, memory_plan, pass_plan};

/// What a model's pass leaves.
pub(super) struct Sampled {
    /// What was read and what was lost.
    pub(super) counts: Counts,
    /// Tokens of this attempt.
    pub(super) tokens: u64,
    /// Blocks that earlier attempts had done.
    pub(super) resumed: u64,
    /// Devices that failed on the way.
    pub(super) lost: Vec<String>,
    /// Sites in forward order, each with its columns and the rows of the sample.
    pub(super) sites: Vec<(Site, usize, RowSample)>,
}

/// The pass of one model, whose states are kept in `folder`.
pub(super) fn sample(
    prepared: &Prepared,
    folder: &Path,
    (stop, report): (&AtomicBool, Report<'_>),
) -> Result<Sampled> {
    memory_plan(prepared, prepared.limits.tokens)?.warn();
    match &prepared.devices {
        Devices::Cpu => sample_on(
            prepared,
            vec![devices::cpu(prepared.config.model.dtype)],
            folder,
            (stop, report),
        ),
        Devices::Cuda(found) => {
            let slots = devices::gpus(found, prepared.config.model.dtype);
            sample_on(prepared, slots, folder, (stop, report))
        }
    }
}

fn sample_on<O: Device>(
    prepared: &Prepared,
    slots: Vec<Slot<'_, O>>,
    folder: &Path,
    (stop, report): (&AtomicBool, Report<'_>),
) -> Result<Sampled> {
    let wanted: BTreeSet<Site> = prepared.sites.iter().copied().collect();
    let setup = Setup::forward(&prepared.model, prepared.limits, &wanted);
    let mut fleet = Fleet::new(slots, setup);
    report("calibrating", 0, 0.0);
    let plan = pass_plan(prepared, &mut fleet)?;
    let mut states = States::load(folder, prepared.run_id, plan.sites.clone())?
        .commit_every(prepared.commit_interval());
    let todo = states.missing(plan.blocks);
    let resumed = u64::from(plan.blocks) - todo.len() as u64;
    let before = states.tokens();
    let blocks = BlockStream::start_for(fleet.len(), prepared.block_rules(), todo)?;
    let total = f64::from(plan.blocks);
    let progress =
        |PassProgress { tokens, blocks }| report("reading neurons", tokens, blocks / total);
    run_pass(&mut fleet, &plan, &mut states, blocks, (stop, progress))?;
    let tokens = states.tokens() - before;
    let (counts, summaries) = states.finish(plan.blocks)?.finish();
    prepared.model.check_unchanged()?;
    prepared.plan.check_unchanged(&prepared.config.corpus)?;
    let sites = summaries.into_iter().map(|all| (all.site, all.neurons, all.sample)).collect();
    Ok(Sampled { counts, tokens, resumed, lost: fleet.lost().to_vec(), sites })
}

/// The rows that every model sampled, ascending: of those that one of them dropped, as words without a
/// token or beyond its longest sequence, no model has any.
pub(super) fn common_rows(models: &[Sampled]) -> Vec<RowId> {
    let rows_of = |model: &Sampled| -> BTreeSet<RowId> {
        model.sites.first().map(|site| site.2.rows.iter().copied().collect()).unwrap_or_default()
    };
    let all = models.iter().map(rows_of).reduce(|a, b| a.intersection(&b).copied().collect());
    all.unwrap_or_default().into_iter().collect()
}

/// The values of some rows of a sample, `[rows, N]`.
pub(super) fn values_of(sample: &RowSample, neurons: usize, rows: &[RowId]) -> Vec<f32> {
    let mut places: Vec<(RowId, usize)> = sample.rows.iter().copied().zip(0..).collect();
    places.sort_unstable();
    let mut values = Vec::with_capacity(rows.len() * neurons);
    for row in rows {
        let at = places.binary_search_by_key(row, |(id, _)| *id).expect("a common row");
        values.extend_from_slice(&sample.values[places[at].1 * neurons..][..neurons]);
    }
    values
}
