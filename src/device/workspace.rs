//! The forward pass's buffers: made once for the largest batch, never inside one.

use std::collections::BTreeSet;

use super::forward::Limits;
use super::ops::Ops;
use crate::error::Result;
use crate::id::{Site, SiteKind};
use crate::model::ModelSpec;

/// Buffers of one forward pass. Names follow the program in `forward.rs`.
pub(super) struct Workspace<O: Ops> {
    /// The stream, `[T, D]`.
    pub(super) x: O::Tensor,
    /// What a branch reads, `[T, D]`.
    pub(super) h: O::Tensor,
    /// What a branch gives, `[T, D]`.
    pub(super) branch: O::Tensor,
    /// Embeddings narrower than the stream, `[T, E]`.
    pub(super) narrow: Option<O::Tensor>,
    pub(super) narrow_copy: Option<O::Tensor>,
    /// Attention probabilities, `[sum over sequences of H n n, 1]`, when wanted.
    pub(super) probs: Option<O::Tensor>,
    /// The pooler's two steps, `[S, D]`.
    pub(super) pooled: Option<Pooled<O>>,
    /// The head's hidden layer, `[T, *]`.
    pub(super) head: Option<HeadBuffers<O>>,
    /// `[T, V]`, when wanted.
    pub(super) logits: Option<O::Tensor>,
    /// Lengths of runs of one token.
    pub(super) ones: Vec<u32>,
    /// Largest distance in T5's table.
    pub(super) reach: usize,
    heads: usize,
    logits_per_sequence: bool,
}

/// Buffers of the pooler.
pub(super) struct Pooled<O: Ops> {
    pub(super) first: O::Tensor,
    pub(super) out: O::Tensor,
}

/// Buffers of a head with two matrices.
pub(super) struct HeadBuffers<O: Ops> {
    pub(super) dense: O::Tensor,
    pub(super) out: O::Tensor,
}

impl<O: Ops> Workspace<O> {
    /// Buffers for batches within `limits` that show the sites in `wanted`.
    pub(super) fn new(
        ops: &O,
        spec: &ModelSpec,
        limits: Limits,
        wanted: &BTreeSet<Site>,
    ) -> Result<Self> {
        let tokens = |cols: usize| ops.tensor(limits.tokens, cols);
        let wants = |kind: SiteKind| wanted.iter().any(|site| site.kind == kind);
        let heads = spec.attention.heads;
        let embedding = &spec.embedding;
        let narrow = embedding.narrow_site || embedding.project.is_some();
        let tail = wants(SiteKind::Logits) || wants(SiteKind::HeadHidden);
        let hidden = spec.head_hidden_width().filter(|_| tail);
        let narrow_buffer = || narrow.then(|| tokens(spec.embedding.width)).transpose();
        Ok(Self {
            x: tokens(spec.width)?,
            h: tokens(spec.width)?,
            branch: tokens(spec.width)?,
            narrow: narrow_buffer()?,
            narrow_copy: narrow_buffer()?,
            probs: wants(SiteKind::AttnProbs)
                .then(|| ops.cells(limits.tokens * limits.sequence * heads))
                .transpose()?,
            pooled: spec.pooler.then(|| Pooled::new(ops, spec, limits)).transpose()?,
            head: hidden
                .map(|cols| {
                    Ok::<_, crate::error::Error>(HeadBuffers {
                        dense: tokens(cols)?,
                        out: tokens(cols)?,
                    })
                })
                .transpose()?,
            logits: spec.classes().filter(|_| wants(SiteKind::Logits)).map(tokens).transpose()?,
            ones: vec![1; limits.tokens],
            reach: limits.sequence.max(1) - 1,
            heads,
            logits_per_sequence: spec.logits_per_sequence(),
        })
    }

    /// Sets the rows of every buffer for a batch.
    pub(super) fn set_rows(&mut self, ops: &O, tokens: usize, starts: &[u32]) {
        let sequences = starts.len() - 1;
        for tensor in [&mut self.x, &mut self.h, &mut self.branch] {
            ops.set_rows(tensor, tokens);
        }
        let head = self.head.iter_mut().flat_map(|head| [&mut head.dense, &mut head.out]);
        let optional = [&mut self.narrow, &mut self.narrow_copy];
        for tensor in optional.into_iter().flatten().chain(head) {
            ops.set_rows(tensor, tokens);
        }
        if let Some(probs) = &mut self.probs {
            let cells = starts.windows(2).map(|pair| ((pair[1] - pair[0]) as usize).pow(2));
            ops.set_rows(probs, cells.sum::<usize>() * self.heads);
        }
        if let Some(pooled) = &mut self.pooled {
            for tensor in [&mut pooled.first, &mut pooled.out] {
                ops.set_rows(tensor, sequences);
            }
        }
        if let Some(logits) = &mut self.logits {
            ops.set_rows(logits, if self.logits_per_sequence { sequences } else { tokens });
        }
    }
}

impl<O: Ops> Pooled<O> {
    fn new(ops: &O, spec: &ModelSpec, limits: Limits) -> Result<Self> {
        let rows = || ops.tensor(limits.tokens, spec.width);
        Ok(Self { first: rows()?, out: rows()? })
    }
}
