//! norm_grad: gradients through layer norm and root-mean-square norm, by row or by head.
#![expect(unsafe_code, reason = "launches kernels")]

use super::buffer::{Tensor, Vector};
use super::context::{Context, args};
use super::driver::Ptr;
use super::grid::{THREADS, count};
use super::norm::{NARROW, lanes};
use crate::device::ops::{HeadRange, NormWeights};
use crate::model::NormKind;

args! {
    /// See `kernels/norm_grad.cu`.
    struct NormGradArgs {
        x: Ptr,
        weight: Ptr,
        g: Ptr,
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

/// The gradient of each head of `x` normed becomes that of the head; a row is one head of all its
/// columns.
pub(super) fn norm_grad(
    context: &Context,
    norm: &NormWeights<Vector>,
    range: HeadRange,
    (x, g): (&Tensor, &mut Tensor),
) {
    assert_eq!((x.rows(), x.cols(), x.element()), (g.rows(), g.cols(), g.element()));
    assert_eq!(norm.weight.len, range.width);
    assert!(range.first + range.heads * range.width <= x.cols());
    let runs = x.rows() * range.heads;
    let lanes = lanes(x.element(), range.width);
    let args = NormGradArgs {
        x: x.start(),
        weight: norm.weight.values.start(),
        g: g.start(),
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
        (["norm_grad_narrow_f32", "norm_grad_narrow_bf16"], runs.div_ceil(THREADS / lanes))
    } else {
        (["norm_grad_wide_f32", "norm_grad_wide_bf16"], runs)
    };
    // SAFETY: the runs lie within the rows, both tensors have the same shape, the weight a run's
    // width; all of them outlive the batch.
    unsafe { context.launch(x.element().pick(names), ([count(blocks), 1, 1], 0), &args) }
}
