//! The backward pass: gradients of a number with respect to sites, one program for every
//! [`ModelSpec`], over any device's [`GradientOps`].
//!
//! [`Differentiable::run`] is the forward pass with each layer's buffers kept,
//! [`Differentiable::score`] the head on chosen rows, [`Differentiable::back`] the way back. A
//! gradient at a site is that of the value after its edits; edits stand in the way of what is
//! below them.

use std::collections::{BTreeMap, BTreeSet};

use super::block_gradient::{AttendGradient, BlockGradient};
use super::edit::{Edit, EditGradient};
use super::forward::{Forward, ForwardInput, Limits, SiteWork};
use super::gradient_ops::GradientOps;
use super::ops::Ops;
use super::score::Head;
use super::site_view::Nobody;
use crate::error::{Error, Result};
use crate::id::{Site, SiteKind};
use crate::model::{Model, ModelSpec};

/// A gradient lent by the backward pass while it is there.
pub struct GradientView<'a, O: Ops> {
    /// Of which site.
    pub site: Site,
    /// In the shape of the site's values.
    pub gradient: &'a O::Tensor,
    /// The site's values, for sites inside a branch (`head_out` and `mlp_*` but `mlp_out`).
    pub values: Option<&'a O::Tensor>,
}

/// What reads gradients while the backward pass makes them, once per wanted site, last site first.
pub trait GradientVisitor<O: Ops> {
    /// Reads one gradient.
    fn visit(&mut self, ops: &O, view: &GradientView<'_, O>) -> Result<()>;
}

impl<O: Ops> GradientVisitor<O> for Nobody {
    fn visit(&mut self, _: &O, _: &GradientView<'_, O>) -> Result<()> {
        Ok(())
    }
}

/// What is done at the sites on the way back.
pub struct GradientWork<'a, O: Ops> {
    /// Sites whose gradients are wanted.
    pub wanted: &'a BTreeSet<Site>,
    /// The edits of the forward pass.
    pub edits: &'a BTreeMap<Site, Vec<Edit>>,
    /// Added to the gradients of sites: the gradients of numbers that are read there.
    pub seeds: &'a BTreeMap<Site, O::Tensor>,
    /// Who reads.
    pub visitor: &'a mut dyn GradientVisitor<O>,
}

impl<O: Ops> GradientWork<'_, O> {
    /// Whether a gradient is wanted of anything made before a site.
    pub(super) fn below(&self, site: Site) -> bool {
        self.wanted.first().is_some_and(|first| *first < site)
    }

    /// Adds the seed of a site, shows its gradient, and takes it back through its edits.
    pub(super) fn site(
        &mut self,
        ops: &O,
        site: Site,
        (g, values): (&mut O::Tensor, Option<&O::Tensor>),
    ) -> Result<()> {
        if let Some(seed) = self.seeds.get(&site) {
            ops.add(g, seed);
        }
        if self.wanted.contains(&site) {
            self.visitor.visit(ops, &GradientView { site, gradient: g, values })?;
        }
        for edit in self.edits.get(&site).into_iter().flatten().rev() {
            match edit.gradient() {
                EditGradient::Same => {}
                EditGradient::Write(edit) => ops.edit(&edit, g),
                EditGradient::Mask => {
                    ops.edit_mask(edit, values.expect("the edits were checked"), g);
                }
            }
        }
        Ok(())
    }

    /// Refuses what has no gradient here: sites that are read only, and edits on the way back that
    /// are not known from what the forward pass keeps.
    fn check(&self) -> Result<()> {
        if let Some(site) = self.wanted.iter().find(|site| !has_gradient(**site)) {
            let remedy = "ask for embeddings, final_norm, or a site of a layer but attn_probs";
            return Err(Error::config(site.to_string(), "has no gradient here", remedy));
        }
        for (&site, edits) in self.edits {
            let masks = |edit: &Edit| edit.gradient() == EditGradient::Mask;
            let Some(first) = edits.iter().position(masks) else { continue };
            if self.below(site) && !(keeps_values(site) && edits[first..].iter().all(masks)) {
                let what = "a gradient cannot go back through an edit that keeps the largest or clamps here";
                let remedy =
                    "make it the last edit of head_out, mlp_pre, mlp_gate, mlp_up or mlp_act";
                return Err(Error::config(format!("edit of {site}"), what, remedy));
            }
        }
        Ok(())
    }
}

/// What is scored does not pass through sites of the head: edits of them would do nothing.
pub(super) fn refuse_head(edits: &BTreeMap<Site, Vec<Edit>>) -> Result<()> {
    let of_head = |site: Site| site > Site::global(SiteKind::FinalNorm);
    match edits.iter().find(|(site, edits)| of_head(**site) && !edits.is_empty()) {
        None => Ok(()),
        Some((site, _)) => {
            let what = "what is scored or decoded does not pass through edits of the head";
            let remedy = "edit final_norm, or what is before it";
            Err(Error::config(format!("edit of {site}"), what, remedy))
        }
    }
}

/// Whether gradients can be asked for at a site, in models that have it.
pub fn has_gradient(site: Site) -> bool {
    use SiteKind::{AttnProbs, EmbeddingsNarrow, HeadHidden, Logits, Pooled};
    !matches!(site.kind, AttnProbs | EmbeddingsNarrow | HeadHidden | Pooled | Logits)
}

/// Whether a site's values are there on the way back.
pub fn keeps_values(site: Site) -> bool {
    use SiteKind::{HeadOut, MlpAct, MlpGate, MlpPre, MlpUp};
    matches!(site.kind, HeadOut | MlpPre | MlpGate | MlpUp | MlpAct)
}

/// Transposed weights of one layer.
pub(super) struct LayerTransposed<O: Ops> {
    pub(super) qkv: O::Matrix,
    pub(super) out: O::Matrix,
    pub(super) gate: Option<O::Matrix>,
    pub(super) up: O::Matrix,
    pub(super) down: O::Matrix,
}

/// Gradients under way; their names are those of the values.
pub(super) struct Gradients<O: Ops> {
    /// Of the stream, `[T, D]`.
    pub(super) x: O::Tensor,
    /// Of what a branch reads.
    pub(super) h: O::Tensor,
    /// Of what a branch gives.
    pub(super) branch: O::Tensor,
    /// Of what the other branch of a parallel block reads.
    pub(super) side: O::Tensor,
    pub(super) qkv: O::Tensor,
    pub(super) z: O::Tensor,
    pub(super) act: O::Tensor,
    /// Of the nonlinearity, in gated models.
    pub(super) gate: Option<O::Tensor>,
}

impl<O: Ops> Gradients<O> {
    fn new(ops: &O, spec: &ModelSpec, tokens: usize) -> Result<Self> {
        let room = |cols: usize| ops.tensor(tokens, cols);
        let stream = || room(spec.width);
        let (attention, neurons) = (&spec.attention, spec.mlp.width);
        Ok(Self {
            x: stream()?,
            h: stream()?,
            branch: stream()?,
            side: stream()?,
            qkv: room((attention.heads + 2 * attention.kv_heads) * attention.head_width)?,
            z: room(attention.heads * attention.head_width)?,
            act: room(neurons)?,
            gate: spec.mlp.gated.then(|| room(neurons)).transpose()?,
        })
    }

    fn set_rows(&mut self, ops: &O, tokens: usize) {
        let Self { x, h, branch, side, qkv, z, act, gate } = self;
        for tensor in [x, h, branch, side, qkv, z, act].into_iter().chain(gate) {
            ops.set_rows(tensor, tokens);
        }
    }
}

/// A model on a device whose gradients can be asked for.
pub struct Differentiable<O: GradientOps> {
    pub(super) forward: Forward<O>,
    pub(super) transposed: Vec<LayerTransposed<O>>,
    pub(super) g: Gradients<O>,
    pub(super) head: Option<Head<O>>,
    /// Something was scored for its gradient since the last run.
    pub(super) scored: bool,
}

impl<O: GradientOps> Differentiable<O> {
    /// Uploads the weights and makes the buffers. `wanted` are sites to be read on the way forward;
    /// `scored` says that [`Self::score`] will be called: the model needs a head then.
    pub fn new(
        ops: O,
        model: &Model,
        limits: Limits,
        (wanted, scored): (&BTreeSet<Site>, bool),
    ) -> Result<Self> {
        let forward = Forward::build(ops, model, limits, (wanted, scored, true))?;
        let (ops, spec) = (&forward.ops, &forward.spec);
        let layers = forward.weights.layers.iter().map(|layer| {
            Ok(LayerTransposed {
                qkv: ops.transposed(&layer.qkv)?,
                out: ops.transposed(&layer.out)?,
                gate: layer.gate.as_ref().map(|gate| ops.transposed(gate)).transpose()?,
                up: ops.transposed(&layer.up)?,
                down: ops.transposed(&layer.down)?,
            })
        });
        let transposed = layers.collect::<Result<_>>()?;
        let g = Gradients::new(ops, spec, limits.tokens)?;
        let head = scored.then(|| Head::new(ops, spec, &forward.weights, limits)).transpose()?;
        Ok(Self { forward, transposed, g, head, scored: false })
    }

    /// The device.
    pub fn ops(&self) -> &O {
        &self.forward.ops
    }

    /// The model's description.
    pub fn spec(&self) -> &ModelSpec {
        &self.forward.spec
    }

    /// The largest batch and sequence.
    pub fn limits(&self) -> Limits {
        self.forward.limits()
    }

    /// The forward pass of one batch, up to the final norm.
    pub fn run(&mut self, input: ForwardInput<'_>, sites: &mut SiteWork<'_, O>) -> Result<()> {
        refuse_head(sites.edits)?;
        self.forward.run_trunk(input, None, sites)?;
        self.start(input.tokens.len());
        Ok(())
    }

    /// As [`Self::run`], but without a way back, which is less work.
    pub fn run_only(&mut self, input: ForwardInput<'_>, sites: &mut SiteWork<'_, O>) -> Result<()> {
        refuse_head(sites.edits)?;
        let aside = self.forward.lay_aside();
        let done = self.forward.run_trunk(input, None, sites);
        self.forward.take_up(aside);
        done
    }

    /// No gradient yet, of so many tokens.
    pub(super) fn start(&mut self, tokens: usize) {
        self.g.set_rows(&self.forward.ops, tokens);
        self.forget_gradients();
    }

    /// As after a run: another number of the batch that was run last can be scored and taken back.
    pub fn forget_gradients(&mut self) {
        self.scored = false;
        self.forward.ops.edit(&Edit::zero(), &mut self.g.x);
        self.forward.ops.edit(&Edit::zero(), &mut self.g.h);
    }

    /// The way back of the batch that was run last, from what was scored and from the seeds.
    pub fn back(&mut self, input: ForwardInput<'_>, work: &mut GradientWork<'_, O>) -> Result<()> {
        if let Some(&last) = work.wanted.first() {
            let positions = self.forward.positions(input);
            self.back_blocks(0, (input.starts, &positions), None, work)?;
            let site = Site::global(SiteKind::Embeddings);
            if last <= site {
                work.site(&self.forward.ops, site, (&mut self.g.x, None))?;
            }
        }
        self.forward.ops.check()
    }

    /// Blocks from the last to `first`, or as far as anything is wanted.
    pub(super) fn back_blocks(
        &mut self,
        first: usize,
        (starts, positions): (&[u32], &[u32]),
        attend: Option<&dyn AttendGradient<O>>,
        work: &mut GradientWork<'_, O>,
    ) -> Result<()> {
        work.check()?;
        // Before the first number whose gradient is asked for, everything is 0.
        let first_seed = work.seeds.keys().next_back().copied();
        let from_head = self.scored || first_seed >= Some(Site::global(SiteKind::FinalNorm));
        if from_head {
            self.through_final_norm(work)?;
        }
        for layer in (first..self.forward.spec.layers).rev() {
            let Forward { ops, spec, weights, work: forward, layers, .. } = &mut self.forward;
            let mut block = BlockGradient {
                ops,
                spec,
                all: weights,
                transposed: &self.transposed[layer],
                own: &layers[layer],
                g: &mut self.g,
                layer,
                reach: forward.reach,
                attend,
            };
            let at = u32::try_from(layer).expect("few layers");
            let [pre, post] =
                [SiteKind::ResidPre, SiteKind::ResidPost].map(|kind| Site::of_layer(at, kind));
            if !from_head && first_seed < Some(pre) {
                continue;
            }
            work.site(ops, post, (&mut block.g.x, None))?;
            if !work.below(post) || !block.run((starts, positions), work)? {
                break;
            }
            work.site(ops, pre, (&mut block.g.x, None))?;
        }
        Ok(())
    }
}

impl<O: GradientOps> Differentiable<O> {
    /// The gradient of the stream from that of what the head reads.
    fn through_final_norm(&mut self, work: &mut GradientWork<'_, O>) -> Result<()> {
        let Forward { ops, weights, work: forward, .. } = &self.forward;
        work.site(ops, Site::global(SiteKind::FinalNorm), (&mut self.g.h, None))?;
        if let Some(norm) = &weights.final_norm {
            ops.norm_grad(norm, &forward.x, &mut self.g.h);
        }
        ops.add(&mut self.g.x, &self.g.h);
        Ok(())
    }
}
