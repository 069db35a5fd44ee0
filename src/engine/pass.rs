//! One pass over the corpus: blocks in, merged statistics out. Each block's statistics start from
//! nothing, are put away in the attempt's segment, and merge along the fixed tree.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::merge::{Node, Tree};
use super::segment::{RunId, SegmentWriter};
use super::segment_reader::{Loaded, load_folder};
use super::watch::StatisticsWatch;
use crate::accumulate::run::RunStatistics;
use crate::accumulate::site::RunPlan;
use crate::config::Pool;
use crate::corpus::batch::{Batch, pack};
use crate::corpus::block::Block;
use crate::device::forward::{Forward, ForwardInput, SiteWork};
use crate::device::ops::Ops;
use crate::device::statistics::StatisticsPlan;
use crate::error::{Error, Result};
use crate::id::Site;

/// At most this long between two states on disk.
const COMMIT_INTERVAL: Duration = Duration::from_secs(20);

/// What is collected, over which blocks, and where the states go.
pub struct PassPlan {
    /// Sites and their statistics, in forward order.
    pub sites: Vec<(Site, Arc<StatisticsPlan>)>,
    /// How tokens become rows.
    pub pool: Pool,
    /// Tokens of a device call.
    pub batch_tokens: usize,
    /// Blocks of the corpus plan.
    pub blocks: u32,
    /// Largest share of non-finite activations.
    pub max_nan: f64,
}

/// The states of one pass on disk: what earlier attempts left, and this attempt's segment.
pub struct PassStates {
    folder: PathBuf,
    run_id: RunId,
    tree: Tree<RunStatistics>,
    writer: Option<SegmentWriter>,
    unsaved: Vec<Node>,
    last_commit: Instant,
}

impl PassStates {
    /// Loads what earlier attempts of the same run finished.
    pub fn load(folder: &Path, run_id: RunId, plan: &RunPlan) -> Result<Self> {
        let Loaded { nodes, damage } = load_folder(folder, run_id)?;
        for damage in &damage {
            tracing::warn!(?damage, "a stored state is unusable; its blocks are done again");
        }
        let mut tree = Tree::new();
        for stored in nodes {
            let state = RunStatistics::decode(plan, &stored.payload(run_id)?)?;
            tree.insert(stored.node, state)?;
        }
        Ok(Self {
            folder: folder.to_path_buf(),
            run_id,
            tree,
            writer: None,
            unsaved: Vec::new(),
            last_commit: Instant::now(),
        })
    }

    /// Blocks that no state covers yet, ascending.
    pub fn missing(&self, blocks: u32) -> Vec<u32> {
        (0..blocks).filter(|block| !self.tree.contains(*block)).collect()
    }

    /// Tokens of the blocks that are done.
    pub fn tokens(&self) -> u64 {
        self.tree.nodes().map(|(_, state)| state.counts.tokens).sum()
    }

    /// Takes a finished block in; writes to disk when it is time.
    fn add(&mut self, block: u32, state: RunStatistics) -> Result<()> {
        let node = self.tree.insert(Node::block(block), state)?;
        self.unsaved.retain(|other| !node.covers(*other));
        self.unsaved.push(node);
        if self.last_commit.elapsed() >= COMMIT_INTERVAL {
            self.commit()?;
        }
        Ok(())
    }

    /// Puts every state not yet on disk there.
    pub fn commit(&mut self) -> Result<()> {
        if self.unsaved.is_empty() {
            return Ok(());
        }
        let mut writer = match self.writer.take() {
            Some(writer) => writer,
            None => SegmentWriter::create(&self.folder, self.run_id)?,
        };
        let mut payload = Vec::new();
        for node in self.unsaved.drain(..) {
            let state = self.tree.get(node).expect("an unsaved node is in the tree");
            payload.clear();
            state.encode(&mut payload);
            writer.append(node, &state.counts, &payload)?;
        }
        writer.sync()?;
        self.writer = Some(if writer.should_rotate() { writer.rotate()? } else { writer });
        self.last_commit = Instant::now();
        Ok(())
    }

    /// The merged statistics, once every block is in.
    pub fn finish(mut self, blocks: u32) -> Result<RunStatistics> {
        self.commit()?;
        let missing = self.tree.missing(blocks);
        if !missing.is_empty() {
            return Err(Error::Unfinished { what: format!("blocks {missing:?} are missing") });
        }
        self.tree.finish(blocks)?.ok_or_else(|| Error::Contradiction {
            what: "a pass over no blocks has nothing to merge".into(),
        })
    }
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
        let mut watch = StatisticsWatch::new(forward.ops(), &plan.sites, plan.pool, plan.batch_tokens)?;
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
    let input = ForwardInput {
        tokens: &batch.tokens,
        starts: &batch.starts,
        token_types: None,
        positions: None,
    };
    let wanted: BTreeSet<Site> = watch.sites().collect();
    watch.begin(batch);
    let edits = BTreeMap::new();
    forward.run(input, &mut SiteWork { wanted: &wanted, edits: &edits, visitor: watch })
}
