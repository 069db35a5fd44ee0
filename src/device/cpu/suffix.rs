//! The processor's half of running a model from its middle.

use super::attention::{self, Source};
use super::{CpuDevice, Matrix, Tensor};
use super::{attention_grad, pick_logits, scatter, shift_neurons};
use crate::device::ops::AttentionArgs;
use crate::device::suffix_ops::{Past, SuffixOps};

impl SuffixOps for CpuDevice {
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

    fn pick_logits(&self, weight: &Matrix, ids: (&[u32], &[u32]), x: &Tensor, out: &mut Tensor) {
        pick_logits::pick_logits(weight, ids, x, out);
    }
}
