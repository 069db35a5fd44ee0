//! The forward pass: one program for every [`ModelSpec`], over any device's [`Ops`].
//!
//! It makes each site in order, applies the edits asked of it, and lends it to the visitor; it
//! stops after the last site that anybody wants.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use super::block::{Attend, Block};
use super::head::HeadSteps;
use super::layer_buffers::{Kept, LayerBuffers};
use super::ops::{Edit, Epilogue, Ops, Pooling, RowRuns};
use super::positions::position_rows;
use super::site_view::{SiteView, SiteVisitor};
use super::weights::{self, ForwardWeights};
use super::workspace::Workspace;
use crate::corpus::batch::Batch;
use crate::error::{Error, Result};
use crate::id::{Site, SiteKind};
use crate::model::{Activation, Model, ModelSpec};

/// Upper bounds of every batch, fixed when the workspace is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Tokens of a batch.
    pub tokens: usize,
    /// Tokens of a sequence, and one more than the largest position.
    pub sequence: usize,
}

/// What the forward pass runs over.
#[derive(Clone, Copy, Debug)]
pub struct ForwardInput<'a> {
    /// Token ids, sequences end to end, `[T]`.
    pub tokens: &'a [u32],
    /// Where each sequence starts, and the end, `[S + 1]`.
    pub starts: &'a [u32],
    /// Token types; all 0 if not given.
    pub token_types: Option<&'a [u32]>,
    /// Positions; counted from 0 in each sequence if not given.
    pub positions: Option<&'a [u32]>,
}

impl<'a> ForwardInput<'a> {
    /// A packed batch: token types 0, positions from 0.
    pub fn of(batch: &'a Batch) -> Self {
        let (tokens, starts) = (&batch.tokens[..], &batch.starts[..]);
        Self { tokens, starts, token_types: None, positions: None }
    }
}

/// What is done at the sites during one pass.
pub struct SiteWork<'a, O: Ops> {
    /// Sites to visit.
    pub wanted: &'a BTreeSet<Site>,
    /// Edits, applied when the site is made and before anything reads it.
    pub edits: &'a BTreeMap<Site, Vec<Edit>>,
    /// Who reads.
    pub visitor: &'a mut dyn SiteVisitor<O>,
}

impl<O: Ops> SiteWork<'_, O> {
    /// Whether anybody reads or writes a site. Where nobody does, it need not be made on its own.
    pub(super) fn touches(&self, site: Site) -> bool {
        self.wanted.contains(&site) || self.edits.contains_key(&site)
    }

    /// Refuses edits that the batch or the model has no room for.
    pub(super) fn check(&self, spec: &ModelSpec, starts: &[u32]) -> Result<()> {
        let sequences = starts.len() - 1;
        for (&site, edits) in self.edits {
            let place = format!("edit of {site}");
            if !spec.has_site(site) || site.kind == SiteKind::AttnProbs {
                let what = "the model has no such site, or it can only be read";
                return Err(Error::config(place, what, "see `electrode inspect MODEL`"));
            }
            let rows = match spec.row_per_sequence(site) {
                true => sequences,
                false => starts[sequences] as usize,
            };
            for edit in edits {
                edit.check(&place, (rows, spec.site_width(site)))?;
            }
        }
        Ok(())
    }

    /// Applies the edits of a site, then lends it to the visitor if it is wanted.
    pub(super) fn site(&mut self, ops: &O, site: Site, values: &mut O::Tensor) -> Result<()> {
        for edit in self.edits.get(&site).into_iter().flatten() {
            ops.edit(edit, values);
        }
        if self.wanted.contains(&site) {
            self.visitor.change(ops, site, values)?;
            self.visitor.visit(ops, &SiteView { site, values })?;
        }
        Ok(())
    }
}

/// A model on a device, ready to run batches.
pub struct Forward<O: Ops> {
    pub(super) ops: O,
    pub(super) spec: ModelSpec,
    pub(super) weights: ForwardWeights<O>,
    pub(super) work: Workspace<O>,
    /// One for all layers, or one for each.
    pub(super) layers: Vec<LayerBuffers<O>>,
    limits: Limits,
    types: Vec<u32>,
}

impl<O: Ops> Forward<O> {
    /// Uploads the weights and makes the workspace. `wanted` decides which buffers exist.
    pub fn new(ops: O, model: &Model, limits: Limits, wanted: &BTreeSet<Site>) -> Result<Self> {
        let with_head =
            wanted.iter().any(|site| matches!(site.kind, SiteKind::Logits | SiteKind::HeadHidden));
        Self::build(ops, model, limits, (wanted, with_head, false))
    }

    /// The same; `keep` gives each layer its own buffers and what gradients need of them.
    pub(super) fn build(
        ops: O,
        model: &Model,
        limits: Limits,
        (wanted, with_head, keep): (&BTreeSet<Site>, bool, bool),
    ) -> Result<Self> {
        let weights = weights::load(&ops, model, limits.sequence, with_head)?;
        let work = Workspace::new(&ops, &model.spec, limits, wanted)?;
        let layers = if keep { model.spec.layers } else { 1 };
        let layers = (0..layers)
            .map(|_| LayerBuffers::new(&ops, &model.spec, limits.tokens, keep))
            .collect::<Result<_>>()?;
        let types = vec![0; limits.tokens];
        Ok(Self { ops, spec: model.spec.clone(), weights, work, layers, limits, types })
    }

    /// The device.
    pub fn ops(&self) -> &O {
        &self.ops
    }

    /// The largest batch and sequence.
    pub fn limits(&self) -> Limits {
        self.limits
    }

    /// The model's description.
    pub fn spec(&self) -> &ModelSpec {
        &self.spec
    }

    /// Runs one batch.
    pub fn run(&mut self, input: ForwardInput<'_>, sites: &mut SiteWork<'_, O>) -> Result<()> {
        let layers = self.layers_needed(sites.wanted);
        self.blocks((input, None), layers, sites)?;
        if sites.wanted.iter().any(|site| site.layer.is_none() && site.kind > SiteKind::ResidPost) {
            self.tail(input.starts, sites)?;
        }
        self.ops.check()
    }

    /// Runs one batch up to the final norm, and all of that, whatever is wanted; with another
    /// attention where one is given.
    pub(super) fn run_trunk(
        &mut self,
        input: ForwardInput<'_>,
        attend: Option<&mut dyn Attend<O>>,
        sites: &mut SiteWork<'_, O>,
    ) -> Result<()> {
        self.blocks((input, attend), self.spec.layers, sites)?;
        final_norm(&self.ops, &self.weights, &mut self.work);
        sites.site(&self.ops, Site::global(SiteKind::FinalNorm), &mut self.work.h)?;
        self.ops.check()
    }

    /// The embeddings and the first so many blocks.
    fn blocks(
        &mut self,
        (input, attend): (ForwardInput<'_>, Option<&mut dyn Attend<O>>),
        layers: usize,
        sites: &mut SiteWork<'_, O>,
    ) -> Result<()> {
        let tokens = input.tokens.len();
        assert!(tokens <= self.limits.tokens, "batch of {tokens} tokens over the limit");
        assert_eq!(input.starts.last().map(|&end| end as usize), Some(tokens));
        let vocab = self.spec.vocab;
        if let Some(id) = input.tokens.iter().find(|id| **id as usize >= vocab) {
            let what = format!("token id {id}, but the model's table has {vocab} rows");
            return Err(Error::input("tokenizer.json", what, "use the tokenizer of this model"));
        }
        sites.check(&self.spec, input.starts)?;
        self.set_rows(tokens, input.starts);
        let positions = self.positions(input);
        self.embed(input, &positions, sites)?;
        self.blocks_from(0..layers, (input.starts, &positions), attend, sites)
    }

    /// Blocks over the stream in `work.x`.
    pub(super) fn blocks_from(
        &mut self,
        layers: Range<usize>,
        (starts, positions): (&[u32], &[u32]),
        mut attend: Option<&mut dyn Attend<O>>,
        sites: &mut SiteWork<'_, O>,
    ) -> Result<()> {
        for layer in layers {
            let own = if self.layers.len() == 1 { 0 } else { layer };
            let buffers = (&mut self.work, &mut self.layers[own]);
            let block = Block::new(&self.ops, (&self.spec, &self.weights), buffers, layer);
            let attend = attend.as_mut().map(|attend| &mut **attend as &mut dyn Attend<O>);
            let mut block = block.attending(attend);
            block.show(sites, SiteKind::ResidPre)?;
            block.run(starts, positions, sites)?;
            block.show(sites, SiteKind::ResidPost)?;
        }
        Ok(())
    }

    /// Takes away what gradients alone need, so that it is not filled.
    pub(super) fn lay_aside(&mut self) -> Vec<Option<Kept<O>>> {
        self.layers.iter_mut().map(|layer| layer.kept.take()).collect()
    }

    /// Puts it back.
    pub(super) fn take_up(&mut self, aside: Vec<Option<Kept<O>>>) {
        self.layers.iter_mut().zip(aside).for_each(|(layer, kept)| layer.kept = kept);
    }

    /// Sets the rows of every buffer for a batch.
    pub(super) fn set_rows(&mut self, tokens: usize, starts: &[u32]) {
        self.work.set_rows(&self.ops, tokens, starts);
        for layer in &mut self.layers {
            layer.set_rows(&self.ops, tokens);
        }
    }

    /// Position of each token in its sequence.
    pub(super) fn positions(&self, input: ForwardInput<'_>) -> Vec<u32> {
        if let Some(given) = input.positions {
            return given.to_vec();
        }
        input.starts.windows(2).flat_map(|pair| 0..pair[1] - pair[0]).collect()
    }

    /// Blocks after the last wanted site need not run.
    fn layers_needed(&self, wanted: &BTreeSet<Site>) -> usize {
        let last = wanted.iter().next_back();
        match last.map(|site| (site.layer, site.kind)) {
            Some((Some(layer), _)) => layer as usize + 1,
            Some((None, kind)) if kind > SiteKind::ResidPost => self.spec.layers,
            _ => 0,
        }
    }

    fn embed(
        &mut self,
        input: ForwardInput<'_>,
        positions: &[u32],
        sites: &mut SiteWork<'_, O>,
    ) -> Result<()> {
        let (ops, weights, work) = (&self.ops, &self.weights, &mut self.work);
        let embedding = &self.spec.embedding;
        let late_positions = embedding.project.is_some_and(|p| p.before_positions);
        let (target, scratch) = match (&mut work.narrow, &mut work.narrow_copy) {
            (Some(narrow), Some(copy)) => (narrow, copy),
            _ => (&mut work.x, &mut work.h),
        };
        let sum = if weights.embedding_norm.is_some() { &mut *scratch } else { &mut *target };
        ops.embed(&weights.tokens, input.tokens, embedding.scale, sum);
        if let Some(types) = &weights.token_types {
            let zeros = &self.types[..input.tokens.len()];
            ops.embed_add(types, input.token_types.unwrap_or(zeros), sum);
        }
        let rows = position_rows(&self.spec, input.tokens, input.starts, positions);
        let table = weights.positions.as_ref().zip(rows.as_ref());
        if let (Some((table, rows)), false) = (table, late_positions) {
            ops.embed_add(table, rows, sum);
        }
        if let Some(norm) = &weights.embedding_norm {
            ops.norm(norm, scratch, target);
        }
        if let Some(narrow) = work.narrow.as_mut() {
            sites.site(ops, Site::global(SiteKind::EmbeddingsNarrow), narrow)?;
            match &weights.project {
                Some(project) => ops.linear(project, narrow, Epilogue::Store, &mut work.x),
                None => ops.copy(narrow, &mut work.x),
            }
        }
        if let (Some((table, rows)), true) = (table, late_positions) {
            ops.embed_add(table, rows, &mut work.x);
        }
        sites.site(ops, Site::global(SiteKind::Embeddings), &mut work.x)
    }

    fn tail(&mut self, starts: &[u32], sites: &mut SiteWork<'_, O>) -> Result<()> {
        let (ops, weights, work) = (&self.ops, &self.weights, &mut self.work);
        final_norm(ops, weights, work);
        sites.site(ops, Site::global(SiteKind::FinalNorm), &mut work.h)?;
        if let (Some(pooler), Some(pooled)) = (&weights.pooler, work.pooled.as_mut()) {
            let first = &starts[..starts.len() - 1];
            let ones = &work.ones[..first.len()];
            let runs = RowRuns { first, len: ones };
            ops.pool(Pooling::First, runs, &work.h, &mut pooled.first);
            let then = Epilogue::Activate(Activation::Tanh);
            ops.linear(pooler, &pooled.first, then, &mut pooled.out);
            sites.site(ops, Site::global(SiteKind::Pooled), &mut pooled.out)?;
        }
        self.head(sites)
    }

    fn head(&mut self, sites: &mut SiteWork<'_, O>) -> Result<()> {
        let (ops, head, work) = (&self.ops, &self.weights.head, &mut self.work);
        let Some(last) = &head.last else { return Ok(()) };
        let steps = HeadSteps::of(&self.spec.head);
        if let (Some(dense), Some(hidden)) = (&head.dense, work.head.as_mut()) {
            let then = steps.activation.map_or(Epilogue::Store, Epilogue::Activate);
            ops.linear(dense, &work.h, then, &mut hidden.out);
            if let Some(norm) = &head.norm {
                ops.copy(&hidden.out, &mut hidden.dense);
                ops.norm(norm, &hidden.dense, &mut hidden.out);
            }
            sites.site(ops, Site::global(SiteKind::HeadHidden), &mut hidden.out)?;
        }
        let Some(logits) = work.logits.as_mut() else { return Ok(()) };
        let input = match (&work.head, &work.pooled) {
            (_, Some(pooled)) if steps.pooled => &pooled.out,
            (Some(hidden), _) => &hidden.out,
            _ => &work.h,
        };
        ops.linear(last, input, Epilogue::Store, logits);
        if let Some(cap) = steps.softcap {
            ops.softcap(cap, logits);
        }
        sites.site(ops, Site::global(SiteKind::Logits), logits)
    }
}

/// The stream as the head reads it, from `x` into `h`.
pub(super) fn final_norm<O: Ops>(ops: &O, weights: &ForwardWeights<O>, work: &mut Workspace<O>) {
    match &weights.final_norm {
        Some(norm) => ops.norm(norm, &work.x, &mut work.h),
        None => ops.copy(&work.x, &mut work.h),
    }
}
