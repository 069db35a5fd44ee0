//! One pass over blocks: of the corpus or of questions in, one merged state out. A worker thread for
//! each device takes blocks from one queue; each block's state starts from nothing, is put away in the
//! attempt's segment, and merges along the fixed tree. Which device did a block, and when, changes no
//! bit.

use std::collections::BTreeMap;
use std::panic::resume_unwind;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::fleet::{Device, Fleet};
use super::share::{Told, Underway, share_out};
use super::states::States;
use super::watch::StatisticsWatch;
use crate::accumulate::State;
use crate::accumulate::run::RunStatistics;
use crate::config::Pool;
use crate::corpus::batch::{Batch, pack};
use crate::corpus::block::Block;
use crate::device::forward::{Forward, ForwardInput, SiteWork};
use crate::device::ops::Ops;
use crate::device::statistics::StatisticsPlan;
use crate::error::{Error, Result};
use crate::id::Site;

/// What a pass does with its blocks, on a device with a program `P`.
pub trait BlockWork<P>: Sync {
    /// What is taken from the queue.
    type Block: Send;
    /// What becomes of it.
    type State: State;

    /// Blocks of the whole pass, those of earlier attempts included.
    fn blocks(&self) -> u32;
    /// The number of a block.
    fn index(&self, block: &Self::Block) -> u32;
    /// One block, from nothing to its state. It may be begun more than once, and must give the same bits
    /// whatever the size of the batches that the program takes.
    fn run(
        &self,
        program: &mut P,
        block: &Self::Block,
        underway: &Underway<'_>,
    ) -> Result<Self::State>;
}

/// How far a pass is: tokens done, and blocks done of blocks planned.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PassProgress {
    /// Tokens run so far, earlier attempts included.
    pub tokens: u64,
    /// Blocks done, the running ones in part.
    pub blocks: f64,
}

/// Runs every block of `blocks` and adds its state to `states`. Stops between batches when `stop` is
/// set. However the pass ends, the blocks that are done by then stay done.
pub fn run_pass<O: Device, P: Send, W: BlockWork<P>>(
    fleet: &mut Fleet<'_, O, P>,
    work: &W,
    states: &mut States<W::State>,
    blocks: impl Iterator<Item = Result<W::Block>> + Send,
    (stop, mut report): (&AtomicBool, impl FnMut(PassProgress)),
) -> Result<()> {
    states.keep(fleet.len());
    let mut tokens = states.tokens();
    let mut done = f64::from(work.blocks()) - states.missing(work.blocks()).len() as f64;
    let mut running = vec![(0, 0.0); fleet.len()];
    let run = |program: &mut P, block: &W::Block, underway: &Underway<'_>| {
        let index = work.index(block);
        let _span =
            tracing::info_span!("block", block = index, device = underway.device()).entered();
        tracing::debug!("block taken");
        Ok((index, work.run(program, block, underway)?))
    };
    let ended = share_out(fleet, (blocks, stop), run, |place, told| {
        running[place] = (0, 0.0);
        match told {
            Told::Part(inside, part) => running[place] = (inside, part),
            Told::Done((index, state)) => {
                tokens += state.counts().tokens;
                done += 1.0;
                states.add(index, state)?;
            }
        }
        let (inside, parts) =
            running.iter().fold((0, 0.0), |sum, part| (sum.0 + part.0, sum.1 + part.1));
        report(PassProgress { tokens: tokens + inside, blocks: done + parts });
        Ok(())
    });
    // A disk that has just refused a state is not asked again.
    let disk = matches!(ended, Ok(Err(Error::Io { .. } | Error::Contradiction { .. })));
    let commit = if disk { Ok(()) } else { states.commit() };
    ended.unwrap_or_else(|panic| resume_unwind(panic)).and(commit)
}

/// What is collected of a corpus, and over which blocks.
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

impl<O: Ops> BlockWork<Forward<O>> for PassPlan {
    type Block = Block;
    type State = RunStatistics;

    fn blocks(&self) -> u32 {
        self.blocks
    }

    fn index(&self, block: &Block) -> u32 {
        block.index
    }

    /// Rows are added one after the other, so that the size of the batches changes no bit.
    fn run(
        &self,
        forward: &mut Forward<O>,
        block: &Block,
        underway: &Underway<'_>,
    ) -> Result<RunStatistics> {
        let budget = self.batch_tokens.min(forward.limits().tokens);
        let mut watch = StatisticsWatch::new(forward, &self.sites, self.pool)?;
        let total = block.counts.tokens.max(1) as f64;
        let mut inside = 0;
        for batch in &pack(&block.sequences, budget) {
            underway.go_on()?;
            run_batch(forward, batch, &mut watch)?;
            inside += batch.tokens.len() as u64;
            underway.so_far(inside, inside as f64 / total);
        }
        watch.finish(forward.ops(), block.counts, self)
    }
}

/// Runs one batch past a watch.
pub fn run_batch<O: Ops>(
    forward: &mut Forward<O>,
    batch: &Batch,
    watch: &mut StatisticsWatch<O>,
) -> Result<()> {
    let wanted = watch.sites();
    watch.begin(batch);
    let edits = BTreeMap::new();
    forward.run(
        ForwardInput::of(batch),
        &mut SiteWork { wanted: &wanted, edits: &edits, visitor: watch },
    )
}
