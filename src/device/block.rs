//! One block of the forward pass: attention, MLP, and the order of norms and sums between them.

use super::forward::SiteWork;
use super::ops::{AttentionArgs, HeadRange, NormWeights, Ops, ScoreBias};
use super::weights::{ForwardWeights, LayerWeights};
use super::workspace::Workspace;
use crate::error::Result;
use crate::id::{Site, SiteKind};
use crate::model::{BlockSpec, ModelSpec, PositionSpec};

/// One block of one batch.
pub(super) struct Block<'a, O: Ops> {
    ops: &'a O,
    spec: &'a ModelSpec,
    all: &'a ForwardWeights<O>,
    weights: &'a LayerWeights<O>,
    work: &'a mut Workspace<O>,
    layer: usize,
}

impl<'a, O: Ops> Block<'a, O> {
    /// Block number `layer` over the buffers of `work`.
    pub(super) fn new(
        ops: &'a O,
        (spec, all): (&'a ModelSpec, &'a ForwardWeights<O>),
        work: &'a mut Workspace<O>,
        layer: usize,
    ) -> Self {
        Self { ops, spec, all, weights: &all.layers[layer], work, layer }
    }

    /// The stream `work.x` through the block.
    pub(super) fn run(
        &mut self,
        starts: &[u32],
        positions: &[u32],
        sites: &mut SiteWork<'_, O>,
    ) -> Result<()> {
        match self.spec.block {
            BlockSpec::PostNorm => self.post_norm(starts, positions, sites),
            BlockSpec::Parallel | BlockSpec::ParallelSharedNorm => {
                self.parallel(starts, positions, sites)
            }
            BlockSpec::PreNorm | BlockSpec::Sandwich | BlockSpec::ResidualAfterNorm => {
                self.pre_norm(starts, positions, sites)
            }
        }
    }

    fn site(&self, kind: SiteKind) -> Site {
        Site::of_layer(u32::try_from(self.layer).expect("few layers"), kind)
    }

    /// Shows the stream under a name.
    pub(super) fn show(&mut self, sites: &mut SiteWork<'_, O>, kind: SiteKind) -> Result<()> {
        sites.site(self.ops, self.site(kind), &mut self.work.x)
    }

    fn pre_norm(
        &mut self,
        starts: &[u32],
        positions: &[u32],
        sites: &mut SiteWork<'_, O>,
    ) -> Result<()> {
        let after_norm = self.spec.block == BlockSpec::ResidualAfterNorm;
        self.ops.norm(&self.weights.attn_norm, &self.work.x, &mut self.work.h);
        if after_norm {
            self.ops.copy(&self.work.h, &mut self.work.x);
        }
        self.attention(starts, positions, sites)?;
        self.add_branch(sites, SiteKind::AttnAdded, self.weights.attn_post_norm.as_ref())?;
        self.show(sites, SiteKind::ResidMid)?;
        let norm = self.weights.mlp_norm.as_ref().expect("pre-norm blocks have two norms");
        self.ops.norm(norm, &self.work.x, &mut self.work.h);
        if after_norm {
            self.ops.copy(&self.work.h, &mut self.work.x);
        }
        self.mlp(sites)?;
        self.add_branch(sites, SiteKind::MlpAdded, self.weights.mlp_post_norm.as_ref())
    }

    fn post_norm(
        &mut self,
        starts: &[u32],
        positions: &[u32],
        sites: &mut SiteWork<'_, O>,
    ) -> Result<()> {
        self.ops.copy(&self.work.x, &mut self.work.h);
        self.attention(starts, positions, sites)?;
        let work = &mut *self.work;
        self.ops.add_norm(&self.weights.attn_norm, &work.h, &work.branch, &mut work.x);
        self.show(sites, SiteKind::ResidMid)?;
        self.ops.copy(&self.work.x, &mut self.work.h);
        self.mlp(sites)?;
        let work = &mut *self.work;
        let norm = self.weights.mlp_norm.as_ref().expect("post-norm blocks have two norms");
        self.ops.add_norm(norm, &work.h, &work.branch, &mut work.x);
        Ok(())
    }

    fn parallel(
        &mut self,
        starts: &[u32],
        positions: &[u32],
        sites: &mut SiteWork<'_, O>,
    ) -> Result<()> {
        // The MLP reads the stream as it was before attention added to it.
        self.ops.norm(&self.weights.attn_norm, &self.work.x, &mut self.work.h);
        self.attention(starts, positions, sites)?;
        if let Some(norm) = &self.weights.mlp_norm {
            self.ops.norm(norm, &self.work.x, &mut self.work.h);
        }
        self.ops.add(&mut self.work.x, &self.work.branch);
        self.mlp(sites)?;
        self.ops.add(&mut self.work.x, &self.work.branch);
        Ok(())
    }

    /// x += branch, or x += N(branch) where a norm stands between.
    fn add_branch(
        &mut self,
        sites: &mut SiteWork<'_, O>,
        kind: SiteKind,
        norm: Option<&NormWeights<O::Vector>>,
    ) -> Result<()> {
        let site = self.site(kind);
        let work = &mut *self.work;
        let Some(norm) = norm else {
            self.ops.add(&mut work.x, &work.branch);
            return Ok(());
        };
        self.ops.norm(norm, &work.branch, &mut work.h);
        sites.site(self.ops, site, &mut work.h)?;
        self.ops.add(&mut work.x, &work.h);
        Ok(())
    }

    /// branch = attention of h.
    fn attention(
        &mut self,
        starts: &[u32],
        positions: &[u32],
        sites: &mut SiteWork<'_, O>,
    ) -> Result<()> {
        let (ops, spec, weights) = (self.ops, &self.spec.attention, self.weights);
        let (q, k) = query_key_ranges(self.spec);
        let probs_site = self.site(SiteKind::AttnProbs);
        let (head_out, attn_out) = (self.site(SiteKind::HeadOut), self.site(SiteKind::AttnOut));
        let work = &mut *self.work;
        ops.linear(&weights.qkv, &work.h, &mut work.qkv);
        if let (Some(q_norm), Some(k_norm)) = (&weights.q_norm, &weights.k_norm) {
            ops.head_norm(q_norm, q, &mut work.qkv);
            ops.head_norm(k_norm, k, &mut work.qkv);
        }
        if let Some(angles) = &self.all.angles {
            ops.rope(angles, positions, q, &mut work.qkv);
            ops.rope(angles, positions, k, &mut work.qkv);
        }
        let args = AttentionArgs {
            starts,
            heads: spec.heads,
            kv_heads: spec.kv_heads,
            head_width: spec.head_width,
            scale: spec.scale[self.layer],
            softcap: spec.softcap,
            causal: spec.causal,
            window: spec.windows[self.layer],
            bias: match (&self.spec.positions, &self.all.score_bias) {
                (PositionSpec::Alibi { .. }, Some(slopes)) => ScoreBias::Slopes(slopes),
                (PositionSpec::Relative { .. }, Some(table)) => {
                    ScoreBias::Distance { table, reach: work.reach }
                }
                _ => ScoreBias::None,
            },
        };
        let wants_probs = sites.wanted.contains(&probs_site);
        let probs = work.probs.as_mut().filter(|_| wants_probs);
        ops.attention(&args, &work.qkv, &mut work.z, probs);
        if let (true, Some(probs)) = (wants_probs, work.probs.as_mut()) {
            sites.site(ops, probs_site, probs)?;
        }
        sites.site(ops, head_out, &mut work.z)?;
        ops.linear(&weights.out, &work.z, &mut work.branch);
        sites.site(ops, attn_out, &mut work.branch)
    }

    /// branch = MLP of h.
    fn mlp(&mut self, sites: &mut SiteWork<'_, O>) -> Result<()> {
        let (ops, spec, weights) = (self.ops, self.spec.mlp, self.weights);
        let [pre, gate, up, act, out] = [
            SiteKind::MlpPre,
            SiteKind::MlpGate,
            SiteKind::MlpUp,
            SiteKind::MlpAct,
            SiteKind::MlpOut,
        ]
        .map(|kind| self.site(kind));
        let work = &mut *self.work;
        let first = weights.gate.as_ref().unwrap_or(&weights.up);
        ops.linear(first, &work.h, &mut work.pre);
        sites.site(ops, pre, &mut work.pre)?;
        ops.activate(spec.activation, &work.pre, &mut work.act);
        sites.site(ops, gate, &mut work.act)?;
        if spec.gated {
            // The pre-activation is spent: its buffer takes act(gate), and `act` the product.
            ops.copy(&work.act, &mut work.pre);
            let linear = work.up.as_mut().expect("gated models have the buffer");
            ops.linear(&weights.up, &work.h, linear);
            sites.site(ops, up, linear)?;
            ops.multiply(&work.pre, linear, &mut work.act);
        }
        sites.site(ops, act, &mut work.act)?;
        ops.linear(&weights.down, &work.act, &mut work.branch);
        sites.site(ops, out, &mut work.branch)
    }
}

/// Where queries and keys stand in the columns of `qkv`.
fn query_key_ranges(spec: &ModelSpec) -> (HeadRange, HeadRange) {
    let attention = &spec.attention;
    let width = attention.head_width;
    let q = HeadRange { first: 0, heads: attention.heads, width };
    (q, HeadRange { first: attention.heads * width, heads: attention.kv_heads, width })
}
