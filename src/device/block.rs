//! One block of the forward pass: attention, MLP, and the order of norms and sums between them.

use super::forward::SiteWork;
use super::ops::{AttentionArgs, Epilogue, HeadRange, NormWeights, Ops, ScoreBias};
use super::weights::{ForwardWeights, LayerWeights};
use super::workspace::Workspace;
use crate::error::Result;
use crate::id::{Site, SiteKind};
use crate::model::{BlockSpec, ModelSpec, PositionSpec};

/// The two branches of a block.
#[derive(Clone, Copy)]
enum Branch {
    Attention,
    Mlp,
}

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
        let post_norm = self.weights.attn_post_norm.as_ref();
        if !self.attention(starts, positions, sites, post_norm.is_none())? {
            self.add_branch(sites, SiteKind::AttnAdded, post_norm)?;
        }
        self.show(sites, SiteKind::ResidMid)?;
        let norm = self.weights.mlp_norm.as_ref().expect("pre-norm blocks have two norms");
        self.ops.norm(norm, &self.work.x, &mut self.work.h);
        if after_norm {
            self.ops.copy(&self.work.h, &mut self.work.x);
        }
        let post_norm = self.weights.mlp_post_norm.as_ref();
        if !self.mlp(sites, post_norm.is_none())? {
            self.add_branch(sites, SiteKind::MlpAdded, post_norm)?;
        }
        Ok(())
    }

    fn post_norm(
        &mut self,
        starts: &[u32],
        positions: &[u32],
        sites: &mut SiteWork<'_, O>,
    ) -> Result<()> {
        // The branch reads the stream itself, which is written anew from its sum with the branch.
        std::mem::swap(&mut self.work.x, &mut self.work.h);
        self.attention(starts, positions, sites, false)?;
        let work = &mut *self.work;
        self.ops.add_norm(&self.weights.attn_norm, &work.h, &work.branch, &mut work.x);
        self.show(sites, SiteKind::ResidMid)?;
        std::mem::swap(&mut self.work.x, &mut self.work.h);
        self.mlp(sites, false)?;
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
        let shared_norm = self.weights.mlp_norm.is_none();
        let added = self.attention(starts, positions, sites, shared_norm)?;
        if let Some(norm) = &self.weights.mlp_norm {
            self.ops.norm(norm, &self.work.x, &mut self.work.h);
        }
        if !added {
            self.ops.add(&mut self.work.x, &self.work.branch);
        }
        if !self.mlp(sites, true)? {
            self.ops.add(&mut self.work.x, &self.work.branch);
        }
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

    /// branch = attention of h, or x += it where that is asked for and nobody looks at the branch;
    /// says which.
    fn attention(
        &mut self,
        starts: &[u32],
        positions: &[u32],
        sites: &mut SiteWork<'_, O>,
        into_stream: bool,
    ) -> Result<bool> {
        let (ops, spec, weights) = (self.ops, &self.spec.attention, self.weights);
        let (q, k) = query_key_ranges(self.spec);
        let probs_site = self.site(SiteKind::AttnProbs);
        let head_out = self.site(SiteKind::HeadOut);
        let work = &mut *self.work;
        ops.linear(&weights.qkv, &work.h, Epilogue::Store, &mut work.qkv);
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
        self.leave(Branch::Attention, sites, into_stream)
    }

    /// The last product of a branch, see [`Self::attention`].
    fn leave(
        &mut self,
        branch: Branch,
        sites: &mut SiteWork<'_, O>,
        into_stream: bool,
    ) -> Result<bool> {
        let (ops, weights) = (self.ops, self.weights);
        let site = self.site(match branch {
            Branch::Attention => SiteKind::AttnOut,
            Branch::Mlp => SiteKind::MlpOut,
        });
        let work = &mut *self.work;
        let (weight, input) = match branch {
            Branch::Attention => (&weights.out, &work.z),
            Branch::Mlp => (&weights.down, &work.act),
        };
        if into_stream && !sites.touches(site) {
            ops.linear(weight, input, Epilogue::Add(&mut work.branch), &mut work.x);
            return Ok(true);
        }
        ops.linear(weight, input, Epilogue::Store, &mut work.branch);
        sites.site(ops, site, &mut work.branch)?;
        Ok(false)
    }

    /// branch = MLP of h, or x += it; see [`Self::attention`].
    fn mlp(&mut self, sites: &mut SiteWork<'_, O>, into_stream: bool) -> Result<bool> {
        let (ops, spec, weights) = (self.ops, self.spec.mlp, self.weights);
        let [pre, gate, up, act] =
            [SiteKind::MlpPre, SiteKind::MlpGate, SiteKind::MlpUp, SiteKind::MlpAct]
                .map(|kind| self.site(kind));
        let work = &mut *self.work;
        let first = weights.gate.as_ref().unwrap_or(&weights.up);
        let active = work.gate.as_mut().unwrap_or(&mut work.act);
        if sites.touches(pre) {
            ops.linear(first, &work.h, Epilogue::Store, &mut work.pre);
            sites.site(ops, pre, &mut work.pre)?;
            ops.activate(spec.activation, &work.pre, active);
        } else {
            ops.linear(first, &work.h, Epilogue::Activate(spec.activation), active);
        }
        if let Some(gate_values) = &mut work.gate {
            sites.site(ops, gate, gate_values)?;
            if sites.touches(up) {
                // The pre-activation is spent: its buffer takes the linear half.
                ops.linear(&weights.up, &work.h, Epilogue::Store, &mut work.pre);
                sites.site(ops, up, &mut work.pre)?;
                ops.multiply(gate_values, &work.pre, &mut work.act);
            } else {
                let then = Epilogue::Multiply(gate_values);
                ops.linear(&weights.up, &work.h, then, &mut work.act);
            }
        }
        sites.site(ops, act, &mut work.act)?;
        self.leave(Branch::Mlp, sites, into_stream)
    }
}

/// Where queries and keys stand in the columns of `qkv`.
fn query_key_ranges(spec: &ModelSpec) -> (HeadRange, HeadRange) {
    let attention = &spec.attention;
    let width = attention.head_width;
    let q = HeadRange { first: 0, heads: attention.heads, width };
    (q, HeadRange { first: attention.heads * width, heads: attention.kv_heads, width })
}
