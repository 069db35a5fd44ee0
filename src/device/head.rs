//! The head on chosen rows of the trunk: its steps, and the buffers of a piece of rows on their way
//! to the logits.

use super::forward::Forward;
use super::ops::{Epilogue, Ops, Pooling, RowRuns};
use super::weights::ForwardWeights;
use crate::error::Result;
use crate::model::{Activation, HeadSpec, ModelSpec};

/// Logits of a piece, at most, unless one row has more.
const PIECE: usize = 4 << 20;

/// Rows of a piece, of at most `most`.
pub(super) fn piece_rows(classes: usize, most: usize) -> usize {
    (PIECE / classes.max(1)).clamp(1, most)
}

/// The steps of a head between the trunk and its last matrix.
#[derive(Clone, Copy, Debug)]
pub(super) struct HeadSteps {
    pub(super) activation: Option<Activation>,
    pub(super) softcap: Option<f32>,
    /// Its rows are sequences, read through the pooler.
    pub(super) pooled: bool,
}

impl HeadSteps {
    pub(super) fn of(head: &HeadSpec) -> Self {
        let plain = Self { activation: None, softcap: None, pooled: false };
        match *head {
            HeadSpec::Lm { transform, softcap, .. } => {
                Self { activation: transform.map(|t| t.activation), softcap, ..plain }
            }
            HeadSpec::Discriminator { activation } => {
                Self { activation: Some(activation), ..plain }
            }
            HeadSpec::SequenceClasses { .. } => Self { pooled: true, ..plain },
            HeadSpec::None | HeadSpec::TokenClasses { .. } => plain,
        }
    }
}

/// A piece of rows on its way to the last matrix.
pub(super) struct Hidden<O: Ops> {
    /// The trunk's rows `[C, D]`, and in pooled heads their way through the pooler.
    rows: O::Tensor,
    pub(super) pooler_pre: Option<O::Tensor>,
    pooled: Option<O::Tensor>,
    /// The dense layer, before and after its nonlinearity and after its norm, `[C, W]`.
    pub(super) dense_pre: Option<O::Tensor>,
    pub(super) dense_act: Option<O::Tensor>,
    normed: Option<O::Tensor>,
}

impl<O: Ops> Hidden<O> {
    /// Buffers for so many rows.
    pub(super) fn new(
        ops: &O,
        (spec, weights): (&ModelSpec, &ForwardWeights<O>),
        rows: usize,
    ) -> Result<Self> {
        let steps = HeadSteps::of(&spec.head);
        let piece = |cols: usize| ops.tensor(rows, cols);
        let (width, hidden) = (spec.width, spec.head_input_width());
        Ok(Self {
            rows: piece(width)?,
            pooler_pre: steps.pooled.then(|| piece(width)).transpose()?,
            pooled: steps.pooled.then(|| piece(width)).transpose()?,
            dense_pre: weights.head.dense.as_ref().map(|_| piece(hidden)).transpose()?,
            dense_act: steps.activation.map(|_| piece(hidden)).transpose()?,
            normed: weights.head.norm.as_ref().map(|_| piece(hidden)).transpose()?,
        })
    }

    /// What the last matrix reads.
    pub(super) fn last(&self) -> &O::Tensor {
        let steps = [&self.normed, &self.dense_act, &self.dense_pre, &self.pooled];
        steps.into_iter().flatten().next().unwrap_or(&self.rows)
    }

    pub(super) fn set_rows(&mut self, ops: &O, rows: usize) {
        let Self { rows: first, pooler_pre, pooled, dense_pre, dense_act, normed } = self;
        let optional = [pooler_pre, pooled, dense_pre, dense_act, normed];
        for tensor in optional.into_iter().flatten().chain([first]) {
            ops.set_rows(tensor, rows);
        }
    }

    /// From the trunk's rows `tokens`.
    pub(super) fn forward(
        &mut self,
        model: &Forward<O>,
        (tokens, ones): (&[u32], &[u32]),
        steps: HeadSteps,
    ) {
        let (ops, weights) = (&model.ops, &model.weights);
        gather(ops, (tokens, ones), &model.work.h, &mut self.rows);
        if let (Some(pre), Some(pooled), Some(pooler)) =
            (&mut self.pooler_pre, &mut self.pooled, &weights.pooler)
        {
            ops.linear(pooler, &self.rows, Epilogue::Store, pre);
            ops.activate(Activation::Tanh, pre, pooled);
        }
        let (Some(pre), Some(dense)) = (&mut self.dense_pre, &weights.head.dense) else { return };
        ops.linear(dense, self.pooled.as_ref().unwrap_or(&self.rows), Epilogue::Store, pre);
        let (Some(act), Some(kind)) = (&mut self.dense_act, steps.activation) else { return };
        ops.activate(kind, pre, act);
        if let (Some(normed), Some(norm)) = (&mut self.normed, &weights.head.norm) {
            ops.norm(norm, act, normed);
        }
    }
}

/// logits = cap(W hidden + b).
pub(super) fn logits_of<O: Ops>(
    model: &Forward<O>,
    (hidden, softcap): (&O::Tensor, Option<f32>),
    logits: &mut O::Tensor,
) {
    let last = model.weights.head.last.as_ref().expect("a scored model has a head");
    model.ops.linear(last, hidden, Epilogue::Store, logits);
    if let Some(cap) = softcap {
        model.ops.softcap(cap, logits);
    }
}

pub(super) fn gather<O: Ops>(
    ops: &O,
    (tokens, ones): (&[u32], &[u32]),
    x: &O::Tensor,
    out: &mut O::Tensor,
) {
    let runs = RowRuns { first: tokens, len: &ones[..tokens.len()] };
    ops.pool(Pooling::First, runs, x, out);
}
