//! scatter: rows added to, or put in the place of, chosen rows of a tensor.
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
    launch(context, ["scatter_f32", "scatter_bf16"], rows, (g, out));
}

/// See [`crate::device::suffix_ops::SuffixOps::put_rows`].
pub(super) fn put_rows(context: &Context, rows: &[u32], x: &Tensor, out: &mut Tensor) {
    launch(context, ["put_rows_f32", "put_rows_bf16"], rows, (x, out));
}

/// That rows lie within a tensor of so many, none twice.
pub(super) fn assert_once(rows: &[u32], end: usize) {
    let mut once = vec![false; end];
    for &row in rows {
        assert!((row as usize) < end, "row {row} is beyond the tensor's");
        assert!(!std::mem::replace(&mut once[row as usize], true), "row {row} is listed twice");
    }
}

fn launch(context: &Context, names: [&'static str; 2], rows: &[u32], (g, out): (&Tensor, &Tensor)) {
    assert_eq!((rows.len(), out.cols()), (g.rows(), g.cols()));
    assert_eq!(g.element(), out.element());
    assert_once(rows, out.rows());
    let args = ScatterArgs {
        rows: context.upload(rows),
        g: g.start(),
        out: out.start(),
        stride: out.stride() as u64,
        count: count(rows.len()),
        cols: count(out.cols()),
    };
    let grid = by_rows(rows.len(), packs(out.element(), out.cols()), AHEAD);
    // SAFETY: the rows lie within `out` and none is there twice; both tensors outlive the batch.
    unsafe { context.launch(out.element().pick(names), (grid, 0), &args) }
}
