//! What a device does beyond [`Ops`] for gradients and metrics. Gradients are taken with respect to
//! activations, never to weights: a product's is a product with the transposed weight.

use super::ops::{AttentionArgs, HeadRange, NormWeights, Ops};
use crate::error::Result;
use crate::model::Activation;

/// A device that can run the backward program.
pub trait GradientOps: Ops {
    /// The weight `[in, out]` of a weight `[out, in]`, without its bias.
    fn transposed(&self, weight: &Self::Matrix) -> Result<Self::Matrix>;

    /// A tensor of f32 whatever the type of the others: scores.
    fn exact_tensor(&self, rows: usize, cols: usize) -> Result<Self::Tensor>;

    /// norm_grad: `g`, the gradient of `norm(x)`, becomes that of `x`.
    fn norm_grad(&self, norm: &NormWeights<Self::Vector>, x: &Self::Tensor, g: &mut Self::Tensor);
    /// norm_grad: the same for each head; `x` are the values before [`Ops::head_norm`].
    fn head_norm_grad(
        &self,
        norm: &NormWeights<Self::Vector>,
        heads: HeadRange,
        x: &Self::Tensor,
        g: &mut Self::Tensor,
    );
    /// rope: turns the heads of `g` back by the angles of [`Ops::rope`].
    fn rope_grad(
        &self,
        angles: &Self::Table,
        positions: &[u32],
        heads: HeadRange,
        g: &mut Self::Tensor,
    );
    /// attention_grad: from the gradient of the heads' results that of queries, keys and values.
    fn attention_grad(
        &self,
        args: &AttentionArgs<'_, Self::Vector>,
        qkv: &Self::Tensor,
        g: &Self::Tensor,
        out: &mut Self::Tensor,
    );
    /// activation_grad: `g = g * act'(x)`.
    fn activation_grad(&self, activation: Activation, x: &Self::Tensor, g: &mut Self::Tensor);
    /// activation_grad: `g = g * (1 - (y / cap)^2)`, `y` being the capped values.
    fn softcap_grad(&self, cap: f32, y: &Self::Tensor, g: &mut Self::Tensor);
    /// gated_act: `x = a * x`.
    fn scale_by(&self, a: &Self::Tensor, x: &mut Self::Tensor);
    /// scatter: row `rows[r]` of `out` += row r of `g`. No row twice.
    fn scatter(&self, rows: &[u32], g: &Self::Tensor, out: &mut Self::Tensor);

    /// score: [`SCORES`] numbers for each row of logits, into the rows of the exact tensor `out` from
    /// `first` on.
    /// One column of logits is a yes-no question whose answer is the target, 0 or 1.
    fn score(
        &self,
        against: &Against<'_, Self::Tensor>,
        logits: &Self::Tensor,
        out: (usize, &mut Self::Tensor),
    );
    /// score: the gradient of a metric with respect to the logits, times the row's weight.
    fn score_grad(
        &self,
        how: (Metric, &[f32]),
        against: &Against<'_, Self::Tensor>,
        logits: &Self::Tensor,
        g: &mut Self::Tensor,
    );
}

/// Numbers that [`GradientOps::score`] gives for a row: log p(target); logit of the target less that
/// of the foil (0 without foils); 1 where no logit is above the target's; KL from the reference (0
/// without one), in nats.
pub const SCORES: usize = 4;

/// What rows of logits are held against.
#[derive(Debug)]
pub struct Against<'a, T> {
    /// The right answer of each row.
    pub targets: &'a [u32],
    /// The wrong answer of each row.
    pub foils: Option<&'a [u32]>,
    /// Logits of another run.
    pub reference: Option<&'a T>,
}

/// A number for a scored row, of which a gradient can be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Metric {
    /// -log p(target), in nats.
    Loss,
    /// log p(target), in nats.
    LogProb,
    /// p(target).
    Prob,
    /// logit(target) - logit(foil).
    LogitDifference,
    /// KL(reference || this), in nats.
    Kl,
    /// What a probe reads off a site ([`crate::device::score::Score::probe`]): not of the logits, so no
    /// device is asked for it.
    Probe,
}
