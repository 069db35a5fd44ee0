//! residual: sums and copies of whole tensors.
#![expect(unsafe_code, reason = "launches kernels")]

use super::buffer::Tensor;
use super::context::{Context, args};
use super::driver::Ptr;
use super::grid::by_elements;

args! {
    /// See `kernels/residual.cu`.
    struct ResidualArgs {
        y: Ptr,
        x: Ptr,
        elements: u64,
    }
}

/// `x += y`.
pub(super) fn add(context: &Context, x: &mut Tensor, y: &Tensor) {
    assert_eq!((x.rows(), x.cols()), (y.rows(), y.cols()));
    let (elements, grid) = by_elements(x);
    let args = ResidualArgs { y: y.start(), x: x.start(), elements };
    // SAFETY: both tensors have as many elements, and outlive the batch.
    unsafe { context.launch(x.element().pick(["add_f32", "add_bf16"]), (grid, 0), &args) }
}

/// `out = x`.
pub(super) fn copy(context: &Context, x: &Tensor, out: &mut Tensor) {
    assert_eq!((x.rows(), x.cols()), (out.rows(), out.cols()));
    if x.rows() > 0 {
        context.copy(x.buffer(), out.buffer(), x.bytes());
    }
}
