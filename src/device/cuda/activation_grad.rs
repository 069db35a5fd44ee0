//! activation_grad: gradients through nonlinearities and caps, element by element.
#![expect(unsafe_code, reason = "launches kernels")]

use super::buffer::Tensor;
use super::context::{Context, args};
use super::driver::Ptr;
use super::grid::by_elements;
use crate::model::Activation;

args! {
    /// See `kernels/activation_grad.cu`.
    struct ActivationGradArgs {
        x: Ptr,
        g: Ptr,
        elements: u64,
        activation: u32,
        cap: f32,
    }
}

/// `g = g * act'(x)`.
pub(super) fn activation_grad(
    context: &Context,
    activation: Activation,
    x: &Tensor,
    g: &mut Tensor,
) {
    let names = ["activation_grad_f32", "activation_grad_bf16"];
    launch(context, names, (x, g), (activation as u32, 1.0));
}

/// `g = g * (1 - (y / cap)^2)`.
pub(super) fn softcap_grad(context: &Context, cap: f32, y: &Tensor, g: &mut Tensor) {
    launch(context, ["softcap_grad_f32", "softcap_grad_bf16"], (y, g), (0, cap));
}

fn launch(
    context: &Context,
    names: [&'static str; 2],
    (x, g): (&Tensor, &Tensor),
    (activation, cap): (u32, f32),
) {
    assert_eq!((x.rows(), x.cols(), x.element()), (g.rows(), g.cols(), g.element()));
    let (elements, grid) = by_elements(g);
    let args = ActivationGradArgs { x: x.start(), g: g.start(), elements, activation, cap };
    // SAFETY: both tensors have as many elements, and outlive the batch.
    unsafe { context.launch(g.element().pick(names), (grid, 0), &args) }
}
