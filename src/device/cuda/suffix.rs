//! A GPU's half of running a model from its middle.

use super::buffer::{Matrix, Tensor, Vector};
use super::{
    CudaDevice, attention, attention_grad, attention_store, pick_logits, scatter, shift_neurons,
};
use crate::device::ops::AttentionArgs;
use crate::device::suffix_ops::{Past, SuffixOps};

impl SuffixOps for CudaDevice {
    fn attention_past(
        &self,
        args: &AttentionArgs<'_, Vector>,
        past: Past<'_, Tensor>,
        qkv: &Tensor,
        out: &mut Tensor,
    ) {
        attention::attention_past(&self.context, args, past, (qkv, out));
    }

    fn attention_past_grad(
        &self,
        args: &AttentionArgs<'_, Vector>,
        past: Past<'_, Tensor>,
        (qkv, g): (&Tensor, &Tensor),
        out: &mut Tensor,
    ) {
        attention_grad::attention_grad(&self.context, args, (qkv, Some(past), g), out);
    }

    fn store_past(&self, qkv: &Tensor, tokens: &[u32], rows: &[u32], kv: &mut Tensor) {
        attention_store::store_past(&self.context, qkv, (tokens, rows), kv);
    }

    fn put_rows(&self, rows: &[u32], x: &Tensor, out: &mut Tensor) {
        scatter::put_rows(&self.context, rows, x, out);
    }

    fn shift_neurons(
        &self,
        down: &Matrix,
        places: (&[u32], &[u32]),
        values: (&Tensor, &[f32], &[f32]),
        out: &mut Tensor,
    ) {
        shift_neurons::shift_neurons(&self.context, down, places, values, out);
    }

    fn pick_logits(&self, weight: &Matrix, ids: (&[u32], &[u32]), x: &Tensor, out: &mut Tensor) {
        pick_logits::pick_logits(&self.context, weight, ids, (x, out));
    }
}
