//! The processor's half of the backward program.

use super::attention::{self, Source};
use super::{CpuDevice, Matrix, Table, Tensor};
use super::{
    activation_grad, attention_grad, gated_act, norm_grad, rope, scatter, score, shift_neurons,
};
use crate::device::gradient_ops::{Against, GradientOps, Metric, Past};
use crate::device::ops::{AttentionArgs, HeadRange, NormWeights, Ops};
use crate::error::Result;
use crate::model::Activation;

impl GradientOps for CpuDevice {
    fn transposed(&self, weight: &Matrix) -> Result<Matrix> {
        let out = weight.weight.len() / weight.out.max(1);
        let transposed = !weight.transposed;
        Ok(Matrix { out, weight: weight.weight.clone(), transposed, bias: None })
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

    fn attention_past(
        &self,
        args: &AttentionArgs<'_, Vec<f32>>,
        past: Past<'_, Tensor>,
        qkv: &Tensor,
        out: &mut Tensor,
    ) {
        attention::attention(args, Source { qkv, past: Some(past) }, out, None);
    }

    fn attention_past_grad(
        &self,
        args: &AttentionArgs<'_, Vec<f32>>,
        past: Past<'_, Tensor>,
        (qkv, g): (&Tensor, &Tensor),
        out: &mut Tensor,
    ) {
        attention_grad::attention_grad(args, Source { qkv, past: Some(past) }, g, out);
    }

    fn store_past(&self, qkv: &Tensor, tokens: &[u32], rows: &[u32], kv: &mut Tensor) {
        attention::store_past(qkv, tokens, rows, kv);
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

    fn put_rows(&self, rows: &[u32], x: &Tensor, out: &mut Tensor) {
        scatter::put_rows(rows, x, out);
    }

    fn shift_neurons(
        &self,
        down: &Matrix,
        places: (&[u32], &[u32]),
        values: (&Tensor, &[f32], &[f32]),
        out: &mut Tensor,
    ) {
        shift_neurons::shift_neurons(down, places, values, out);
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
