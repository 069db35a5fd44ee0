//! One batch of one site into its running statistics. Threads share the columns: each walks all
//! rows in order for its own neurons, so the bits do not depend on the number of threads.

use rayon::prelude::*;

use super::class_sums::ClassSums;
use super::histogram::Histogram;
use super::sample_rows;
use super::simd::{Kernel, dispatch};
use super::top_tokens::TopChunk;
use crate::device::rows::BatchRows;
use crate::device::statistics::{SiteStatistics, StatisticsPlan};

/// Neurons per task: their part of 2,048 rows stays in the second-level cache while each
/// statistic walks it.
pub(crate) const CHUNK: usize = 64;

/// Activations: row `i` is `x[i * stride..][..N]`.
#[derive(Clone, Copy, Debug)]
pub struct Activations<'a> {
    /// All rows.
    pub x: &'a [f32],
    /// Distance between rows, at least N.
    pub stride: usize,
}

/// Some columns of the activations.
#[derive(Clone, Copy)]
pub(crate) struct Columns<'a> {
    pub(crate) all: Activations<'a>,
    pub(crate) first: usize,
    pub(crate) len: usize,
}

impl<'a> Columns<'a> {
    /// These columns of one row.
    #[inline(always)]
    pub(crate) fn row(&self, row: u32) -> &'a [f32] {
        &self.all.x[row as usize * self.all.stride + self.first..][..self.len]
    }

    /// `L` of these columns, from the `at`-th, of one row.
    #[inline(always)]
    pub(crate) fn lanes<const L: usize>(&self, row: u32, at: usize) -> &'a [f32; L] {
        self.all.x[row as usize * self.all.stride + self.first + at..]
            .first_chunk()
            .expect("a row has all columns")
    }
}

/// All statistics of some neighbouring neurons.
struct Chunk<'a> {
    sums: ClassSums<'a>,
    histogram: Option<Histogram<'a>>,
    top: Option<TopChunk<'a, false>>,
    bottom: Option<TopChunk<'a, true>>,
    columns: Columns<'a>,
}

/// The work of one thread: a chunk over all rows of the batch.
struct ChunkUpdate<'a, 'b> {
    chunk: &'b mut Chunk<'a>,
    rows: &'b BatchRows,
}

impl Kernel for ChunkUpdate<'_, '_> {
    #[inline(always)]
    fn run(self) {
        let Chunk { sums, histogram, top, bottom, columns } = self.chunk;
        sums.update(self.rows, columns);
        if let Some(histogram) = histogram {
            histogram.update(self.rows, columns);
        }
        if let Some(top) = top {
            top.update(self.rows, columns);
        }
        if let Some(bottom) = bottom {
            bottom.update(self.rows, columns);
        }
    }
}

/// Adds one batch of a site to its statistics.
///
/// Rows are added one after the other, so cutting the same rows into other batches gives the same
/// bits, as does any number of threads.
///
/// # Panics
/// If the shapes do not belong together.
pub fn update_all(
    plan: &StatisticsPlan,
    statistics: &mut SiteStatistics,
    rows: &BatchRows,
    x: Activations<'_>,
) {
    assert_eq!(rows.groups1(), plan.groups + 1);
    assert!(x.stride >= plan.neurons);
    if rows.is_empty() || plan.neurons == 0 {
        return;
    }
    let last = *rows.source.iter().max().expect("there is a row") as usize;
    assert!(x.x.len() >= last * x.stride + plan.neurons, "a row lies beyond the activations");
    for (group, count) in statistics.rows.iter_mut().enumerate() {
        *count += rows.members(group).len() as u64;
    }
    sample_rows::update(plan, &mut statistics.sample, rows, x);
    chunks(plan, statistics, x)
        .par_iter_mut()
        .for_each(|chunk| dispatch(ChunkUpdate { chunk, rows }));
}

/// Cuts the arrays of the statistics by neurons.
fn chunks<'a>(
    plan: &'a StatisticsPlan,
    statistics: &'a mut SiteStatistics,
    x: Activations<'a>,
) -> Vec<Chunk<'a>> {
    let SiteStatistics { histogram, top, bottom, .. } = statistics;
    let mut histograms = Histogram::split(plan, histogram).into_iter();
    let mut tops = TopChunk::split(top, CHUNK).into_iter();
    let mut bottoms = TopChunk::split(bottom, CHUNK).into_iter();
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
            columns: Columns { all: x, first: i * CHUNK, len: CHUNK.min(plan.neurons - i * CHUNK) },
        })
        .collect()
}
