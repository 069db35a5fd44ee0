//! shift_neurons: a neuron's change times its column of the down projection.
#![expect(unsafe_code, reason = "launches kernels")]

use super::buffer::{Matrix, Tensor, stride};
use super::context::{Context, args};
use super::driver::Ptr;
use super::grid::{count, packs};

args! {
    /// See `kernels/shift_neurons.cu`.
    struct ShiftNeuronsArgs {
        down: Ptr,
        act: Ptr,
        tokens: Ptr,
        neurons: Ptr,
        scale: Ptr,
        shift: Ptr,
        out: Ptr,
        down_stride: u64,
        act_stride: u64,
        out_stride: u64,
        rows: u32,
        cols: u32,
    }
}

/// Threads of a block, each with a pack of columns of so many rows.
const THREADS: usize = 128;
const ROWS: usize = 32;

/// See [`crate::device::suffix_ops::SuffixOps::shift_neurons`].
pub(super) fn shift_neurons(
    context: &Context,
    down: &Matrix,
    (tokens, neurons): (&[u32], &[u32]),
    (act, scale, shift): (&Tensor, &[f32], &[f32]),
    out: &mut Tensor,
) {
    let (rows, cols) = (out.rows(), out.cols());
    assert_eq!((down.out, down.inner, act.element()), (cols, act.cols(), out.element()));
    assert!(down.weight.bytes() >= cols * stride(down.inner) * out.element().size());
    assert_eq!([tokens.len(), neurons.len(), scale.len(), shift.len()], [rows; 4]);
    assert!(tokens.iter().all(|&token| (token as usize) < act.rows()), "a token beyond the batch");
    assert!(neurons.iter().all(|&neuron| (neuron as usize) < down.inner), "no such neuron");
    let args = ShiftNeuronsArgs {
        down: down.weight.start(),
        act: act.start(),
        tokens: context.upload(tokens),
        neurons: context.upload(neurons),
        scale: context.upload(scale),
        shift: context.upload(shift),
        out: out.start(),
        down_stride: stride(down.inner) as u64,
        act_stride: act.stride() as u64,
        out_stride: out.stride() as u64,
        rows: count(rows),
        cols: count(cols),
    };
    let across = packs(out.element(), cols).div_ceil(THREADS);
    let grid = [count(rows.div_ceil(ROWS)), count(across), 1];
    let name = out.element().pick(["shift_neurons_f32", "shift_neurons_bf16"]);
    // SAFETY: tokens and neurons lie within `act` and `down`, whose shapes are checked above; there is
    // a number of each list for each row.
    unsafe { context.launch(name, (grid, 0), &args) }
}
