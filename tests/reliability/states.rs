//! States of blocks for tests that merge them, and what their merge must be: the tree by its definition.
//! Oracle: a recursion over the blocks, without engine, files or order.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use electrode::accumulate::run::RunStatistics;
use electrode::accumulate::{Merge as _, State as _};
use electrode::corpus::block::Counts;
use electrode::device::statistics::StatisticsPlan;
use electrode::engine::segment::RunId;
use electrode::id::{Site, SiteKind};

use crate::data::{Random, data, plan};

pub(crate) const RUN: RunId = [7; 32];
/// Rows of a block.
const ROWS: usize = 5;

pub(crate) type Plan = Vec<(Site, Arc<StatisticsPlan>)>;

/// What is collected: one site of few neurons, with everything that can be.
pub(crate) fn small_plan() -> Plan {
    vec![(Site::of_layer(1, SiteKind::MlpAct), Arc::new(plan(4, 4)))]
}

/// The same of more neurons.
pub(crate) fn medium_plan() -> Plan {
    vec![(Site::of_layer(1, SiteKind::MlpAct), Arc::new(plan(24, 6)))]
}

/// The states of so many blocks, from a seed.
pub(crate) fn blocks(plan: &Plan, seed: u64, count: usize) -> Vec<RunStatistics> {
    let rows = data(seed, count * ROWS, plan[0].1.neurons);
    let block = |at: usize| {
        let mut state = RunStatistics::new(plan);
        state.counts = Counts { documents: 1, rows: ROWS as u64, tokens: 7, ..Counts::default() };
        let site = &mut state.sites[0];
        let own = Arc::clone(&site.plan);
        rows.fill(&own, &mut site.statistics, at * ROWS..(at + 1) * ROWS, 3);
        state
    };
    (0..count).map(block).collect()
}

/// The bytes of a state.
pub(crate) fn bytes(state: &RunStatistics) -> Vec<u8> {
    let mut out = Vec::new();
    state.encode(&mut out);
    out
}

/// The merge of blocks by its definition: the largest power of two of them as two halves each, which takes
/// in what the rest gives.
pub(crate) fn merged(blocks: &[RunStatistics]) -> RunStatistics {
    if let [only] = blocks {
        return only.clone();
    }
    // Half of them where their number is a power of two.
    let first = blocks.len().next_power_of_two() / 2;
    let mut state = merged(&blocks[..first]);
    state.merge(merged(&blocks[first..])).expect("of one plan");
    state
}

/// The segment files of a folder.
pub(crate) fn segments(folder: &Path) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = crate::bench::snapshot(folder)
        .into_keys()
        .filter(|path| path.extension().is_some_and(|suffix| suffix == "seg"))
        .collect();
    found.sort();
    found
}

/// An order by chance.
pub(crate) fn shuffled<T>(mut items: Vec<T>, random: &mut Random) -> Vec<T> {
    random.shuffle(&mut items);
    items
}
