//! scatter: rows added to chosen rows of a tensor.
#![expect(unsafe_code, reason = "launches kernels")]

use super::buffer::Tensor;
use super::context::{Context, args};
use super::driver::Ptr;
use super::grid::{by_rows, count, packs};

args! {
    /// See `kernels/scatter.cu`.
    struct ScatterArgs {
        rows: Ptr,
        g: Ptr,
        out: Ptr,
        stride: u64,
        count: u32,
        cols: u32,
    }
}

/// Packs of a lane.
const AHEAD: usize = 4;

/// See [`crate::device::gradient_ops::GradientOps::scatter`].
pub(super) fn scatter(context: &Context, rows: &[u32], g: &Tensor, out: &mut Tensor) {
    assert_eq!((rows.len(), out.cols()), (g.rows(), g.cols()));
    assert_eq!(g.element(), out.element());
    let mut once = vec![false; out.rows()];
    for &row in rows {
        assert!((row as usize) < out.rows(), "a row beyond the tensor's");
        assert!(!std::mem::replace(&mut once[row as usize], true), "row {row} is listed twice");
    }
    let args = ScatterArgs {
        rows: context.upload(rows),
        g: g.start(),
        out: out.start(),
        stride: out.stride() as u64,
        count: count(rows.len()),
        cols: count(out.cols()),
    };
    let grid = by_rows(rows.len(), packs(out.element(), out.cols()), AHEAD);
    let name = out.element().pick(["scatter_f32", "scatter_bf16"]);
    // SAFETY: the rows lie within `out` and none is there twice; both tensors outlive the batch.
    unsafe { context.launch(name, (grid, 0), &args) }
}
