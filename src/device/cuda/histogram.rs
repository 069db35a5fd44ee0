//! histogram: counts per bin.
#![expect(unsafe_code, reason = "launches kernels")]

use super::arena::Buffer;
use super::buffer::Tensor;
use super::context::{Context, args};
use super::driver::Ptr;
use super::grid::count;
use super::statistics::Rows;
use crate::device::statistics::{SiteStatistics, StatisticsPlan};
use crate::error::Result;

args! {
    /// See `kernels/histogram.cu`.
    struct HistogramArgs {
        x: Ptr,
        edges: Ptr,
        source: Ptr,
        first_groups: Ptr,
        other_rows: Ptr,
        other_groups: Ptr,
        counts: Ptr,
        stride: u32,
        neurons: u32,
        rows: u32,
        others: u32,
        groups: u32,
        bins: u32,
        half: u32,
        width: u32,
        shared: u32,
        unused: u32,
    }
}

args! {
    /// See `kernels/histogram.cu`.
    struct HistogramOrderArgs { counts: Ptr, out: Ptr, cells: u64, neurons: u32, width: u32 }
}

/// Neurons of a block, at most.
const WIDEST: u32 = 32;
/// Blocks that a processor has threads for.
const RESIDENT: u32 = 4;

/// How a block of the kernel keeps its counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Layout {
    /// Neurons of a block.
    width: u32,
    /// Dynamic shared memory; 0 with the counts in global memory.
    bytes: u32,
}

impl Layout {
    /// As many neurons as have room; edges are filled up to the steps of a search.
    fn of(groups: u32, bins: u32, limit: u32) -> Self {
        // Edges, counts, and one place for values without a bin.
        let words = u64::from(2 * first_step(bins)) + u64::from(groups) * u64::from(bins);
        let fits = |width: &u32| words * u64::from(*width) * 4 <= u64::from(limit);
        match [32, 16, 8, 4, 2, 1].into_iter().find(fits) {
            Some(width) => {
                let bytes = u32::try_from(words * u64::from(width) * 4).expect("below the limit");
                Self { width, bytes }
            }
            None => Self { width: WIDEST, bytes: 0 },
        }
    }
}

/// The first step of a search for a bin.
fn first_step(bins: u32) -> u32 {
    (bins.next_power_of_two() / 2).max(1)
}

/// The counts of a site.
#[derive(Debug)]
pub(super) struct Histogram {
    /// `[N, B - 1]`.
    edges: Buffer,
    /// `[ceil(N / width), G1, B, width]`.
    counts: Buffer,
    layout: Layout,
    neurons: u32,
    groups: u32,
    bins: u32,
}

impl Histogram {
    /// None without bins.
    pub(super) fn new(context: &Context, plan: &StatisticsPlan) -> Result<Option<Self>> {
        if plan.bins == 0 {
            return Ok(None);
        }
        let (neurons, groups, bins) =
            (count(plan.neurons), count(plan.groups + 1), count(plan.bins));
        let layout = Layout::of(groups, bins, context.shared_memory());
        // Kernels number the counts of a block in 32 bits.
        let cells = (groups as usize) * (bins as usize) * layout.width as usize;
        assert!(u32::try_from(cells).is_ok(), "{groups} groups of {bins} bins are too many");
        let counts = context.buffer(neurons.div_ceil(layout.width) as usize * cells * 4)?;
        context.fill_words(&counts, 0)?;
        let edges = context.buffer_of(&plan.edges)?;
        Ok(Some(Self { edges, counts, layout, neurons, groups, bins }))
    }

    /// Adds a batch.
    pub(super) fn update(&mut self, context: &Context, rows: &Rows<'_>, x: &Tensor) {
        let Layout { width, bytes } = self.layout;
        let args = HistogramArgs {
            x: x.start(),
            edges: self.edges.start(),
            source: rows.at(rows.lists.source),
            first_groups: rows.at(rows.lists.first_groups),
            other_rows: rows.at(rows.lists.other_rows),
            other_groups: rows.at(rows.lists.other_groups),
            counts: self.counts.start(),
            stride: rows.stride,
            neurons: self.neurons,
            rows: rows.count,
            others: rows.lists.others,
            groups: self.groups,
            bins: self.bins,
            half: first_step(self.bins),
            width,
            shared: u32::from(bytes > 0),
            unused: 0,
        };
        let blocks = self.neurons.div_ceil(width);
        let resident = context.shared_memory().checked_div(bytes).unwrap_or(RESIDENT).min(RESIDENT);
        let slabs = slabs((blocks, context.processors() * resident), self.groups * self.bins, rows);
        let kernel = x.element().pick(["histogram_f32", "histogram_bf16"]);
        // SAFETY: every block of neurons has G1 B `width` counts, groups of the rows are below G1
        // and rows of the activations within `x` (`Statistics::update`).
        unsafe { context.launch(kernel, ([blocks, slabs, 1], bytes), &args) }
    }

    /// Brings the counts to the host.
    pub(super) fn take(&self, context: &Context, out: &mut SiteStatistics) -> Result<()> {
        let ordered = context.buffer(out.histogram.len() * 4)?;
        let cells = u64::from(self.groups) * u64::from(self.bins);
        let args = HistogramOrderArgs {
            counts: self.counts.start(),
            out: ordered.start(),
            cells,
            neurons: self.neurons,
            width: self.layout.width,
        };
        let squares = u32::try_from(cells.div_ceil(u64::from(WIDEST)).min(64)).expect("few");
        let grid = [self.neurons.div_ceil(WIDEST), squares, 1];
        // SAFETY: `ordered` has N G1 B places, as the statistics on the host.
        unsafe { context.launch("histogram_order", (grid, 0), &args) }
        context.download(&ordered, &mut out.histogram)
    }
}

/// Into how many slabs the rows are cut, so that the blocks fill the `slots` of the card, with
/// regard to what every slab costs at its end: about half a row for each of the `cells`.
fn slabs((blocks, slots): (u32, u32), cells: u32, rows: &Rows<'_>) -> u32 {
    let cost = |slabs: &u32| {
        let rounds = u64::from((blocks * slabs).div_ceil(slots));
        rounds * (u64::from(rows.count / slabs) + u64::from(cells / 2))
    };
    (1..=8).min_by_key(cost).expect("eight")
}

#[cfg(test)]
mod tests {
    //! Oracle: by hand.
    use super::*;

    #[test]
    fn as_many_neurons_as_have_room() {
        let limit = 227 << 10;
        assert_eq!(Layout::of(18, 64, limit), Layout { width: 32, bytes: (64 + 1152) * 128 });
        assert_eq!(Layout::of(131, 64, limit).width, 4);
        assert_eq!(Layout::of(2000, 64, limit), Layout { width: 32, bytes: 0 });
        assert_eq!((first_step(1), first_step(2), first_step(64), first_step(100)), (1, 1, 32, 64));
    }
}
