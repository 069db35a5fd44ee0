//! The processor's half of the backward program.

use super::attention::Source;
use super::{CpuDevice, Matrix, Table, Tensor};
use super::{activation_grad, attention_grad, gated_act, norm_grad, rope, scatter, score};
use crate::device::gradient_ops::{Against, GradientOps, Metric};
use crate::device::ops::{AttentionArgs, HeadRange, NormWeights, Ops};
use crate::error::Result;
use crate::model::Activation;

impl GradientOps for CpuDevice {
    fn transposed(&self, weight: &Matrix) -> Result<Matrix> {
        Ok(Matrix { weight: weight.weight.transposed(), rows: None, bias: None })
    }

    fn exact_tensor(&self, rows: usize, cols: usize) -> Result<Tensor> {
        self.tensor(rows, cols)
    }

    fn norm_grad(&self, norm: &NormWeights<Vec<f32>>, x: &Tensor, g: &mut Tensor) {
        let heads = HeadRange { first: 0, heads: 1, width: x.cols() };
        norm_grad::norm_grad(norm, heads, x, g);
    }

    fn head_norm_grad(
        &self,
        norm: &NormWeights<Vec<f32>>,
        heads: HeadRange,
        x: &Tensor,
        g: &mut Tensor,
    ) {
        norm_grad::norm_grad(norm, heads, x, g);
    }

    fn rope_grad(&self, angles: &Table, positions: &[u32], heads: HeadRange, g: &mut Tensor) {
        rope::rope_grad(angles, positions, heads, g);
    }

    fn attention_grad(
        &self,
        args: &AttentionArgs<'_, Vec<f32>>,
        qkv: &Tensor,
        g: &Tensor,
        out: &mut Tensor,
    ) {
        attention_grad::attention_grad(args, Source { qkv, past: None }, g, out);
    }

    fn activation_grad(&self, activation: Activation, x: &Tensor, g: &mut Tensor) {
        activation_grad::activation_grad(activation, x, g);
    }

    fn softcap_grad(&self, cap: f32, y: &Tensor, g: &mut Tensor) {
        activation_grad::softcap_grad(cap, y, g);
    }

    fn scale_by(&self, a: &Tensor, x: &mut Tensor) {
        gated_act::multiply_in_place(a, x);
    }

    fn scatter(&self, rows: &[u32], g: &Tensor, out: &mut Tensor) {
        scatter::scatter(rows, g, out);
    }

    fn score(&self, against: &Against<'_, Tensor>, logits: &Tensor, out: (usize, &mut Tensor)) {
        score::score(against, logits, out);
    }

    fn score_grad(
        &self,
        how: (Metric, &[f32]),
        against: &Against<'_, Tensor>,
        logits: &Tensor,
        g: &mut Tensor,
    ) {
        score::score_grad(how, against, logits, g);
    }
}
