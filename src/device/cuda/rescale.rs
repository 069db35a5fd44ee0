//! rescale: columns shifted and scaled in place.
#![expect(unsafe_code, reason = "launches kernels")]

use super::buffer::{Tensor, Vector};
use super::context::{Context, args};
use super::driver::Ptr;
use super::grid::{count, packs};

args! {
    /// See `kernels/rescale.cu`.
    struct RescaleArgs {
        shift: Ptr,
        scale: Ptr,
        x: Ptr,
        stride: u64,
        rows: u32,
        cols: u32,
    }
}

/// Threads of a block, a pack of columns each, and the rows they walk down.
const THREADS: usize = 128;
const ROWS: usize = 32;

/// See [`crate::device::moment_ops::MomentOps::rescale`].
pub(super) fn rescale(context: &Context, (shift, scale): (&Vector, &Vector), x: &mut Tensor) {
    assert_eq!((shift.len, scale.len), (x.cols(), x.cols()), "one of each for a column");
    let args = RescaleArgs {
        shift: shift.values.start(),
        scale: scale.values.start(),
        x: x.start(),
        stride: x.stride() as u64,
        rows: count(x.rows()),
        cols: count(x.cols()),
    };
    let across = packs(x.element(), x.cols()).div_ceil(THREADS);
    let grid = [count(x.rows().div_ceil(ROWS)), count(across), 1];
    // SAFETY: the tensor holds its rows, the vectors a value for each column.
    unsafe { context.launch(x.element().pick(["rescale_f32", "rescale_bf16"]), (grid, 0), &args) }
}
