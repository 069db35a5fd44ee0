//! transpose: a weight `[in, out]` of a weight `[out, in]`.
#![expect(unsafe_code, reason = "launches kernels")]

use std::sync::Arc;

use super::buffer::{Element, Matrix, stride};
use super::context::{Context, args};
use super::driver::Ptr;
use super::grid::count;
use crate::error::Result;

args! {
    /// See `kernels/transpose.cu`.
    struct TransposeArgs {
        x: Ptr,
        out: Ptr,
        x_stride: u64,
        out_stride: u64,
        rows: u32,
        cols: u32,
    }
}

/// Side of the square that a block turns.
const SIDE: usize = 32;

/// See [`crate::device::gradient_ops::GradientOps::transposed`].
pub(super) fn transposed(context: &Context, element: Element, weight: &Matrix) -> Result<Matrix> {
    let (rows, cols) = (weight.out, weight.inner);
    let bytes = |rows, cols| rows * stride(cols) * element.size();
    assert!(weight.weight.bytes() >= bytes(rows, cols), "a weight of another type");
    let out = context.buffer(bytes(cols, rows).next_multiple_of(16))?;
    let args = TransposeArgs {
        x: weight.weight.start(),
        out: out.start(),
        x_stride: stride(cols) as u64,
        out_stride: stride(rows) as u64,
        rows: count(rows),
        cols: count(cols),
    };
    let grid = [count(cols.div_ceil(SIDE)), count(stride(rows).div_ceil(SIDE)), 1];
    // SAFETY: both buffers hold the rows with their strides, and are queued for on one stream.
    unsafe {
        context.launch(element.pick(["transpose_f32", "transpose_bf16"]), (grid, 0), &args);
    }
    context.check()?;
    Ok(Matrix { weight: Arc::new(out), out: cols, inner: rows, bias: None })
}
