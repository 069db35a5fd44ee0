//! norm: layer norm and root-mean-square norm, by row or by head.
#![expect(unsafe_code, reason = "launches kernels")]

use super::buffer::{Element, Tensor, Vector};
use super::context::{Context, args};
use super::driver::Ptr;
use super::grid::{THREADS, WARP, count, packs};
use crate::device::ops::{HeadRange, NormWeights};
use crate::model::NormKind;

args! {
    /// See `kernels/norm.cu`.
    struct NormArgs {
        x: Ptr,
        y: Ptr,
        weight: Ptr,
        bias: Ptr,
        out: Ptr,
        stride: u64,
        rows: u32,
        heads: u32,
        first: u32,
        cols: u32,
        lane_bits: u32,
        layer: u32,
        eps: f32,
        offset: f32,
    }
}

/// Columns that the lanes of a warp hold in registers.
pub(super) const NARROW: usize = 1024;

/// Lanes of a narrow run: as few as hold a pack each, so that narrow heads leave none idle.
pub(super) fn lanes(element: Element, width: usize) -> usize {
    packs(element, width).next_power_of_two().clamp(8, WARP)
}

/// Each row of `x` normed into `out`.
pub(super) fn norm(context: &Context, norm: &NormWeights<Vector>, x: &Tensor, out: &mut Tensor) {
    launch(context, norm, whole(x), (x, None, out));
}

/// `out = norm(x + y)`.
pub(super) fn add_norm(
    context: &Context,
    norm: &NormWeights<Vector>,
    (x, y): (&Tensor, &Tensor),
    out: &mut Tensor,
) {
    launch(context, norm, whole(x), (x, Some(y), out));
}

/// Each head of each row normed in place.
pub(super) fn head_norm(
    context: &Context,
    norm: &NormWeights<Vector>,
    heads: HeadRange,
    x: &mut Tensor,
) {
    launch(context, norm, heads, (x, None, x));
}

/// A row as one head.
fn whole(x: &Tensor) -> HeadRange {
    HeadRange { first: 0, heads: 1, width: x.cols() }
}

fn launch(
    context: &Context,
    norm: &NormWeights<Vector>,
    range: HeadRange,
    (x, y, out): (&Tensor, Option<&Tensor>, &Tensor),
) {
    for other in [Some(x), y].into_iter().flatten() {
        assert_eq!((other.rows(), other.cols()), (out.rows(), out.cols()));
    }
    assert_eq!(norm.weight.len, range.width);
    assert!(norm.bias.as_ref().is_none_or(|bias| bias.len == range.width));
    assert!(range.first + range.heads * range.width <= x.cols());
    let runs = x.rows() * range.heads;
    let lanes = lanes(x.element(), range.width);
    let args = NormArgs {
        x: x.start(),
        y: y.map_or(Ptr::NULL, Tensor::start),
        weight: norm.weight.values.start(),
        bias: norm.bias.as_ref().map_or(Ptr::NULL, |bias| bias.values.start()),
        out: out.start(),
        stride: x.stride() as u64,
        rows: count(x.rows()),
        heads: count(range.heads),
        first: count(range.first),
        cols: count(range.width),
        lane_bits: lanes.ilog2(),
        layer: u32::from(norm.spec.kind == NormKind::Layer),
        eps: norm.spec.eps,
        offset: if norm.spec.plus_one { 1.0 } else { 0.0 },
    };
    let (names, blocks) = if range.width <= NARROW {
        (["norm_narrow_f32", "norm_narrow_bf16"], runs.div_ceil(THREADS / lanes))
    } else {
        (["norm_wide_f32", "norm_wide_bf16"], runs)
    };
    // SAFETY: the runs lie within the rows, all tensors have the same shape, the weights a run's
    // width; all of them outlive the batch.
    unsafe { context.launch(x.element().pick(names), ([count(blocks), 1, 1], 0), &args) }
}
