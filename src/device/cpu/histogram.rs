//! histogram: counts of every neuron per bin in every group (A5 of the accumulators).
//!
//! Sixteen neurons are transposed, so that one neuron's values meet its edges and its counters
//! (B x G1 x 4 bytes, 4.6 KB at 64 bins and 17 classes) in the first-level cache.

use super::simd::{PADDED_EDGES, search_bins};
use super::statistics::{CHUNK, Columns};
use crate::device::rows::BatchRows;
use crate::device::statistics::StatisticsPlan;

/// Neurons transposed at a time: one cache line of each row.
const LANES: usize = 16;
/// Rows at a time, so that the transposed values stay in the second-level cache.
const TILE: usize = 2048;
/// No bin: the value is not finite.
const NONE: u32 = u32::MAX;

/// The histograms of some neighbouring neurons.
pub(crate) struct Histogram<'a> {
    bins: usize,
    /// `[neurons, B - 1]`.
    edges: &'a [f32],
    /// `[neurons, G1, B]`.
    counts: &'a mut [u32],
}

impl<'a> Histogram<'a> {
    /// Cuts the counts of a site into chunks of neurons; none without bins.
    pub(crate) fn split(plan: &'a StatisticsPlan, counts: &'a mut [u32]) -> Vec<Self> {
        if plan.bins == 0 {
            return Vec::new();
        }
        let edges = plan.bins - 1;
        counts
            .chunks_mut(CHUNK * (plan.groups + 1) * plan.bins)
            .enumerate()
            .map(|(chunk, counts)| {
                let first = chunk * CHUNK;
                let last = (first + CHUNK).min(plan.neurons);
                Self { bins: plan.bins, edges: &plan.edges[first * edges..last * edges], counts }
            })
            .collect()
    }

    /// Adds a batch.
    #[inline(always)]
    pub(crate) fn update(&mut self, rows: &BatchRows, x: &Columns<'_>) {
        let tile = TILE.min(rows.len());
        let mut values = vec![0.0; LANES * tile];
        let mut bins = vec![0; tile];
        for start in (0..rows.len()).step_by(TILE) {
            let end = (start + TILE).min(rows.len());
            for at in (0..x.len).step_by(LANES) {
                let lanes = LANES.min(x.len - at);
                for (r, &row) in rows.source[start..end].iter().enumerate() {
                    for (lane, &value) in x.row(row)[at..at + lanes].iter().enumerate() {
                        values[lane * tile + r] = value;
                    }
                }
                for lane in 0..lanes {
                    let values = &values[lane * tile..lane * tile + end - start];
                    self.find_bins(at + lane, values, &mut bins[..end - start]);
                    self.count(at + lane, &bins[..end - start], rows, start);
                }
            }
        }
    }

    /// The bin of each value of a neuron.
    #[inline(always)]
    fn find_bins(&self, neuron: usize, values: &[f32], bins: &mut [u32]) {
        let edges = &self.edges[neuron * (self.bins - 1)..(neuron + 1) * (self.bins - 1)];
        if edges.len() < PADDED_EDGES {
            let mut padded = [f32::INFINITY; PADDED_EDGES];
            padded[..edges.len()].copy_from_slice(edges);
            search_bins(values, &padded, bins);
        } else {
            for (bin, &value) in bins.iter_mut().zip(values) {
                *bin = u32::try_from(edges.partition_point(|&edge| value > edge))
                    .expect("bins fit u32");
            }
        }
        let mut finite = true;
        for value in values {
            finite &= value.is_finite();
        }
        if !finite {
            for (bin, value) in bins.iter_mut().zip(values) {
                *bin = if value.is_finite() { *bin } else { NONE };
            }
        }
    }

    /// Counts the bins of the rows from the `start`-th on, in all rows and in their groups.
    ///
    /// A row counts in its first group; all rows then gain what the groups have gained. That saves
    /// one of two increments per value, the dearest part, and is done where the groups' counters
    /// are few beside the rows.
    #[inline(always)]
    fn count(&mut self, neuron: usize, bins: &[u32], rows: &BatchRows, start: usize) {
        let size = rows.groups1() * self.bins;
        let (all, groups) = self.counts[neuron * size..(neuron + 1) * size].split_at_mut(self.bins);
        let by_first = groups.len() <= 2 * bins.len();
        if by_first {
            subtract_columns(all, groups);
        }
        for (r, &bin) in bins.iter().enumerate() {
            if bin == NONE {
                continue;
            }
            let bin = bin as usize;
            let mut of_row = rows.groups_of(start + r).iter();
            match of_row.next() {
                Some(&first) => groups[first as usize * all.len() + bin] += 1,
                None => all[bin] = all[bin].wrapping_add(1),
            }
            if !by_first && rows.groups_of(start + r).len() > 0 {
                all[bin] += 1;
            }
        }
        if by_first {
            add_columns(all, groups);
        }
        // Second and later groups of a row: other label columns.
        for (r, &bin) in bins.iter().enumerate() {
            if bin != NONE {
                for &group in rows.groups_of(start + r).iter().skip(1) {
                    groups[group as usize * all.len() + bin as usize] += 1;
                }
            }
        }
    }
}

/// Takes every row of `groups` off `all`, modulo 2^32.
#[inline(always)]
fn subtract_columns(all: &mut [u32], groups: &[u32]) {
    for group in groups.chunks_exact(all.len()) {
        for (all, &count) in all.iter_mut().zip(group) {
            *all = all.wrapping_sub(count);
        }
    }
}

/// Adds every row of `groups` to `all`, modulo 2^32.
#[inline(always)]
fn add_columns(all: &mut [u32], groups: &[u32]) {
    for group in groups.chunks_exact(all.len()) {
        for (all, &count) in all.iter_mut().zip(group) {
            *all = all.wrapping_add(count);
        }
    }
}
