//! pool: runs of tokens put together into rows.
#![expect(unsafe_code, reason = "launches kernels")]

use super::buffer::Tensor;
use super::context::{Context, args};
use super::driver::Ptr;
use super::grid::{by_rows, count, packs};
use crate::device::ops::{Pooling, RowRuns};

args! {
    /// See `kernels/pool.cu`.
    struct PoolArgs {
        x: Ptr,
        first: Ptr,
        len: Ptr,
        out: Ptr,
        runs: u32,
        cols: u32,
        stride: u32,
        how: u32,
    }
}

/// See [`crate::device::ops::Ops::pool`].
pub(super) fn pool(
    context: &Context,
    how: Pooling,
    runs: RowRuns<'_>,
    (x, out): (&Tensor, &mut Tensor),
) {
    assert_eq!((out.rows(), out.cols()), (runs.first.len(), x.cols()));
    assert_eq!(runs.first.len(), runs.len.len());
    let inside = |(first, len): (&u32, &u32)| *len > 0 && (first + len) as usize <= x.rows();
    assert!(runs.first.iter().zip(runs.len).all(inside), "a run is empty or beyond the rows");
    let args = PoolArgs {
        x: x.start(),
        first: context.upload(runs.first),
        len: context.upload(runs.len),
        out: out.start(),
        runs: count(out.rows()),
        cols: count(x.cols()),
        stride: count(x.stride()),
        how: how as u32,
    };
    let grid = by_rows(out.rows(), packs(x.element(), x.cols()), 1);
    // SAFETY: the runs lie within `x` and there is a row for each; both outlive the batch.
    unsafe { context.launch(x.element().pick(["pool_f32", "pool_bf16"]), (grid, 0), &args) }
}
