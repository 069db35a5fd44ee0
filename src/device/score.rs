//! The head on chosen rows: what metrics need of each, and their gradients, a piece of the
//! vocabulary's rows at a time, so that no batch of logits is ever whole in memory.

use std::borrow::Cow;

use super::backward::Differentiable;
use super::edit::Edit;
use super::forward::{Forward, Limits};
use super::gradient_ops::{Against, GradientOps, Metric, SCORES};
use super::head::{HeadSteps, Hidden, gather, logits_of, piece_rows};
use super::ops::{Epilogue, Ops};
use super::suffix_ops::SuffixOps;
use super::weights::ForwardWeights;
use crate::error::{Error, Result};
use crate::model::{Activation, ModelSpec};

/// Rows to be scored, of the batch that was run last.
#[derive(Debug)]
pub struct Scoring<'a, T> {
    /// Tokens, each once; sequences where the model classifies those.
    pub rows: &'a [u32],
    /// The right answer of each row.
    pub targets: &'a [u32],
    /// The wrong answer of each row.
    pub foils: Option<&'a [u32]>,
    /// What the head's last matrix read in the run that KL compares with, `[R, W]`: that run's
    /// `keep`.
    pub reference: Option<&'a T>,
    /// Where to keep it of this run, see [`Differentiable::hidden`].
    pub keep: Option<&'a mut T>,
}

/// What scoring gives for a row.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Score {
    /// log p(target), in nats.
    pub log_prob: f32,
    /// logit(target) - logit(foil).
    pub logit_difference: f32,
    /// No logit is above the target's.
    pub correct: bool,
    /// KL(reference || this), in nats.
    pub kl: f32,
    /// 1 - cosine of this sequence's mean row of the final norm and another run's, where that is asked.
    pub cosine: f32,
    /// What a probe reads at this row, where one is asked.
    pub probe: f32,
}

impl Score {
    /// One of the numbers of which gradients can be asked.
    pub fn value(&self, metric: Metric) -> f32 {
        match metric {
            Metric::Loss => -self.log_prob,
            Metric::LogProb => self.log_prob,
            Metric::Prob => self.log_prob.exp(),
            Metric::LogitDifference => self.logit_difference,
            Metric::Kl => self.kl,
            Metric::Probe => self.probe,
        }
    }
}

/// Buffers of a piece of rows and the transposed weights of the head.
pub(super) struct Head<O: Ops> {
    steps: HeadSteps,
    /// Rows of a piece.
    room: usize,
    last: O::Matrix,
    dense: Option<O::Matrix>,
    pooler: Option<O::Matrix>,
    hidden: Hidden<O>,
    /// Differences of two logits of each row, where nothing else is asked for, `[C, 1]`.
    picked: O::Tensor,
    /// What the last matrix reads in the run compared with, `[C, W]`.
    reference_hidden: O::Tensor,
    logits: O::Tensor,
    reference: O::Tensor,
    g_logits: O::Tensor,
    g_hidden: O::Tensor,
    g_rows: O::Tensor,
    g_first: O::Tensor,
    /// `[R, SCORES]`.
    scores: O::Tensor,
    on_host: Vec<f32>,
    ones: Vec<u32>,
}

impl<O: GradientOps> Head<O> {
    pub(super) fn new(
        ops: &O,
        spec: &ModelSpec,
        weights: &ForwardWeights<O>,
        limits: Limits,
    ) -> Result<Self> {
        let (Some(last), Some(classes)) = (&weights.head.last, spec.classes()) else {
            let remedy = "use a checkpoint with its language-model or classification head";
            return Err(Error::input("config.json", "the model has no head to score", remedy));
        };
        let steps = HeadSteps::of(&spec.head);
        let room = piece_rows(classes, limits.tokens);
        let piece = |cols: usize| ops.tensor(room, cols);
        let (width, hidden) = (spec.width, spec.head_input_width());
        let dense = weights.head.dense.as_ref();
        let transposed = |weight: &O::Matrix| ops.transposed(weight);
        Ok(Self {
            steps,
            room,
            last: transposed(last)?,
            dense: dense.map(transposed).transpose()?,
            pooler: weights.pooler.as_ref().map(transposed).transpose()?,
            hidden: Hidden::new(ops, (spec, weights), room)?,
            picked: ops.exact_tensor(room, 1)?,
            reference_hidden: piece(hidden)?,
            logits: piece(classes)?,
            reference: piece(classes)?,
            g_logits: piece(classes)?,
            g_hidden: piece(hidden)?,
            g_rows: piece(width)?,
            g_first: piece(width)?,
            scores: ops.exact_tensor(limits.tokens, SCORES)?,
            on_host: Vec::new(),
            ones: vec![1; room],
        })
    }

    fn set_rows(&mut self, ops: &O, rows: usize) {
        self.hidden.set_rows(ops, rows);
        for tensor in [
            &mut self.picked,
            &mut self.reference_hidden,
            &mut self.logits,
            &mut self.reference,
            &mut self.g_logits,
            &mut self.g_hidden,
            &mut self.g_rows,
            &mut self.g_first,
        ] {
            ops.set_rows(tensor, rows);
        }
    }

    /// The tokens that rows are: sequences of pooled heads are read at their first.
    fn tokens<'a>(&self, starts: &[u32], rows: &'a [u32]) -> Cow<'a, [u32]> {
        match self.steps.pooled {
            true => rows.iter().map(|&row| starts[row as usize]).collect(),
            false => Cow::Borrowed(rows),
        }
    }

    /// The logits of a piece, and those of the run compared with.
    fn forward(
        &mut self,
        model: &Forward<O>,
        tokens: &[u32],
        (scoring, places): (&Scoring<'_, O::Tensor>, &[u32]),
    ) {
        self.hidden.forward(model, (tokens, &self.ones), self.steps);
        let softcap = self.steps.softcap;
        logits_of(model, (self.hidden.last(), softcap), &mut self.logits);
        if let Some(reference) = scoring.reference {
            gather(&model.ops, (places, &self.ones), reference, &mut self.reference_hidden);
            logits_of(model, (&self.reference_hidden, softcap), &mut self.reference);
        }
    }

    /// From the gradient of the logits to that of the trunk's rows, added to `out`.
    fn back(&mut self, model: &Forward<O>, tokens: &[u32], out: &mut O::Tensor) {
        let (ops, weights) = (&model.ops, &model.weights);
        if let Some(cap) = self.steps.softcap {
            ops.softcap_grad(cap, &self.logits, &mut self.g_logits);
        }
        let Some(dense) = &self.dense else {
            ops.linear(&self.last, &self.g_logits, Epilogue::Store, &mut self.g_rows);
            return self.pooler_back(ops, tokens, out);
        };
        ops.linear(&self.last, &self.g_logits, Epilogue::Store, &mut self.g_hidden);
        if let (Some(act), Some(norm)) = (&self.hidden.dense_act, &weights.head.norm) {
            ops.norm_grad(norm, act, &mut self.g_hidden);
        }
        if let (Some(pre), Some(kind)) = (&self.hidden.dense_pre, self.steps.activation) {
            ops.activation_grad(kind, pre, &mut self.g_hidden);
        }
        ops.linear(dense, &self.g_hidden, Epilogue::Store, &mut self.g_rows);
        self.pooler_back(ops, tokens, out);
    }

    fn pooler_back(&mut self, ops: &O, tokens: &[u32], out: &mut O::Tensor) {
        let (Some(pre), Some(pooler)) = (&self.hidden.pooler_pre, &self.pooler) else {
            return ops.scatter(tokens, &self.g_rows, out);
        };
        ops.activation_grad(Activation::Tanh, pre, &mut self.g_rows);
        ops.linear(pooler, &self.g_rows, Epilogue::Store, &mut self.g_first);
        ops.scatter(tokens, &self.g_first, out);
    }
}

impl<O: GradientOps> Differentiable<O> {
    /// A tensor to keep what the head's last matrix reads of so many rows.
    pub fn hidden(&self, rows: usize) -> Result<O::Tensor> {
        let ops = &self.forward.ops;
        let mut tensor = ops.tensor(rows, self.forward.spec.head_input_width())?;
        ops.set_rows(&mut tensor, rows);
        Ok(tensor)
    }

    /// Whether [`Self::logit_differences`] is the difference of the logits: no cap bends them, and
    /// there are two to compare.
    pub fn differences_are_plain(&self) -> bool {
        let classes = self.forward.spec.classes().unwrap_or(0);
        classes > 1 && HeadSteps::of(&self.forward.spec.head).softcap.is_none()
    }

    /// Scores rows of the batch that was run last; with a metric and a weight for each row, what is
    /// scored becomes the start of [`Self::back`].
    ///
    /// # Panics
    /// If the model was made without a head to score, the lists have different lengths, or the metric
    /// is no number of the logits.
    pub fn score(
        &mut self,
        starts: &[u32],
        mut scoring: Scoring<'_, O::Tensor>,
        gradient: Option<(Metric, &[f32])>,
    ) -> Result<Vec<Score>> {
        let Self { forward: model, head, g, scored, .. } = self;
        let head = head.as_mut().expect("made to be scored");
        let ops = &model.ops;
        let count = scoring.rows.len();
        ops.set_rows(&mut head.scores, count);
        if let Some(keep) = &mut scoring.keep {
            ops.edit(&Edit::zero(), keep);
        }
        for first in (0..count).step_by(head.room) {
            let piece = first..(first + head.room).min(count);
            head.set_rows(ops, piece.len());
            let rows = &scoring.rows[piece.clone()];
            let tokens = &*head.tokens(starts, rows);
            let places: Vec<u32> =
                piece.clone().map(|row| u32::try_from(row).expect("few")).collect();
            head.forward(model, tokens, (&scoring, &places));
            if let Some(keep) = &mut scoring.keep {
                ops.scatter(&places, head.hidden.last(), keep);
            }
            let against = Against {
                targets: &scoring.targets[piece.clone()],
                foils: scoring.foils.map(|foils| &foils[piece.clone()]),
                reference: scoring.reference.map(|_| &head.reference),
            };
            ops.score(&against, &head.logits, (first, &mut head.scores));
            if let Some((metric, weights)) = gradient {
                let how = (metric, &weights[piece]);
                ops.score_grad(how, &against, &head.logits, &mut head.g_logits);
                head.back(model, tokens, &mut g.h);
                *scored = true;
            }
        }
        ops.read(&head.scores, &mut head.on_host)?;
        Ok(head.on_host.chunks_exact(SCORES).map(Score::from_row).collect())
    }
}

impl Score {
    fn from_row(row: &[f32]) -> Self {
        let [log_prob, logit_difference, correct, kl] = row else { unreachable!("four scores") };
        Self {
            log_prob: *log_prob,
            logit_difference: *logit_difference,
            correct: *correct == 1.0,
            kl: *kl,
            ..Self::default()
        }
    }
}

impl<O: SuffixOps> Differentiable<O> {
    /// The difference of logits alone of rows of the batch that was run last: a product with two rows
    /// of the last matrix instead of all.
    ///
    /// # Panics
    /// As [`Self::score`], and without foils.
    pub fn logit_differences(
        &mut self,
        starts: &[u32],
        scoring: &Scoring<'_, O::Tensor>,
    ) -> Result<Vec<f32>> {
        let Self { forward: model, head, .. } = self;
        let head = head.as_mut().expect("made to be scored");
        let foils = scoring.foils.expect("two answers are compared");
        let last = model.weights.head.last.as_ref().expect("a scored model has a head");
        let (mut all, mut values) = (Vec::with_capacity(scoring.rows.len()), Vec::new());
        for first in (0..scoring.rows.len()).step_by(head.room) {
            let piece = first..(first + head.room).min(scoring.rows.len());
            head.set_rows(&model.ops, piece.len());
            let tokens = head.tokens(starts, &scoring.rows[piece.clone()]);
            head.hidden.forward(model, (&tokens, &head.ones), head.steps);
            let ids = (&scoring.targets[piece.clone()], &foils[piece]);
            model.ops.pick_logits(last, ids, head.hidden.last(), &mut head.picked);
            model.ops.read(&head.picked, &mut values)?;
            all.extend_from_slice(&values);
        }
        Ok(all)
    }
}
