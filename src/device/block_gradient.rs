//! One block of the backward pass: `block.rs` from its end to its beginning.

use super::backward::{GradientWork, Gradients, LayerTransposed};
use super::block::{Branch, attention_args, query_key_ranges};
use super::gradient_ops::GradientOps;
use super::layer_buffers::{Kept, LayerBuffers};
use super::ops::{AttentionArgs, Epilogue, NormWeights};
use super::weights::{ForwardWeights, LayerWeights};
use crate::error::Result;
use crate::id::{Site, SiteKind};
use crate::model::{BlockSpec, ModelSpec};

/// One block of one batch. Each function says whether anything is wanted of what lies further back.
pub(super) struct BlockGradient<'a, O: GradientOps> {
    pub(super) ops: &'a O,
    pub(super) spec: &'a ModelSpec,
    pub(super) all: &'a ForwardWeights<O>,
    pub(super) transposed: &'a LayerTransposed<O>,
    pub(super) own: &'a LayerBuffers<O>,
    pub(super) g: &'a mut Gradients<O>,
    pub(super) layer: usize,
    pub(super) reach: usize,
    /// Where queries look further than the batch.
    pub(super) attend: Option<&'a dyn AttendGradient<O>>,
}

/// The way back through [`Attend`](super::block::Attend).
pub(super) trait AttendGradient<O: GradientOps> {
    /// As [`GradientOps::attention_grad`], of a layer.
    fn attend_gradient(
        &self,
        ops: &O,
        layer: usize,
        args: &AttentionArgs<'_, O::Vector>,
        qkv_g_and_out: (&O::Tensor, &O::Tensor, &mut O::Tensor),
    );
}

/// Where sequences start, and the position of each token.
type Tokens<'a> = (&'a [u32], &'a [u32]);

impl<'a, O: GradientOps> BlockGradient<'a, O> {
    /// The gradient of the stream `g.x` through the block.
    pub(super) fn run(
        &mut self,
        tokens: Tokens<'_>,
        work: &mut GradientWork<'_, O>,
    ) -> Result<bool> {
        if matches!(self.spec.block, BlockSpec::Parallel | BlockSpec::ParallelSharedNorm) {
            return self.parallel(tokens, work);
        }
        if !self.serial(Branch::Mlp, tokens, work)? {
            return Ok(false);
        }
        let mid = self.site(SiteKind::ResidMid);
        work.site(self.ops, mid, (&mut self.g.x, None))?;
        if !work.below(mid) {
            return Ok(false);
        }
        self.serial(Branch::Attention, tokens, work)
    }

    fn site(&self, kind: SiteKind) -> Site {
        Site::of_layer(u32::try_from(self.layer).expect("few layers"), kind)
    }

    fn weights(&self) -> &'a LayerWeights<O> {
        &self.all.layers[self.layer]
    }

    fn kept(&self) -> &'a Kept<O> {
        self.own.kept.as_ref().expect("a differentiable forward pass keeps its layers")
    }

    /// What the norm before a branch, or after it in post-norm blocks, read.
    fn norm(&self, branch: Branch) -> (&'a NormWeights<O::Vector>, &'a O::Tensor) {
        let (weights, kept) = (self.weights(), self.kept());
        match branch {
            Branch::Attention => (&weights.attn_norm, &kept.attn_norm_in),
            Branch::Mlp => (
                weights.mlp_norm.as_ref().expect("serial blocks have two norms"),
                kept.mlp_norm_in.as_ref().expect("its input is kept"),
            ),
        }
    }

    /// One of two branches that follow each other.
    fn serial(
        &mut self,
        branch: Branch,
        tokens: Tokens<'_>,
        work: &mut GradientWork<'_, O>,
    ) -> Result<bool> {
        let ops = self.ops;
        let (norm, norm_in) = self.norm(branch);
        let post_norm = self.spec.block == BlockSpec::PostNorm;
        if post_norm {
            ops.norm_grad(norm, norm_in, &mut self.g.x);
        }
        ops.copy(&self.g.x, &mut self.g.branch);
        self.added(branch, work)?;
        if !self.branch(branch, tokens, work)? {
            return Ok(false);
        }
        let g = &mut *self.g;
        match self.spec.block {
            BlockSpec::PostNorm => ops.add(&mut g.x, &g.h),
            BlockSpec::ResidualAfterNorm => {
                ops.add(&mut g.x, &g.h);
                ops.norm_grad(norm, norm_in, &mut g.x);
            }
            _ => {
                ops.norm_grad(norm, norm_in, &mut g.h);
                ops.add(&mut g.x, &g.h);
            }
        }
        Ok(true)
    }

    /// Through the norm between a branch and the stream, where there is one.
    fn added(&mut self, branch: Branch, work: &mut GradientWork<'_, O>) -> Result<()> {
        let weights = self.weights();
        let (kind, norm) = match branch {
            Branch::Attention => (SiteKind::AttnAdded, &weights.attn_post_norm),
            Branch::Mlp => (SiteKind::MlpAdded, &weights.mlp_post_norm),
        };
        let Some((norm, branches)) = norm.as_ref().zip(self.kept().branches.as_ref()) else {
            return Ok(());
        };
        work.site(self.ops, self.site(kind), (&mut self.g.branch, None))?;
        self.ops.norm_grad(norm, &branches[branch as usize], &mut self.g.branch);
        Ok(())
    }

    /// Both branches read the stream and both add to it.
    fn parallel(&mut self, tokens: Tokens<'_>, work: &mut GradientWork<'_, O>) -> Result<bool> {
        let (ops, weights, norm_in) = (self.ops, self.weights(), &self.kept().attn_norm_in);
        ops.copy(&self.g.x, &mut self.g.branch);
        if !self.branch(Branch::Mlp, tokens, work)? {
            return Ok(false);
        }
        std::mem::swap(&mut self.g.h, &mut self.g.side);
        ops.copy(&self.g.x, &mut self.g.branch);
        if !self.branch(Branch::Attention, tokens, work)? {
            return Ok(false);
        }
        let g = &mut *self.g;
        if let Some(norm) = &weights.mlp_norm {
            ops.norm_grad(norm, norm_in, &mut g.side);
            ops.add(&mut g.x, &g.side);
        } else {
            ops.add(&mut g.h, &g.side);
        }
        ops.norm_grad(&weights.attn_norm, norm_in, &mut g.h);
        ops.add(&mut g.x, &g.h);
        Ok(true)
    }

    /// From the gradient of what a branch gives, `g.branch`, to that of what it reads, `g.h`.
    fn branch(
        &mut self,
        branch: Branch,
        tokens: Tokens<'_>,
        work: &mut GradientWork<'_, O>,
    ) -> Result<bool> {
        match branch {
            Branch::Mlp => self.mlp(work),
            Branch::Attention => self.attention(tokens, work),
        }
    }

    fn mlp(&mut self, work: &mut GradientWork<'_, O>) -> Result<bool> {
        let [pre, gate, up, act, out] = [
            SiteKind::MlpPre,
            SiteKind::MlpGate,
            SiteKind::MlpUp,
            SiteKind::MlpAct,
            SiteKind::MlpOut,
        ]
        .map(|kind| self.site(kind));
        let (ops, own, weights) = (self.ops, self.own, self.transposed);
        let activation = self.spec.mlp.activation;
        let kept_up = self.kept().up.as_ref();
        let g = &mut *self.g;
        work.site(ops, out, (&mut g.branch, None))?;
        if !work.below(out) {
            return Ok(false);
        }
        ops.linear(&weights.down, &g.branch, Epilogue::Store, &mut g.act);
        work.site(ops, act, (&mut g.act, Some(&own.act)))?;
        if !work.below(act) {
            return Ok(false);
        }
        let (Some(g_gate), Some(gate_values), Some(up_values)) = (&mut g.gate, &own.gate, kept_up)
        else {
            work.site(ops, gate, (&mut g.act, Some(&own.act)))?;
            ops.activation_grad(activation, &own.pre, &mut g.act);
            work.site(ops, pre, (&mut g.act, Some(&own.pre)))?;
            ops.linear(&weights.up, &g.act, Epilogue::Store, &mut g.h);
            return Ok(work.below(pre));
        };
        ops.multiply(&g.act, up_values, g_gate);
        ops.scale_by(gate_values, &mut g.act);
        work.site(ops, up, (&mut g.act, Some(up_values)))?;
        work.site(ops, gate, (g_gate, Some(gate_values)))?;
        ops.activation_grad(activation, &own.pre, g_gate);
        work.site(ops, pre, (g_gate, Some(&own.pre)))?;
        ops.linear(&weights.up, &g.act, Epilogue::Store, &mut g.h);
        let gate_weight = weights.gate.as_ref().expect("gated models have one");
        ops.linear(gate_weight, g_gate, Epilogue::Add(&mut g.branch), &mut g.h);
        Ok(work.below(pre))
    }

    fn attention(
        &mut self,
        (starts, positions): Tokens<'_>,
        work: &mut GradientWork<'_, O>,
    ) -> Result<bool> {
        let (ops, own, weights) = (self.ops, self.own, self.weights());
        let (out, head_out) = (self.site(SiteKind::AttnOut), self.site(SiteKind::HeadOut));
        let raw = self.kept().qkv_raw.as_ref();
        let g = &mut *self.g;
        work.site(ops, out, (&mut g.branch, None))?;
        if !work.below(out) {
            return Ok(false);
        }
        ops.linear(&self.transposed.out, &g.branch, Epilogue::Store, &mut g.z);
        work.site(ops, head_out, (&mut g.z, Some(&own.z)))?;
        if !work.below(head_out) {
            return Ok(false);
        }
        let args = attention_args((self.spec, self.all), self.layer, (starts, self.reach));
        match self.attend {
            Some(attend) => {
                let tensors = (&own.qkv, &g.z, &mut g.qkv);
                attend.attend_gradient(ops, self.layer, &args, tensors);
            }
            None => ops.attention_grad(&args, &own.qkv, &g.z, &mut g.qkv),
        }
        let (q, k) = query_key_ranges(self.spec);
        if let Some(angles) = &self.all.angles {
            ops.rope_grad(angles, positions, q, &mut g.qkv);
            ops.rope_grad(angles, positions, k, &mut g.qkv);
        }
        if let (Some(q_norm), Some(k_norm), Some(raw)) = (&weights.q_norm, &weights.k_norm, raw) {
            ops.head_norm_grad(q_norm, q, raw, &mut g.qkv);
            ops.head_norm_grad(k_norm, k, raw, &mut g.qkv);
        }
        ops.linear(&self.transposed.qkv, &g.qkv, Epilogue::Store, &mut g.h);
        Ok(true)
    }
}
