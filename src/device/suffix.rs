//! Many edited copies of one batch from the neurons of a layer on. Changing neurons of layer l
//! leaves all below as it is, and in a causal model all tokens before the first changed one: what
//! comes before is run once ([`Differentiable::hold`]), and the copies go on from there
//! ([`Differentiable::resume`]), sharing the keys and values of their past.
//!
//! A neuron's value reaches the stream through one column of the down projection, so a change of a
//! neuron is a rank-one change of what the MLP gives.

use std::collections::{BTreeMap, BTreeSet};

use super::backward::{Differentiable, GradientWork, refuse_head};
use super::block::Attend;
use super::block_gradient::AttendGradient;
use super::forward::{ForwardInput, SiteWork, final_norm};
use super::ops::{AttentionArgs, Epilogue, Ops, Pooling, RowRuns};
use super::site_view::{SiteView, SiteVisitor};
use super::suffix_ops::{Past, SuffixOps};
use crate::error::Result;
use crate::id::{Site, SiteKind};
use crate::model::BlockSpec;

/// A batch after its unedited run: what the layers' ends are made of.
pub struct Held<O: Ops> {
    starts: Vec<u32>,
    positions: Vec<u32>,
    layers: BTreeMap<usize, HeldLayer<O>>,
    /// Keys and values of every token and layer, `[T, 2 K d]`; in causal models.
    pasts: Vec<O::Tensor>,
}

/// `[T, *]` each.
struct HeldLayer<O: Ops> {
    /// What the MLP is added to.
    base: O::Tensor,
    branch: O::Tensor,
    act: O::Tensor,
}

impl<O: Ops> Held<O> {
    /// The neurons of a layer that was held.
    pub fn neurons(&self, layer: usize) -> &O::Tensor {
        &self.layers[&layer].act
    }

    /// Where the sequences start, and the end.
    pub fn starts(&self) -> &[u32] {
        &self.starts
    }

    /// Copies of sequences, each from a token on, counted inside the sequence: `(sequence, from)`.
    /// A model whose tokens see what follows needs whole sequences: `from` is 0 then.
    pub fn copies(&self, of: impl IntoIterator<Item = (usize, usize)>) -> Copies {
        let mut copies = Copies { starts: vec![0], ..Copies::default() };
        for (sequence, from) in of {
            let from = if self.pasts.is_empty() { 0 } else { from };
            let start = self.starts[sequence];
            let first = start + u32::try_from(from).expect("short");
            copies.tokens.extend(first..self.starts[sequence + 1]);
            copies.starts.push(u32::try_from(copies.tokens.len()).expect("a batch is small"));
            copies.pasts.push([start, first - start]);
        }
        let positions = &self.positions;
        copies.positions = copies.tokens.iter().map(|&token| positions[token as usize]).collect();
        copies
    }
}

/// Which tokens of a held batch are run again, as sequences of a new one.
#[derive(Clone, Debug, Default)]
pub struct Copies {
    /// Token of the held batch that each token is a copy of.
    pub tokens: Vec<u32>,
    /// Where each copy starts, and the end.
    pub starts: Vec<u32>,
    positions: Vec<u32>,
    pasts: Vec<[u32; 2]>,
}

/// What is different in the copies.
#[derive(Debug)]
pub enum Change<'a, T> {
    /// One neuron for each token: it becomes `scale * x + shift`.
    Neuron {
        /// The neuron.
        of: &'a [u32],
        /// Its factor.
        scale: &'a [f32],
        /// What is added.
        shift: &'a [f32],
    },
    /// All neurons of some tokens.
    Rows {
        /// Tokens of the copies, each once.
        rows: &'a [u32],
        /// Their neurons, `[R, F]`.
        act: &'a T,
        /// Room for what the MLP gives, `[R, D]`.
        branch: &'a mut T,
    },
}

/// Copies what a held layer needs on the way forward.
struct Holder<'a, O: Ops> {
    parallel: bool,
    layers: &'a mut BTreeMap<usize, HeldLayer<O>>,
}

impl<O: Ops> SiteVisitor<O> for Holder<'_, O> {
    fn visit(&mut self, ops: &O, view: &SiteView<'_, O>) -> Result<()> {
        let layer = view.site.layer.expect("sites of layers are asked for") as usize;
        let Some(held) = self.layers.get_mut(&layer) else { return Ok(()) };
        match view.site.kind {
            SiteKind::MlpAct => ops.copy(view.values, &mut held.act),
            SiteKind::MlpOut => ops.copy(view.values, &mut held.branch),
            SiteKind::AttnOut if self.parallel => ops.add(&mut held.base, view.values),
            _ => ops.copy(view.values, &mut held.base),
        }
        Ok(())
    }
}

/// Attention over the past of each copy.
struct OnPasts<'a, O: SuffixOps> {
    pasts: &'a [O::Tensor],
    rows: &'a [[u32; 2]],
}

impl<O: SuffixOps> Attend<O> for OnPasts<'_, O> {
    fn attend(
        &mut self,
        ops: &O,
        layer: usize,
        args: &AttentionArgs<'_, O::Vector>,
        (qkv, out): (&O::Tensor, &mut O::Tensor),
    ) {
        let past = Past { kv: &self.pasts[layer], rows: self.rows };
        ops.attention_past(args, past, qkv, out);
    }
}

impl<O: SuffixOps> AttendGradient<O> for OnPasts<'_, O> {
    fn attend_gradient(
        &self,
        ops: &O,
        layer: usize,
        args: &AttentionArgs<'_, O::Vector>,
        (qkv, g, out): (&O::Tensor, &O::Tensor, &mut O::Tensor),
    ) {
        let past = Past { kv: &self.pasts[layer], rows: self.rows };
        ops.attention_past_grad(args, past, (qkv, g), out);
    }
}

impl<O: SuffixOps> Differentiable<O> {
    /// Runs a batch unedited and holds what its copies from these layers on need.
    pub fn hold(&mut self, input: ForwardInput<'_>, layers: &[usize]) -> Result<Held<O>> {
        let (ops, spec) = (&self.forward.ops, &self.forward.spec);
        let tokens = input.tokens.len();
        let room = |cols: usize| {
            let mut tensor = ops.tensor(tokens, cols)?;
            ops.set_rows(&mut tensor, tokens);
            Ok::<_, crate::error::Error>(tensor)
        };
        let parallel = matches!(spec.block, BlockSpec::Parallel | BlockSpec::ParallelSharedNorm);
        let base = if parallel {
            &[SiteKind::ResidPre, SiteKind::AttnOut][..]
        } else {
            &[SiteKind::ResidMid][..]
        };
        let (mut held, mut wanted) = (BTreeMap::new(), BTreeSet::new());
        for &layer in layers {
            let act = room(spec.mlp.width)?;
            held.insert(
                layer,
                HeldLayer { base: room(spec.width)?, branch: room(spec.width)?, act },
            );
            let at = u32::try_from(layer).expect("few layers");
            let kinds = base.iter().chain(&[SiteKind::MlpAct, SiteKind::MlpOut]);
            wanted.extend(kinds.map(|&kind| Site::of_layer(at, kind)));
        }
        let width = 2 * spec.attention.kv_heads * spec.attention.head_width;
        let layers = if spec.attention.causal { spec.layers } else { 0 };
        let mut pasts = (0..layers).map(|_| room(width)).collect::<Result<Vec<_>>>()?;
        let positions = self.forward.positions(input);
        let edits = BTreeMap::new();
        let mut holder = Holder { parallel, layers: &mut held };
        let mut sites = SiteWork { wanted: &wanted, edits: &edits, visitor: &mut holder };
        self.run(input, &mut sites)?;
        let all: Vec<u32> = (0..).take(tokens).collect();
        for (past, own) in pasts.iter_mut().zip(&self.forward.layers) {
            self.forward.ops.store_past(&own.qkv, &all, &all, past);
        }
        Ok(Held { starts: input.starts.to_vec(), positions, layers: held, pasts })
    }

    /// Runs copies of a held batch from the neurons of `layer` on, up to the final norm.
    pub fn resume(
        &mut self,
        held: &Held<O>,
        from: (usize, &Copies),
        change: Change<'_, O::Tensor>,
        sites: &mut SiteWork<'_, O>,
    ) -> Result<()> {
        self.go_on(held, from, change, sites)?;
        self.start(from.1.tokens.len());
        Ok(())
    }

    /// The same without a way back, which is less work.
    pub fn resume_only(
        &mut self,
        held: &Held<O>,
        from: (usize, &Copies),
        change: Change<'_, O::Tensor>,
        sites: &mut SiteWork<'_, O>,
    ) -> Result<()> {
        let aside = self.forward.lay_aside();
        let done = self.go_on(held, from, change, sites);
        self.forward.take_up(aside);
        done
    }

    fn go_on(
        &mut self,
        held: &Held<O>,
        (layer, copies): (usize, &Copies),
        change: Change<'_, O::Tensor>,
        sites: &mut SiteWork<'_, O>,
    ) -> Result<()> {
        refuse_head(sites.edits)?;
        sites.check(&self.forward.spec, &copies.starts)?;
        self.forward.set_rows(copies.tokens.len(), &copies.starts);
        self.enter(&held.layers[&layer], (layer, copies), change);
        let site = Site::of_layer(u32::try_from(layer).expect("few layers"), SiteKind::ResidPost);
        sites.site(&self.forward.ops, site, &mut self.forward.work.x)?;
        let model = &mut self.forward;
        let mut on_pasts = OnPasts::<O> { pasts: &held.pasts, rows: &copies.pasts };
        let attend: Option<&mut dyn Attend<O>> =
            if held.pasts.is_empty() { None } else { Some(&mut on_pasts) };
        let tokens = (&copies.starts[..], &copies.positions[..]);
        model.blocks_from(layer + 1..model.spec.layers, tokens, attend, sites)?;
        final_norm(&model.ops, &model.weights, &mut model.work);
        sites.site(&model.ops, Site::global(SiteKind::FinalNorm), &mut model.work.h)?;
        model.ops.check()
    }

    /// The stream after `layer`, with the change in it.
    fn enter(
        &mut self,
        held: &HeldLayer<O>,
        (layer, copies): (usize, &Copies),
        change: Change<'_, O::Tensor>,
    ) {
        let model = &mut self.forward;
        let (ops, work, own) = (&model.ops, &mut model.work, &mut model.layers[layer]);
        let weights = &model.weights.layers[layer];
        let ones = &work.ones[..copies.tokens.len()];
        let runs = RowRuns { first: &copies.tokens, len: ones };
        ops.pool(Pooling::First, runs, &held.branch, &mut work.branch);
        match change {
            Change::Neuron { of, scale, shift } => {
                let places = (&copies.tokens[..], of);
                ops.shift_neurons(
                    &weights.down,
                    places,
                    (&held.act, scale, shift),
                    &mut work.branch,
                );
            }
            Change::Rows { rows, act, branch } => {
                ops.linear(&weights.down, act, Epilogue::Store, branch);
                ops.put_rows(rows, branch, &mut work.branch);
            }
        }
        ops.pool(Pooling::First, runs, &held.base, &mut work.x);
        match model.spec.block {
            BlockSpec::PostNorm => {
                let norm = weights.mlp_norm.as_ref().expect("post-norm blocks have two norms");
                std::mem::swap(&mut work.x, &mut work.h);
                ops.add_norm(norm, &work.h, &work.branch, &mut work.x);
                if let Some(sum) = own.kept.as_mut().and_then(|kept| kept.mlp_norm_in.as_mut()) {
                    ops.copy(&work.h, sum);
                    ops.add(sum, &work.branch);
                }
            }
            BlockSpec::Sandwich => {
                let norm = weights.mlp_post_norm.as_ref().expect("sandwich blocks have it");
                ops.norm(norm, &work.branch, &mut work.h);
                ops.add(&mut work.x, &work.h);
                if let Some([_, mlp]) = own.kept.as_mut().and_then(|kept| kept.branches.as_mut()) {
                    ops.copy(&work.branch, mlp);
                }
            }
            BlockSpec::ResidualAfterNorm => {
                let norm = weights.mlp_norm.as_ref().expect("serial blocks have two norms");
                ops.norm(norm, &work.x, &mut work.h);
                std::mem::swap(&mut work.x, &mut work.h);
                ops.add(&mut work.x, &work.branch);
            }
            BlockSpec::PreNorm | BlockSpec::Parallel | BlockSpec::ParallelSharedNorm => {
                ops.add(&mut work.x, &work.branch);
            }
        }
    }

    /// The way back of copies that were resumed last, to the neurons of `layer`: the gradient of
    /// those of `rows`, `[R, F]`, into `out`; `branch` is room for `[R, D]`.
    pub fn back_to_neurons(
        &mut self,
        held: &Held<O>,
        (layer, copies, rows): (usize, &Copies, &[u32]),
        (branch, out): (&mut O::Tensor, &mut O::Tensor),
        work: &mut GradientWork<'_, O>,
    ) -> Result<()> {
        let on_pasts = OnPasts::<O> { pasts: &held.pasts, rows: &copies.pasts };
        let attend: Option<&dyn AttendGradient<O>> =
            if held.pasts.is_empty() { None } else { Some(&on_pasts) };
        let mut wanted = work.wanted.clone();
        let at = u32::try_from(layer).expect("few layers");
        wanted.insert(Site::of_layer(at, SiteKind::MlpAct));
        let mut work = GradientWork {
            wanted: &wanted,
            edits: work.edits,
            seeds: work.seeds,
            visitor: &mut *work.visitor,
        };
        self.back_blocks(layer + 1, (&copies.starts, &copies.positions), attend, &mut work)?;
        let model = &self.forward;
        // The copies begin here: no block has come by this site.
        work.site(&model.ops, Site::of_layer(at, SiteKind::ResidPost), (&mut self.g.x, None))?;
        let (ops, weights) = (&model.ops, &model.weights.layers[layer]);
        let kept = model.layers[layer].kept.as_ref().expect("its layers are kept");
        let norm = match model.spec.block {
            BlockSpec::PostNorm => weights.mlp_norm.as_ref().zip(kept.mlp_norm_in.as_ref()),
            BlockSpec::Sandwich => {
                let mlp = kept.branches.as_ref().map(|[_, mlp]| mlp);
                weights.mlp_post_norm.as_ref().zip(mlp)
            }
            _ => None,
        };
        if let Some((norm, norm_in)) = norm {
            ops.norm_grad(norm, norm_in, &mut self.g.x);
        }
        let runs = RowRuns { first: rows, len: &model.work.ones[..rows.len()] };
        ops.pool(Pooling::First, runs, &self.g.x, branch);
        ops.linear(&self.transposed[layer].down, branch, Epilogue::Store, out);
        ops.check()
    }
}
