//! One pass over the corpus: blocks in, merged statistics out. Each block's statistics start from
//! nothing, are put away in the attempt's segment, and merge along the fixed tree.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::states::PassStates;
use super::watch::StatisticsWatch;
use crate::config::Pool;
use crate::corpus::batch::{Batch, pack};
use crate::corpus::block::Block;
use crate::device::forward::{Forward, ForwardInput, SiteWork};
use crate::device::ops::Ops;
use crate::device::statistics::StatisticsPlan;
use crate::error::{Error, Result};
use crate::id::Site;

/// What is collected, over which blocks, and where the states go.
pub struct PassPlan {
    /// Sites and their statistics, in forward order.
    pub sites: Vec<(Site, Arc<StatisticsPlan>)>,
    /// How tokens become rows.
    pub pool: Pool,
    /// Tokens of a device call; a single longer sequence makes a call of its own.
    pub batch_tokens: usize,
    /// Blocks of the corpus plan.
    pub blocks: u32,
    /// Largest share of non-finite activations.
    pub max_nan: f64,
}

/// How far a pass is: tokens done, and blocks done of blocks planned.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PassProgress {
    /// Tokens run so far, earlier attempts included.
    pub tokens: u64,
    /// Blocks done, the running one in part.
    pub blocks: f64,
}

/// Runs every block of `blocks` and adds it to `states`. Stops between batches when `stop` is set.
pub fn run_pass<O: Ops>(
    forward: &mut Forward<O>,
    plan: &PassPlan,
    states: &mut PassStates,
    blocks: impl Iterator<Item = Result<Block>>,
    (stop, mut report): (&AtomicBool, impl FnMut(PassProgress)),
) -> Result<()> {
    let mut tokens = states.tokens();
    let mut done = f64::from(plan.blocks) - states.missing(plan.blocks).len() as f64;
    for block in blocks {
        let block = block?;
        let batches = pack(&block.sequences, plan.batch_tokens);
        let mut watch = StatisticsWatch::new(forward, &plan.sites, plan.pool)?;
        let total = block.counts.tokens.max(1);
        let mut inside = 0;
        for batch in &batches {
            if stop.load(Ordering::Relaxed) {
                states.commit()?;
                return Err(Error::Unfinished { what: "stopped by a signal".into() });
            }
            run_batch(forward, batch, &mut watch)?;
            inside += batch.tokens.len() as u64;
            let part = inside as f64 / total as f64;
            report(PassProgress { tokens: tokens + inside, blocks: done + part });
        }
        let state = watch.finish(forward.ops(), block.counts, plan)?;
        tokens += block.counts.tokens;
        done += 1.0;
        states.add(block.index, state)?;
    }
    Ok(())
}

/// Runs one batch past a watch.
pub fn run_batch<O: Ops>(
    forward: &mut Forward<O>,
    batch: &Batch,
    watch: &mut StatisticsWatch<O>,
) -> Result<()> {
    let wanted: BTreeSet<Site> = watch.sites().collect();
    watch.begin(batch);
    let edits = BTreeMap::new();
    forward.run(
        ForwardInput::of(batch),
        &mut SiteWork { wanted: &wanted, edits: &edits, visitor: watch },
    )
}
