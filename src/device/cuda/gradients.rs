//! A GPU's half of the backward program.

use super::buffer::{Element, Matrix, Table, Tensor, Vector};
use super::{
    CudaDevice, activation_grad, attention_grad, gated_act, norm_grad, rope, scatter, score,
    transpose,
};
use crate::device::gradient_ops::{Against, GradientOps, Metric};
use crate::device::ops::{AttentionArgs, HeadRange, NormWeights};
use crate::error::Result;
use crate::model::Activation;

impl GradientOps for CudaDevice {
    fn transposed(&self, weight: &Matrix) -> Result<Matrix> {
        transpose::transposed(&self.context, self.element, weight)
    }

    fn exact_tensor(&self, rows: usize, cols: usize) -> Result<Tensor> {
        Tensor::new(&self.context, Element::F32, (rows, cols))
    }

    fn norm_grad(&self, norm: &NormWeights<Vector>, x: &Tensor, g: &mut Tensor) {
        let whole = HeadRange { first: 0, heads: 1, width: x.cols() };
        norm_grad::norm_grad(&self.context, norm, whole, (x, g));
    }

    fn head_norm_grad(
        &self,
        norm: &NormWeights<Vector>,
        heads: HeadRange,
        x: &Tensor,
        g: &mut Tensor,
    ) {
        norm_grad::norm_grad(&self.context, norm, heads, (x, g));
    }

    fn rope_grad(&self, angles: &Table, positions: &[u32], heads: HeadRange, g: &mut Tensor) {
        rope::rope_grad(&self.context, angles, positions, (heads, g));
    }

    fn attention_grad(
        &self,
        args: &AttentionArgs<'_, Vector>,
        qkv: &Tensor,
        g: &Tensor,
        out: &mut Tensor,
    ) {
        attention_grad::attention_grad(&self.context, args, (qkv, None, g), out);
    }

    fn activation_grad(&self, activation: Activation, x: &Tensor, g: &mut Tensor) {
        activation_grad::activation_grad(&self.context, activation, x, g);
    }

    fn softcap_grad(&self, cap: f32, y: &Tensor, g: &mut Tensor) {
        activation_grad::softcap_grad(&self.context, cap, y, g);
    }

    fn scale_by(&self, a: &Tensor, x: &mut Tensor) {
        gated_act::scale_by(&self.context, a, x);
    }

    fn scatter(&self, rows: &[u32], g: &Tensor, out: &mut Tensor) {
        scatter::scatter(&self.context, rows, g, out);
    }

    fn score(&self, against: &Against<'_, Tensor>, logits: &Tensor, out: (usize, &mut Tensor)) {
        score::score(&self.context, against, logits, out);
    }

    fn score_grad(
        &self,
        how: (Metric, &[f32]),
        against: &Against<'_, Tensor>,
        logits: &Tensor,
        g: &mut Tensor,
    ) {
        score::score_grad(&self.context, how, against, (logits, g));
    }
}
