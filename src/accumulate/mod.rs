//! Statistics that are filled batch by batch and merged block by block: their laws and their
//! state on disk. Memory is fixed by the run file, never by the length of the corpus.

pub mod calibrate;
pub mod codec;
pub mod effects;
pub mod gram;
pub mod gram_summary;
pub mod list;
pub mod merge;
pub mod run;
pub mod site;
pub mod summary;
pub mod tally;

use crate::corpus::block::Counts;
use crate::error::Result;

/// Something whose parts are put together in the order of the corpus.
pub trait Merge: Sized {
    /// Absorbs the part that follows this one.
    fn merge(&mut self, later: Self) -> Result<()>;
}

/// What one block, or an aligned run of blocks, leaves: it merges, and waits on disk as bytes.
pub trait State: Merge + Send + Sync {
    /// What it takes to read the bytes again.
    type Plan: Send + Sync;
    /// What was read and what was lost.
    fn counts(&self) -> Counts;
    /// Appends the state as bytes: little-endian, the same for the same state.
    fn encode(&self, out: &mut Vec<u8>);
    /// Reads what [`Self::encode`] wrote for the same plan. Damaged bytes are refused, and never
    /// believed before they are checked.
    fn decode(plan: &Self::Plan, bytes: &[u8]) -> Result<Self>;
}

/// A statistic that is filled batch by batch and merged block by block.
///
/// Laws, checked for every implementation in `tests/laws/`:
/// - **split**: filling from `a ++ b` equals filling from `a`, then merging one filled from `b`
///   (counts, ranges, histograms, lists and samples to the bit, sums to rounding);
/// - **empty**: merging a fresh accumulator changes nothing;
/// - **order**: the engine merges along a fixed tree, so equal input gives equal bits.
pub trait Accumulator: Merge {
    /// One batch of what it reads.
    type Input<'a>;
    /// What a method reads once every block is in.
    type Summary;
    /// Adds one batch.
    fn update(&mut self, batch: Self::Input<'_>);
    /// Reads the statistic out; the state is spent.
    fn finish(self) -> Self::Summary;
}
