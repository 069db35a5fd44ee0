//! histogram: counts of every neuron per bin in every group (A5 of the accumulators).
//!
//! Sixteen neurons are transposed, so that one neuron's values meet its edges and its counters
//! (B x G1 x 4 bytes, 4.6 KB at 64 bins and 17 classes) in the first-level cache.

use super::simd::{PADDED_EDGES, search_bins};
use super::statistics::{CHUNK, Packed};
use super::waiting_bins::{NO_BIN, WaitingBins, WaitingChunk};
use crate::device::rows::Tile;
use crate::device::statistics::StatisticsPlan;

/// Neurons transposed at a time: one cache line of each row.
const LANES: usize = 16;
/// No bin: the value is not finite.
const NONE: u32 = u32::MAX;

/// Memory of one thread.
pub(crate) struct HistogramScratch {
    /// `[LANES, stride]`.
    values: Vec<f32>,
    /// Rows, and a cache line more: columns a power of two apart would share their places in the
    /// first-level cache.
    stride: usize,
    bins: Vec<u32>,
}

impl HistogramScratch {
    /// For tiles of at most `rows` rows.
    pub(crate) fn new(rows: usize) -> Self {
        let stride = rows + 16;
        Self { values: vec![0.0; LANES * stride], stride, bins: vec![0; rows] }
    }
}

/// The histograms of some neighbouring neurons.
pub(crate) struct Histogram<'a> {
    bins: usize,
    /// `[neurons, B - 1]`.
    edges: &'a [f32],
    /// `[neurons, G1, B]`.
    counts: &'a mut [u32],
    /// Where bins go that are counted later.
    waiting: Option<WaitingChunk<'a>>,
}

impl<'a> Histogram<'a> {
    /// Cuts the counts of a site into chunks of neurons; none without bins.
    pub(crate) fn split(
        plan: &'a StatisticsPlan,
        counts: &'a mut [u32],
        waiting: Option<&'a mut WaitingBins>,
    ) -> Vec<Self> {
        if plan.bins == 0 {
            return Vec::new();
        }
        let mut waiting = waiting.map(|waiting| waiting.chunks(CHUNK));
        let edges = plan.bins - 1;
        counts
            .chunks_mut(CHUNK * (plan.groups + 1) * plan.bins)
            .enumerate()
            .map(|(chunk, counts)| {
                let first = chunk * CHUNK;
                let last = (first + CHUNK).min(plan.neurons);
                Self {
                    bins: plan.bins,
                    edges: &plan.edges[first * edges..last * edges],
                    counts,
                    waiting: waiting.as_mut().and_then(Iterator::next),
                }
            })
            .collect()
    }

    /// Adds a tile of rows.
    #[inline(always)]
    pub(crate) fn update(&mut self, tile: &Tile, x: Packed<'_>, scratch: &mut HistogramScratch) {
        let HistogramScratch { values, stride, bins } = scratch;
        let bins = &mut bins[..x.rows.len()];
        for at in (0..x.len).step_by(LANES) {
            for (r, row) in x.rows.iter().enumerate() {
                let row: &[f32; LANES] = row[at..].first_chunk().expect("chunks have whole lanes");
                for (lane, &value) in row.iter().enumerate() {
                    values[lane * *stride + r] = value;
                }
            }
            for neuron in at..x.len.min(at + LANES) {
                let start = (neuron - at) * *stride;
                let values = &values[start..start + bins.len()];
                let finite = self.find_bins(neuron, values, bins);
                match &mut self.waiting {
                    Some(waiting) => keep(bins, waiting.places(neuron, bins.len())),
                    None => self.count(neuron, bins, tile, finite),
                }
            }
        }
        if let Some(waiting) = &mut self.waiting {
            waiting.advance(bins.len());
        }
    }

    /// The bin of each value of a neuron; false if some are not finite and have none.
    #[inline(always)]
    fn find_bins(&self, neuron: usize, values: &[f32], bins: &mut [u32]) -> bool {
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
        finite
    }

    /// Counts the bins of a tile, in all rows and in their groups.
    ///
    /// A row counts in its first group; all rows then gain what the groups have gained. That saves
    /// one of two increments per value, the dearest part, and is done where the groups' counters
    /// are few beside the rows.
    #[inline(always)]
    fn count(&mut self, neuron: usize, bins: &[u32], tile: &Tile, finite: bool) {
        let (size, width) = (tile.groups1() * self.bins, self.bins);
        let counts = &mut self.counts[neuron * size..(neuron + 1) * size];
        if !finite || size > 4 * bins.len() {
            return count_each(counts, width, bins, tile);
        }
        let (all, groups) = counts.split_at_mut(width);
        subtract_columns(all, groups);
        for (&bin, &group) in bins.iter().zip(&tile.first_groups) {
            let count = &mut counts[group as usize * width + bin as usize];
            *count = count.wrapping_add(1);
        }
        let (all, groups) = counts.split_at_mut(width);
        add_columns(all, groups);
        // Groups of a row after its first belong to other label columns.
        for &(row, group) in &tile.other_groups {
            counts[group as usize * width + bins[row as usize] as usize] += 1;
        }
    }
}

/// Bins as bytes, of which there are enough where bins wait.
#[inline(always)]
fn keep(bins: &[u32], out: &mut [u8]) {
    for (out, &bin) in out.iter_mut().zip(bins) {
        *out = bin.min(u32::from(NO_BIN)) as u8;
    }
}

/// Counts one by one, passing over values without a bin.
#[inline(never)]
fn count_each(counts: &mut [u32], width: usize, bins: &[u32], tile: &Tile) {
    for group in 0..tile.groups1() {
        let counts = &mut counts[group * width..(group + 1) * width];
        for &row in tile.members(group) {
            let bin = bins[row as usize];
            if bin != NONE {
                counts[bin as usize] += 1;
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
