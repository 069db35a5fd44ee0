//! One batch of one site into its running statistics. Threads share the columns: each walks all
//! rows in order for its own neurons, so the bits do not depend on the number of threads.

use std::cell::RefCell;
use std::ops::Range;
use std::sync::Arc;

use rayon::prelude::*;

use super::class_sums::ClassSums;
use super::dispatch::{Kernel, Level, dispatch, level};
use super::histogram::{Histogram, HistogramScratch};
use super::sample_rows;
use super::top_tokens::TopChunk;
use super::waiting_bins::WaitingBins;
use crate::device::rows::{BatchRows, TILE, Tile};
use crate::device::statistics::{SiteStatistics, StatisticsPlan};

/// Neurons per task.
pub(crate) const CHUNK: usize = 64;
/// Activations: row `i` is `x[i * stride..][..N]`.
#[derive(Clone, Copy, Debug)]
pub struct Activations<'a> {
    /// All rows.
    pub x: &'a [f32],
    /// Distance between rows, at least N.
    pub stride: usize,
}

/// A chunk of a tile, gathered into neighbouring memory: rows of the activations lie whole pages
/// apart and would push each other out of the caches.
#[derive(Clone, Copy)]
pub(crate) struct Packed<'a> {
    /// Rows of the tile; columns from `len` on mean nothing.
    pub(crate) rows: &'a [[f32; CHUNK]],
    /// Columns of the chunk.
    pub(crate) len: usize,
}

/// Memory of one thread for the work on one chunk.
struct Scratch {
    packed: Vec<[f32; CHUNK]>,
    histogram: HistogramScratch,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::new(Scratch {
        packed: vec![[0.0; CHUNK]; TILE],
        histogram: HistogramScratch::new(TILE),
    });
}

/// The statistics of a site while rows are added to them.
pub struct Running {
    plan: Arc<StatisticsPlan>,
    statistics: SiteStatistics,
    waiting: Option<WaitingBins>,
}

impl Running {
    /// Of no row.
    pub fn new(plan: &Arc<StatisticsPlan>) -> Self {
        let waiting = WaitingBins::new(plan);
        Self { plan: Arc::clone(plan), statistics: SiteStatistics::new(plan), waiting }
    }

    /// Adds one batch. Rows are added one after the other, so cutting the same rows into other
    /// batches gives the same bits, as does any number of threads.
    ///
    /// # Panics
    /// If the shapes do not belong together.
    pub fn update(&mut self, rows: &BatchRows, x: Activations<'_>) {
        self.update_at(level(), rows, x);
    }

    /// [`Self::update`] with a given instruction set.
    fn update_at(&mut self, with: Level, rows: &BatchRows, x: Activations<'_>) {
        let Self { plan, statistics, waiting } = self;
        let Some(waiting) = waiting else {
            return update_at(with, plan, statistics, (rows, x));
        };
        if !begin(plan, statistics, rows, x) {
            return;
        }
        let mut tiles = 0..rows.tiles.len();
        while !tiles.is_empty() {
            let fit = tiles.start..tiles.start + waiting.fit(rows, tiles.clone());
            if fit.is_empty() {
                waiting.count(plan, &mut statistics.histogram);
                continue;
            }
            update_tiles(with, &mut chunks(plan, statistics, Some(waiting)), &fit, (rows, x));
            waiting.push(rows, fit.clone());
            tiles.start = fit.end;
        }
    }

    /// All of it, with nothing left to count.
    pub fn finish(mut self) -> SiteStatistics {
        if let Some(waiting) = &mut self.waiting {
            waiting.count(&self.plan, &mut self.statistics.histogram);
        }
        self.statistics
    }
}

/// All statistics of some neighbouring neurons.
struct Chunk<'a> {
    sums: ClassSums<'a>,
    histogram: Option<Histogram<'a>>,
    top: Option<TopChunk<'a, false>>,
    bottom: Option<TopChunk<'a, true>>,
    /// First of its columns.
    first: usize,
    len: usize,
}

/// The work of one thread: a chunk over some tiles of the batch.
struct ChunkUpdate<'a, 'b> {
    chunk: &'b mut Chunk<'a>,
    rows: &'b BatchRows,
    tiles: &'b [Tile],
    x: Activations<'b>,
    scratch: &'b mut Scratch,
}

impl Kernel for ChunkUpdate<'_, '_> {
    #[inline(always)]
    fn run(self) {
        let Chunk { sums, histogram, top, bottom, first, len } = self.chunk;
        for tile in self.tiles {
            let source = &self.rows.source[tile.rows.clone()];
            for (packed, &row) in self.scratch.packed.iter_mut().zip(source) {
                let start = row as usize * self.x.stride + *first;
                match self.x.x[start..].first_chunk() {
                    // A fixed length is copied without a call.
                    Some(row) if *len == CHUNK => *packed = *row,
                    _ => packed[..*len].copy_from_slice(&self.x.x[start..start + *len]),
                }
            }
            let x = Packed { rows: &self.scratch.packed[..source.len()], len: *len };
            sums.update(tile, x);
            if let Some(histogram) = histogram {
                histogram.update(tile, x, &mut self.scratch.histogram);
            }
            let ids = &self.rows.ids[tile.rows.clone()];
            if let Some(top) = top {
                top.update(ids, self.rows.ascending, x);
            }
            if let Some(bottom) = bottom {
                bottom.update(ids, self.rows.ascending, x);
            }
        }
    }
}

/// Adds one batch to the finished statistics of a site: [`Running::update`] where nothing waits.
///
/// # Panics
/// If the shapes do not belong together.
pub fn update_all(
    plan: &StatisticsPlan,
    statistics: &mut SiteStatistics,
    rows: &BatchRows,
    x: Activations<'_>,
) {
    update_at(level(), plan, statistics, (rows, x));
}

/// [`update_all`] with a given instruction set.
fn update_at(
    with: Level,
    plan: &StatisticsPlan,
    statistics: &mut SiteStatistics,
    (rows, x): (&BatchRows, Activations<'_>),
) {
    if begin(plan, statistics, rows, x) {
        let chunks = &mut chunks(plan, statistics, None);
        update_tiles(with, chunks, &(0..rows.tiles.len()), (rows, x));
    }
}

/// Looks at the shapes and adds what is not a neuron's own; false if there is nothing more to add.
fn begin(
    plan: &StatisticsPlan,
    statistics: &mut SiteStatistics,
    rows: &BatchRows,
    x: Activations<'_>,
) -> bool {
    assert_eq!(rows.counts.len(), plan.groups + 1);
    assert!(x.stride >= plan.neurons);
    if rows.is_empty() || plan.neurons == 0 {
        return false;
    }
    let last = *rows.source.iter().max().expect("there is a row") as usize;
    assert!(x.x.len() >= last * x.stride + plan.neurons, "a row lies beyond the activations");
    for (count, add) in statistics.rows.iter_mut().zip(&rows.counts) {
        *count += add;
    }
    sample_rows::update(plan, &mut statistics.sample, rows, x);
    true
}

/// Adds some tiles to every chunk.
fn update_tiles(
    with: Level,
    chunks: &mut [Chunk<'_>],
    tiles: &Range<usize>,
    (rows, x): (&BatchRows, Activations<'_>),
) {
    chunks.par_iter_mut().for_each(|chunk| {
        let tiles = &rows.tiles[tiles.clone()];
        // Nothing below asks for other tasks, so no thread borrows its scratch twice.
        SCRATCH.with_borrow_mut(|scratch| {
            dispatch(with, ChunkUpdate { chunk, rows, tiles, x, scratch });
        });
    });
}

/// Cuts the arrays of the statistics by neurons.
fn chunks<'a>(
    plan: &'a StatisticsPlan,
    statistics: &'a mut SiteStatistics,
    waiting: Option<&'a mut WaitingBins>,
) -> Vec<Chunk<'a>> {
    let mut histograms = Histogram::split(plan, &mut statistics.histogram, waiting).into_iter();
    let mut tops = TopChunk::split(&mut statistics.top, CHUNK).into_iter();
    let mut bottoms = TopChunk::split(&mut statistics.bottom, CHUNK).into_iter();
    let sums = ClassSums::split(
        plan,
        (&mut statistics.sum, &mut statistics.square),
        (&mut statistics.min, &mut statistics.max),
        (&mut statistics.firing, &mut statistics.non_finite),
    );
    sums.into_iter()
        .enumerate()
        .map(|(i, sums)| Chunk {
            sums,
            histogram: histograms.next(),
            top: tops.next(),
            bottom: bottoms.next(),
            first: i * CHUNK,
            len: CHUNK.min(plan.neurons - i * CHUNK),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    //! Oracle: the baseline version, which tests/kernels hold to the definitions where it is the
    //! only one; every instruction set must give its bits.
    use super::*;
    use crate::corpus::batch::Batch;
    use crate::id::RowId;

    #[test]
    fn every_instruction_set_gives_the_same_bits() {
        let (rows, neurons, bins) = (1500_usize, 83, 64);
        let value = |i: usize| ((i * 2_654_435_761) % 10_007) as f32 / 500.0 - 10.0;
        let mut x: Vec<f32> = (0..rows * neurons).map(value).collect();
        x[neurons * 700 + 3] = f32::NAN;
        let batch = Batch {
            row_ids: (0..rows as u64).map(RowId).collect(),
            groups: (0..rows as u32).map(|row| row % 5).collect(),
            group_starts: (0..=rows as u32).collect(),
            ..Batch::default()
        };
        let plan = StatisticsPlan {
            neurons,
            groups: 5,
            bins,
            edges: (0..neurons).flat_map(|_| (1..bins).map(|b| b as f32 / 4.0 - 8.0)).collect(),
            shift: vec![0.1; neurons],
            top: 7,
            bottom: 3,
            sample: 4,
            sample_seed: 0,
        };
        let rows = BatchRows::new(&batch, None, 5);
        let plan = Arc::new(plan);
        let at = |level| {
            let mut running = Running::new(&plan);
            running.update_at(level, &rows, Activations { x: &x, stride: neurons });
            running.finish()
        };
        let want = at(Level::Portable);
        assert_eq!(want.non_finite.iter().sum::<u32>(), 2);
        assert!(want.histogram.iter().sum::<u32>() > 0);
        for level in Level::all() {
            assert!(at(level) == want, "{level:?}");
        }
    }
}
