//! One block of the forward pass: attention, MLP, and the order of norms and sums between them.

use super::forward::SiteWork;
use super::layer_buffers::LayerBuffers;
use super::ops::{AttentionArgs, Epilogue, HeadRange, NormWeights, Ops, ScoreBias};
use super::weights::{ForwardWeights, LayerWeights};
use super::workspace::Workspace;
use crate::error::Result;
use crate::id::{Site, SiteKind};
use crate::model::{BlockSpec, ModelSpec, PositionSpec};

/// The two branches of a block.
#[derive(Clone, Copy)]
pub(super) enum Branch {
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
    own: &'a mut LayerBuffers<O>,
    attend: Option<&'a mut dyn Attend<O>>,
    layer: usize,
}

/// Attention that looks further than the batch. It may keep the keys and values of a layer: they are
/// gone when the next one runs.
pub(super) trait Attend<O: Ops> {
    /// As [`Ops::attention`], of a layer.
    fn attend(
        &mut self,
        ops: &O,
        layer: usize,
        args: &AttentionArgs<'_, O::Vector>,
        qkv_and_out: (&O::Tensor, &mut O::Tensor),
    );
}

impl<'a, O: Ops> Block<'a, O> {
    /// Block number `layer` over the buffers of `work` and its `own`.
    pub(super) fn new(
        ops: &'a O,
        (spec, all): (&'a ModelSpec, &'a ForwardWeights<O>),
        (work, own): (&'a mut Workspace<O>, &'a mut LayerBuffers<O>),
        layer: usize,
    ) -> Self {
        Self { ops, spec, all, weights: &all.layers[layer], work, own, attend: None, layer }
    }

    /// The same with another attention.
    pub(super) fn attending(mut self, attend: Option<&'a mut dyn Attend<O>>) -> Self {
        self.attend = attend;
        self
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

    /// Copies what a norm is about to read, for the way back.
    fn keep_norm_input(&mut self, branch: Branch) {
        let Some(kept) = &mut self.own.kept else { return };
        let place = match branch {
            Branch::Attention => Some(&mut kept.attn_norm_in),
            Branch::Mlp => kept.mlp_norm_in.as_mut(),
        };
        if let Some(place) = place {
            self.ops.copy(&self.work.x, place);
        }
    }

    /// The same where the norm reads the sum of the stream, held in `h`, and the branch.
    fn keep_norm_sum(&mut self, branch: Branch) {
        let Some(kept) = &mut self.own.kept else { return };
        let place = match branch {
            Branch::Attention => Some(&mut kept.attn_norm_in),
            Branch::Mlp => kept.mlp_norm_in.as_mut(),
        };
        if let Some(place) = place {
            self.ops.copy(&self.work.h, place);
            self.ops.add(place, &self.work.branch);
        }
    }

    fn pre_norm(
        &mut self,
        starts: &[u32],
        positions: &[u32],
        sites: &mut SiteWork<'_, O>,
    ) -> Result<()> {
        let after_norm = self.spec.block == BlockSpec::ResidualAfterNorm;
        self.keep_norm_input(Branch::Attention);
        self.ops.norm(&self.weights.attn_norm, &self.work.x, &mut self.work.h);
        if after_norm {
            self.ops.copy(&self.work.h, &mut self.work.x);
        }
        let post_norm = self.weights.attn_post_norm.as_ref();
        if !self.attention(starts, positions, sites, post_norm.is_none())? {
            self.add_branch(sites, Branch::Attention, post_norm)?;
        }
        self.show(sites, SiteKind::ResidMid)?;
        let norm = self.weights.mlp_norm.as_ref().expect("pre-norm blocks have two norms");
        self.keep_norm_input(Branch::Mlp);
        self.ops.norm(norm, &self.work.x, &mut self.work.h);
        if after_norm {
            self.ops.copy(&self.work.h, &mut self.work.x);
        }
        let post_norm = self.weights.mlp_post_norm.as_ref();
        if !self.mlp(sites, post_norm.is_none())? {
            self.add_branch(sites, Branch::Mlp, post_norm)?;
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
        self.keep_norm_sum(Branch::Attention);
        let work = &mut *self.work;
        self.ops.add_norm(&self.weights.attn_norm, &work.h, &work.branch, &mut work.x);
        self.show(sites, SiteKind::ResidMid)?;
        std::mem::swap(&mut self.work.x, &mut self.work.h);
        self.mlp(sites, false)?;
        self.keep_norm_sum(Branch::Mlp);
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
        self.keep_norm_input(Branch::Attention);
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
        branch: Branch,
        norm: Option<&NormWeights<O::Vector>>,
    ) -> Result<()> {
        let site = self.site(match branch {
            Branch::Attention => SiteKind::AttnAdded,
            Branch::Mlp => SiteKind::MlpAdded,
        });
        let work = &mut *self.work;
        let Some(norm) = norm else {
            self.ops.add(&mut work.x, &work.branch);
            return Ok(());
        };
        if let Some(branches) = self.own.kept.as_mut().and_then(|kept| kept.branches.as_mut()) {
            self.ops.copy(&work.branch, &mut branches[branch as usize]);
        }
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
        let (ops, weights) = (self.ops, self.weights);
        let (q, k) = query_key_ranges(self.spec);
        let probs_site = self.site(SiteKind::AttnProbs);
        let head_out = self.site(SiteKind::HeadOut);
        let (work, own) = (&mut *self.work, &mut *self.own);
        ops.linear(&weights.qkv, &work.h, Epilogue::Store, &mut own.qkv);
        if let Some(raw) = own.kept.as_mut().and_then(|kept| kept.qkv_raw.as_mut()) {
            ops.copy(&own.qkv, raw);
        }
        if let (Some(q_norm), Some(k_norm)) = (&weights.q_norm, &weights.k_norm) {
            ops.head_norm(q_norm, q, &mut own.qkv);
            ops.head_norm(k_norm, k, &mut own.qkv);
        }
        if let Some(angles) = &self.all.angles {
            ops.rope(angles, positions, q, &mut own.qkv);
            ops.rope(angles, positions, k, &mut own.qkv);
        }
        let args = attention_args((self.spec, self.all), self.layer, (starts, work.reach));
        let wants_probs = sites.wanted.contains(&probs_site);
        let probs = work.probs.as_mut().filter(|_| wants_probs);
        match &mut self.attend {
            Some(attend) => attend.attend(ops, self.layer, &args, (&own.qkv, &mut own.z)),
            None => ops.attention(&args, &own.qkv, &mut own.z, probs),
        }
        if let (true, Some(probs)) = (wants_probs, work.probs.as_mut()) {
            sites.site(ops, probs_site, probs)?;
        }
        sites.site(ops, head_out, &mut own.z)?;
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
        let (work, own) = (&mut *self.work, &*self.own);
        let (weight, input) = match branch {
            Branch::Attention => (&weights.out, &own.z),
            Branch::Mlp => (&weights.down, &own.act),
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
        let (h, own) = (&self.work.h, &mut *self.own);
        let first = weights.gate.as_ref().unwrap_or(&weights.up);
        let active = own.gate.as_mut().unwrap_or(&mut own.act);
        let keeps = own.kept.is_some();
        if sites.touches(pre) || keeps {
            ops.linear(first, h, Epilogue::Store, &mut own.pre);
            sites.site(ops, pre, &mut own.pre)?;
            ops.activate(spec.activation, &own.pre, active);
        } else {
            ops.linear(first, h, Epilogue::Activate(spec.activation), active);
        }
        if let Some(gate_values) = &mut own.gate {
            sites.site(ops, gate, gate_values)?;
            if sites.touches(up) || keeps {
                // Where it is not kept, the pre-activation is spent and its buffer free.
                let kept = own.kept.as_mut().and_then(|kept| kept.up.as_mut());
                let linear = kept.unwrap_or(&mut own.pre);
                ops.linear(&weights.up, h, Epilogue::Store, linear);
                sites.site(ops, up, linear)?;
                ops.multiply(gate_values, linear, &mut own.act);
            } else {
                let then = Epilogue::Multiply(gate_values);
                ops.linear(&weights.up, h, then, &mut own.act);
            }
        } else {
            sites.site(ops, gate, &mut own.act)?;
        }
        sites.site(ops, act, &mut own.act)?;
        self.leave(Branch::Mlp, sites, into_stream)
    }
}

/// What the attention of a layer needs beside its tensors.
pub(super) fn attention_args<'a, O: Ops>(
    (spec, weights): (&ModelSpec, &'a ForwardWeights<O>),
    layer: usize,
    (starts, reach): (&'a [u32], usize),
) -> AttentionArgs<'a, O::Vector> {
    let attention = &spec.attention;
    AttentionArgs {
        starts,
        heads: attention.heads,
        kv_heads: attention.kv_heads,
        head_width: attention.head_width,
        scale: attention.scale[layer],
        softcap: attention.softcap,
        causal: attention.causal,
        window: attention.windows[layer],
        bias: match (&spec.positions, &weights.score_bias) {
            (PositionSpec::Alibi { .. }, Some(slopes)) => ScoreBias::Slopes(slopes),
            (PositionSpec::Relative { .. }, Some(table)) => ScoreBias::Distance { table, reach },
            _ => ScoreBias::None,
        },
    }
}

/// Where queries and keys stand in the columns of `qkv`.
pub(super) fn query_key_ranges(spec: &ModelSpec) -> (HeadRange, HeadRange) {
    let attention = &spec.attention;
    let width = attention.head_width;
    let q = HeadRange { first: 0, heads: attention.heads, width };
    (q, HeadRange { first: attention.heads * width, heads: attention.kv_heads, width })
}
