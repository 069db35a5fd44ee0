//! rope: rotates pairs (j, j + r) of each head's first 2 r columns by its position's angles, or back.
#![expect(unsafe_code, reason = "launches kernels")]

use super::buffer::{Table, Tensor};
use super::context::{Context, args};
use super::driver::Ptr;
use super::grid::{THREADS, count, packs};
use crate::device::ops::HeadRange;

args! {
    /// See `kernels/rope.cu`.
    struct RopeArgs {
        angles: Ptr,
        positions: Ptr,
        x: Ptr,
        stride: u64,
        rows: u32,
        first: u32,
        heads: u32,
        width: u32,
        pairs: u32,
        packs: u32,
        sense: f32,
        spare: u32,
    }
}

/// Heads of a thread.
const HEADS: usize = 4;

/// See [`crate::device::ops::Ops::rope`].
pub(super) fn rope(
    context: &Context,
    angles: &Table,
    positions: &[u32],
    (range, x): (HeadRange, &mut Tensor),
) {
    turn(context, angles, positions, (range, 1.0, x));
}

/// See [`crate::device::gradient_ops::GradientOps::rope_grad`].
pub(super) fn rope_grad(
    context: &Context,
    angles: &Table,
    positions: &[u32],
    (range, g): (HeadRange, &mut Tensor),
) {
    turn(context, angles, positions, (range, -1.0, g));
}

fn turn(
    context: &Context,
    angles: &Table,
    positions: &[u32],
    (range, sense, x): (HeadRange, f32, &Tensor),
) {
    let pairs = angles.cols / 2;
    assert_eq!(positions.len(), x.rows());
    assert!(positions.iter().all(|row| (*row as usize) < angles.rows), "a position without angles");
    assert!(2 * pairs <= range.width && range.first + range.heads * range.width <= x.cols());
    let packs = packs(x.element(), pairs);
    let args = RopeArgs {
        angles: angles.values.start(),
        positions: context.upload(positions),
        x: x.start(),
        stride: x.stride() as u64,
        rows: count(x.rows()),
        first: count(range.first),
        heads: count(range.heads),
        width: count(range.width),
        pairs: count(pairs),
        packs: count(packs),
        sense,
        spare: 0,
    };
    let threads = count(x.rows() * packs) as usize;
    let grid = [count(threads.div_ceil(THREADS)), count(range.heads.div_ceil(HEADS)), 1];
    let name = x.element().pick(["rope_f32", "rope_bf16"]);
    // SAFETY: the heads lie within a row and the positions within the table; both outlive the batch.
    unsafe { context.launch(name, (grid, 0), &args) }
}
