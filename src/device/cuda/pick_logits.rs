//! pick_logits: the difference of two logits of each row, without the others.
#![expect(unsafe_code, reason = "launches kernels")]

use super::buffer::{Element, Matrix, Tensor, stride};
use super::context::{Context, args};
use super::driver::Ptr;
use super::grid::{by_rows, count};

args! {
    /// See `kernels/pick_logits.cu`.
    struct PickLogitsArgs {
        w: Ptr,
        bias: Ptr,
        ids: Ptr,
        others: Ptr,
        x: Ptr,
        out: Ptr,
        w_stride: u64,
        x_stride: u64,
        out_stride: u64,
        rows: u32,
        cols: u32,
    }
}

/// See [`crate::device::suffix_ops::SuffixOps::pick_logits`].
pub(super) fn pick_logits(
    context: &Context,
    weight: &Matrix,
    (ids, others): (&[u32], &[u32]),
    (x, out): (&Tensor, &mut Tensor),
) {
    let rows = x.rows();
    assert_eq!((out.rows(), out.cols(), out.element()), (rows, 1, Element::F32), "exact numbers");
    assert_eq!(x.cols(), weight.inner);
    assert!(weight.weight.bytes() >= weight.out * stride(weight.inner) * x.element().size());
    assert_eq!([ids.len(), others.len()], [rows; 2]);
    assert!(ids.iter().chain(others).all(|&id| (id as usize) < weight.out), "beyond the logits");
    let args = PickLogitsArgs {
        w: weight.weight.start(),
        bias: weight.bias.as_ref().map_or(Ptr::NULL, |bias| bias.start()),
        ids: context.upload(ids),
        others: context.upload(others),
        x: x.start(),
        out: out.start(),
        w_stride: stride(weight.inner) as u64,
        x_stride: x.stride() as u64,
        out_stride: out.stride() as u64,
        rows: count(rows),
        cols: count(x.cols()),
    };
    // A warp has a whole row.
    let grid = by_rows(rows, 1, 1);
    let name = x.element().pick(["pick_logits_f32", "pick_logits_bf16"]);
    // SAFETY: the answers lie within the weight and its bias, and the shapes are checked above.
    unsafe { context.launch(name, (grid, 0), &args) }
}
