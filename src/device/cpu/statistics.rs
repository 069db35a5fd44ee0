//! One batch of one site into its running statistics. Threads share the columns: each walks all
//! rows in order for its own neurons, so the bits do not depend on the number of threads.

use rayon::prelude::*;

use super::class_sums::ClassSums;
use super::histogram::Histogram;
use super::sample_rows;
use super::simd::{Kernel, dispatch};
use super::top_tokens::TopChunk;
use crate::corpus::batch::Batch;
use crate::device::statistics::{SiteStatistics, StatisticsPlan};
use crate::id::RowId;

/// Neurons per task: their part of 2,048 rows stays in the second-level cache while each
/// statistic walks it.
pub(crate) const CHUNK: usize = 64;

/// Who the rows of a batch are, and the rows of each group. Made once per batch, read by all its
/// sites.
#[derive(Clone, Debug)]
pub struct BatchRows<'a> {
    /// Who each row is, `[R]`.
    pub(crate) ids: &'a [RowId],
    /// Row of the activations that each row is, `[R]`.
    pub(crate) source: Vec<u32>,
    /// Where each row's groups start, `[R + 1]`.
    pub(crate) group_starts: &'a [u32],
    /// Label groups, row by row.
    pub(crate) groups: &'a [u32],
    /// Where the members of each group start, `[G1 + 1]`; group 0 is all rows.
    member_starts: Vec<usize>,
    /// Rows of the activations, group by group, in row order.
    members: Vec<u32>,
    /// Rows come in ascending order of their ids.
    pub(crate) ascending: bool,
}

impl<'a> BatchRows<'a> {
    /// Rows of a batch; `source` names the row of the activations that each one is (the identity
    /// if `None`: the activations have been pooled to rows).
    ///
    /// # Panics
    /// If the lists do not belong together: a batch is made by this program alone.
    pub fn new(
        ids: &'a [RowId],
        source: Option<&[u32]>,
        group_starts: &'a [u32],
        groups: &'a [u32],
        group_count: usize,
    ) -> Self {
        assert_eq!(group_starts.len(), ids.len() + 1);
        assert_eq!(group_starts[ids.len()] as usize, groups.len());
        let source = match source {
            Some(source) => source.to_vec(),
            None => (0..ids.len()).map(|r| u32::try_from(r).expect("rows fit u32")).collect(),
        };
        assert_eq!(source.len(), ids.len());
        // A counting sort of (row, group) pairs by group: stable, so members stay in row order.
        let mut member_starts = vec![0; group_count + 2];
        member_starts[1] = ids.len();
        for &group in groups {
            member_starts[group as usize + 2] += 1;
        }
        for g in 1..member_starts.len() {
            member_starts[g] += member_starts[g - 1];
        }
        let mut members = source.clone();
        members.resize(ids.len() + groups.len(), 0);
        let mut next = member_starts.clone();
        for (r, &row) in source.iter().enumerate() {
            for &group in &groups[group_starts[r] as usize..group_starts[r + 1] as usize] {
                members[next[group as usize + 1]] = row;
                next[group as usize + 1] += 1;
            }
        }
        let ascending = ids.is_sorted_by(|a, b| a < b);
        Self { ids, source, group_starts, groups, member_starts, members, ascending }
    }

    /// Rows of a batch whose activations are per token, with words represented by one of theirs:
    /// `source` holds that token for each row.
    pub fn of_batch(batch: &'a Batch, source: Option<&[u32]>, group_count: usize) -> Self {
        Self::new(&batch.row_ids, source, &batch.group_starts, &batch.groups, group_count)
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// Number of groups, that of all rows included.
    pub(crate) fn groups1(&self) -> usize {
        self.member_starts.len() - 1
    }

    /// Rows of the activations that belong to a group (0 is all rows), in row order.
    #[inline(always)]
    pub(crate) fn members(&self, group: usize) -> &[u32] {
        &self.members[self.member_starts[group]..self.member_starts[group + 1]]
    }

    /// Label groups of a row.
    #[inline(always)]
    pub(crate) fn groups_of(&self, row: usize) -> &[u32] {
        &self.groups[self.group_starts[row] as usize..self.group_starts[row + 1] as usize]
    }
}

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
    rows: &'b BatchRows<'a>,
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
    rows: &BatchRows<'_>,
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
