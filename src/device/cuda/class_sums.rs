//! class_sums: sums, sums of squares, range and firing counts.
#![expect(unsafe_code, reason = "launches a kernel")]

use super::arena::Buffer;
use super::buffer::{Element, Tensor};
use super::context::{Context, args};
use super::driver::Ptr;
use super::grid::count;
use super::statistics::Rows;
use crate::device::statistics::{SiteStatistics, StatisticsPlan};
use crate::error::Result;

args! {
    /// See `kernels/class_sums.cu`.
    struct ClassSumsArgs {
        x: Ptr,
        shift: Ptr,
        source: Ptr,
        item_starts: Ptr,
        items: Ptr,
        members: Ptr,
        sum: Ptr,
        square: Ptr,
        min: Ptr,
        max: Ptr,
        firing: Ptr,
        non_finite: Ptr,
        stride: u32,
        neurons: u32,
        rows: u32,
        tiles: u32,
        stages: u32,
        unused: u32,
    }
}

/// Neurons of a block.
const NEURONS: u32 = 32;
/// Bytes of a tile: 1024 rows of bf16, 512 of f32.
const TILE_BYTES: u32 = 64 << 10;

/// The running values of a site, `[G1, N]` each.
#[derive(Debug)]
pub(super) struct ClassSums {
    shift: Buffer,
    sum: Buffer,
    square: Buffer,
    min: Buffer,
    max: Buffer,
    firing: Buffer,
    non_finite: Buffer,
    neurons: u32,
}

impl ClassSums {
    pub(super) fn new(context: &Context, plan: &StatisticsPlan) -> Result<Self> {
        let cells = (plan.groups + 1) * plan.neurons;
        let filled = |bytes: usize, word: u32| {
            let buffer = context.buffer(cells * bytes)?;
            context.fill_words(&buffer, word)?;
            Ok(buffer)
        };
        Ok(Self {
            shift: context.buffer_of(&plan.shift)?,
            sum: filled(8, 0)?,
            square: filled(8, 0)?,
            min: filled(4, f32::INFINITY.to_bits())?,
            max: filled(4, f32::NEG_INFINITY.to_bits())?,
            firing: filled(8, 0)?,
            non_finite: filled(4, 0)?,
            neurons: count(plan.neurons),
        })
    }

    /// Adds a batch.
    pub(super) fn update(&mut self, context: &Context, rows: &Rows<'_>, x: &Tensor) {
        let blocks = self.neurons.div_ceil(NEURONS);
        // Where there are more blocks than processors, others work while one waits for its tile.
        let alone = blocks <= context.processors() && 2 * TILE_BYTES <= context.shared_memory();
        let stages = if alone { 2 } else { 1 };
        let args = ClassSumsArgs {
            x: x.start(),
            shift: self.shift.start(),
            source: rows.at(rows.lists.source),
            item_starts: rows.at(rows.lists.item_starts),
            items: rows.at(rows.lists.items),
            members: rows.at(rows.lists.members),
            sum: self.sum.start(),
            square: self.square.start(),
            min: self.min.start(),
            max: self.max.start(),
            firing: self.firing.start(),
            non_finite: self.non_finite.start(),
            stride: rows.stride,
            neurons: self.neurons,
            rows: rows.count,
            tiles: rows.lists.tiles,
            stages,
            unused: 0,
        };
        let kernel = x.element().pick(["class_sums_f32", "class_sums_bf16"]);
        // SAFETY: the running values have G1 N places, groups of the rows are below G1 and rows of
        // the activations within `x` (`Statistics::update`).
        unsafe { context.launch(kernel, ([blocks, 1, 1], stages * TILE_BYTES), &args) }
    }

    /// Brings the values to the host.
    pub(super) fn take(&self, context: &Context, out: &mut SiteStatistics) -> Result<()> {
        context.download(&self.sum, &mut out.sum)?;
        context.download(&self.square, &mut out.square)?;
        context.download(&self.min, &mut out.min)?;
        context.download(&self.max, &mut out.max)?;
        context.download(&self.firing, &mut out.firing)?;
        context.download(&self.non_finite, &mut out.non_finite)
    }
}

/// Whether tiles have half as many rows as on the CPU.
pub(super) fn half_tiles(element: Element) -> bool {
    element == Element::F32
}
