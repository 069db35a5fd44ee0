//! gated_act: nonlinearities, products and caps, element by element.
#![expect(unsafe_code, reason = "launches kernels")]

use super::buffer::Tensor;
use super::context::{Context, args};
use super::driver::Ptr;
use super::grid::by_elements;
use crate::model::Activation;

args! {
    /// See `kernels/gated_act.cu`.
    struct GatedActArgs {
        x: Ptr,
        y: Ptr,
        out: Ptr,
        elements: u64,
        activation: u32,
        cap: f32,
    }
}

/// `out = act(x)`.
pub(super) fn activate(context: &Context, activation: Activation, x: &Tensor, out: &mut Tensor) {
    let names = ["activate_f32", "activate_bf16"];
    launch(context, names, (x, None, out), |args| args.activation = activation as u32);
}

/// `out = a * b`.
pub(super) fn multiply(context: &Context, (a, b): (&Tensor, &Tensor), out: &mut Tensor) {
    launch(context, ["multiply_f32", "multiply_bf16"], (a, Some(b), out), |_| ());
}

/// `x = a * x`.
pub(super) fn scale_by(context: &Context, a: &Tensor, x: &mut Tensor) {
    let x = &*x;
    launch(context, ["multiply_f32", "multiply_bf16"], (a, Some(x), x), |_| ());
}

/// `x = cap * tanh(x / cap)`.
pub(super) fn softcap(context: &Context, cap: f32, x: &mut Tensor) {
    launch(context, ["softcap_f32", "softcap_bf16"], (x, None, x), |args| args.cap = cap);
}

fn launch(
    context: &Context,
    names: [&'static str; 2],
    (x, y, out): (&Tensor, Option<&Tensor>, &Tensor),
    settings: impl FnOnce(&mut GatedActArgs),
) {
    for other in [Some(x), y].into_iter().flatten() {
        assert_eq!((other.rows(), other.cols()), (out.rows(), out.cols()));
    }
    let (elements, grid) = by_elements(out);
    let y = y.map_or(Ptr::NULL, Tensor::start);
    let (x, start) = (x.start(), out.start());
    let mut args = GatedActArgs { x, y, out: start, elements, activation: 0, cap: 1.0 };
    settings(&mut args);
    // SAFETY: all tensors have as many elements, and outlive the batch.
    unsafe { context.launch(out.element().pick(names), (grid, 0), &args) }
}
