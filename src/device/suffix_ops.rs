//! What a device does for many edited copies of one batch, and for decoding with a cache: sequences
//! that go on from a past, and changes of single neurons and single logits.

use super::gradient_ops::GradientOps;
use super::ops::AttentionArgs;

/// A device that can run a model from its middle.
pub trait SuffixOps: GradientOps {
    /// attention: of sequences that go on from a past.
    fn attention_past(
        &self,
        args: &AttentionArgs<'_, Self::Vector>,
        past: Past<'_, Self::Tensor>,
        qkv: &Self::Tensor,
        out: &mut Self::Tensor,
    );
    /// attention_grad: the same backwards; the past is held fixed.
    fn attention_past_grad(
        &self,
        args: &AttentionArgs<'_, Self::Vector>,
        past: Past<'_, Self::Tensor>,
        qkv_and_g: (&Self::Tensor, &Self::Tensor),
        out: &mut Self::Tensor,
    );
    /// attention: keeps keys and values of `tokens` of a batch as `rows` of a past, none twice.
    fn store_past(&self, qkv: &Self::Tensor, tokens: &[u32], rows: &[u32], kv: &mut Self::Tensor);
    /// scatter: row `rows[r]` of `out` = row r of `x`. No row twice.
    fn put_rows(&self, rows: &[u32], x: &Self::Tensor, out: &mut Self::Tensor);
    /// shift_neurons: what changing one neuron of each row does to what the MLP gives. Row r of
    /// `out` += `((scale[r] - 1) x + shift[r]) W[:, n]`, x being neuron n of row `tokens[r]` of `act`.
    fn shift_neurons(
        &self,
        down: &Self::Matrix,
        tokens_and_neurons: (&[u32], &[u32]),
        act_scale_shift: (&Self::Tensor, &[f32], &[f32]),
        out: &mut Self::Tensor,
    );

    /// pick_logits: `out[r]` = logit `ids[r]` of row r less that of `others[r]`, without any other:
    /// `(W[ids[r]] - W[others[r]]) . x[r]` and the same of the bias. `out` is exact, and
    /// has one column.
    fn pick_logits(
        &self,
        weight: &Self::Matrix,
        ids_and_others: (&[u32], &[u32]),
        x: &Self::Tensor,
        out: &mut Self::Tensor,
    );
}

/// Keys and values of tokens before those of a batch.
#[derive(Debug)]
pub struct Past<'a, T> {
    /// `[rows, 2 K d]`: K key heads, then K value heads, after norm and rotation.
    pub kv: &'a T,
    /// First row and number of rows of each sequence of the batch; sequences may share them.
    pub rows: &'a [[u32; 2]],
}

impl<T> Clone for Past<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Past<'_, T> {}
