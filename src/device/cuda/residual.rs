//! residual: sums and copies of whole tensors.
#![expect(unsafe_code, reason = "launches a kernel")]

use super::buffer::Tensor;
use super::context::{Context, args};
use super::driver::Ptr;

args! {
    /// See `kernels/residual.cu`.
    struct ResidualArgs { y: Ptr, x: Ptr, packs: u64 }
}

/// Bytes of a pack.
const PACK: usize = 16;
/// Threads of a block, and blocks of a processor that fill it.
const BLOCKS_PER_PROCESSOR: usize = 8;

/// `x += y`.
pub(super) fn add(context: &Context, x: &mut Tensor, y: &Tensor) {
    assert_eq!((x.rows(), x.cols()), (y.rows(), y.cols()));
    // A single column has no gaps, and may end inside a pack: its buffer is then longer than that.
    let packs = x.bytes().div_ceil(PACK);
    let args = ResidualArgs { y: y.start(), x: x.start(), packs: packs as u64 };
    let most = context.processors() as usize * BLOCKS_PER_PROCESSOR;
    let blocks = u32::try_from(packs.div_ceil(256).min(most)).expect("few blocks");
    let kernel = x.element().pick(["add_f32", "add_bf16"]);
    // SAFETY: both buffers hold as many packs (tensors have room for whole ones).
    unsafe { context.launch(kernel, ([blocks, 1, 1], 0), &args) }
}

/// `out = x`.
pub(super) fn copy(context: &Context, x: &Tensor, out: &mut Tensor) {
    assert_eq!((x.rows(), x.cols()), (out.rows(), out.cols()));
    context.copy(x.buffer(), out.buffer(), x.bytes());
}
