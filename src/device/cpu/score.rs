//! score: what metrics need of a row of logits, and their gradients. Sums over the vocabulary are
//! f64 across pieces of it: a vocabulary is long, and log p near 0 has few digits to lose.

use rayon::prelude::*;

use super::buffer::Tensor;
use super::dispatch::multiversion;
use super::math;
use crate::device::gradient_ops::{Against, Metric, SCORES};

/// See [`crate::device::gradient_ops::GradientOps::score`].
pub(super) fn score(
    against: &Against<'_, Tensor>,
    logits: &Tensor,
    (first, out): (usize, &mut Tensor),
) {
    check(against, logits);
    assert!(out.cols() == SCORES && first + logits.rows() <= out.rows());
    let out = &mut out.values_mut()[first * SCORES..][..logits.rows() * SCORES];
    out.par_chunks_exact_mut(SCORES).enumerate().for_each(|(row, out)| {
        let one = Row::of(against, logits, row);
        out.copy_from_slice(&[
            one.log_prob(),
            one.difference(),
            f32::from(u8::from(one.is_best())),
            one.divergence(),
        ]);
    });
}

/// See [`crate::device::gradient_ops::GradientOps::score_grad`].
pub(super) fn score_grad(
    (metric, weights): (Metric, &[f32]),
    against: &Against<'_, Tensor>,
    logits: &Tensor,
    g: &mut Tensor,
) {
    check(against, logits);
    assert_eq!((g.rows(), g.cols(), weights.len()), (logits.rows(), logits.cols(), logits.rows()));
    assert!(metric != Metric::LogitDifference || against.foils.is_some(), "foils are needed");
    assert!(metric != Metric::Kl || against.reference.is_some(), "a reference is needed");
    assert!(metric != Metric::Probe, "a probe is not read off logits");
    let cols = g.cols();
    g.par_rows(|first, rows| {
        for (row, g) in (first..).zip(rows.chunks_exact_mut(cols)) {
            Row::of(against, logits, row).gradient(metric, weights[row], g);
        }
    });
}

fn check(against: &Against<'_, Tensor>, logits: &Tensor) {
    let classes = logits.cols().max(2);
    let ids = [Some(against.targets), against.foils];
    for ids in ids.into_iter().flatten() {
        assert_eq!(ids.len(), logits.rows());
        assert!(ids.iter().all(|&id| (id as usize) < classes), "an answer beyond the logits");
    }
    if let Some(reference) = against.reference {
        assert_eq!((reference.rows(), reference.cols()), (logits.rows(), logits.cols()));
    }
}

/// A row of logits and what it is held against.
#[derive(Clone, Copy)]
struct Row<'a> {
    logits: &'a [f32],
    target: usize,
    foil: Option<usize>,
    reference: Option<&'a [f32]>,
}

impl<'a> Row<'a> {
    fn of(against: &Against<'a, Tensor>, logits: &'a Tensor, row: usize) -> Self {
        let cols = logits.cols();
        Self {
            logits: &logits.values()[row * cols..][..cols],
            target: against.targets[row] as usize,
            foil: against.foils.map(|foils| foils[row] as usize),
            reference: against.reference.map(|x| &x.values()[row * cols..][..cols]),
        }
    }

    /// The logit of an answer. Of a single column the answer 0 has the logit 0.
    fn logit(&self, answer: usize) -> f32 {
        match self.logits {
            [_] if answer == 0 => 0.0,
            [only] => *only,
            many => many[answer],
        }
    }

    fn log_prob(&self) -> f32 {
        self.logit(self.target) - log_total(self.logits)
    }

    fn difference(&self) -> f32 {
        self.foil.map_or(0.0, |foil| self.logit(self.target) - self.logit(foil))
    }

    fn is_best(&self) -> bool {
        let target = self.logit(self.target);
        match self.logits {
            [_] => self.logit(1 - self.target) <= target,
            many => many.iter().all(|x| *x <= target),
        }
    }

    fn divergence(&self) -> f32 {
        let Some(reference) = self.reference else { return 0.0 };
        let (theirs, ours) = (log_total(reference), log_total(self.logits));
        divergence(reference, self.logits, (theirs, ours))
    }

    fn gradient(&self, metric: Metric, weight: f32, g: &mut [f32]) {
        let weight = match metric {
            Metric::Loss => -weight,
            Metric::Prob => weight * self.log_prob().exp(),
            Metric::LogProb | Metric::LogitDifference | Metric::Kl | Metric::Probe => weight,
        };
        match (metric, self.foil, self.reference) {
            (Metric::LogitDifference, Some(foil), _) => {
                g.fill(0.0);
                self.add_at(self.target, weight, g);
                self.add_at(foil, -weight, g);
            }
            (Metric::Kl, _, Some(reference)) => {
                weighted_softmax(self.logits, log_total(self.logits), weight, g);
                subtract_softmax(reference, log_total(reference), weight, g);
            }
            _ => {
                weighted_softmax(self.logits, log_total(self.logits), -weight, g);
                self.add_at(self.target, weight, g);
            }
        }
    }

    fn add_at(&self, answer: usize, value: f32, g: &mut [f32]) {
        match g {
            [only] if answer == 1 => *only += value,
            [_] => {}
            many => many[answer] += value,
        }
    }
}

/// log of the sum of exponentials; of a single column, with that of the answer 0 beside it.
fn log_total(logits: &[f32]) -> f32 {
    let floor = if logits.len() == 1 { 0.0 } else { f32::NEG_INFINITY };
    let max = logits.iter().fold(floor, |a, &b| if b > a || b.is_nan() { b } else { a });
    let other = if logits.len() == 1 { f64::from((-max).exp()) } else { 0.0 };
    let total = other + exponentials(logits, max);
    #[expect(clippy::cast_possible_truncation, reason = "the result is f32")]
    let log = total.ln() as f32;
    max + log
}

multiversion! {
    /// Sum of exp(x - max), in f64 across pieces of 16 x 64.
    fn exponentials(logits: &[f32], max: f32) -> f64 {
        let mut total = 0.0_f64;
        for piece in logits.chunks(1024) {
            let mut lanes = [0.0_f32; 16];
            for chunk in piece.chunks(16) {
                for (lane, x) in lanes.iter_mut().zip(chunk) {
                    *lane += math::exp(*x - max);
                }
            }
            total += f64::from(lanes.iter().sum::<f32>());
        }
        total
    }

    /// sum q (log q - log p), q and p by logits and the logs of their totals.
    fn kl(reference: &[f32], logits: &[f32], theirs: f32, ours: f32) -> f64 {
        let mut total = 0.0_f64;
        for (q, p) in reference.chunks(1024).zip(logits.chunks(1024)) {
            let mut lanes = [0.0_f32; 16];
            for (q, p) in q.chunks(16).zip(p.chunks(16)) {
                for ((lane, q), p) in lanes.iter_mut().zip(q).zip(p) {
                    let log = *q - theirs;
                    *lane += math::exp(log) * (log - (*p - ours));
                }
            }
            total += f64::from(lanes.iter().sum::<f32>());
        }
        total
    }

    /// g = weight * softmax(logits).
    fn weighted_softmax(logits: &[f32], total: f32, weight: f32, g: &mut [f32]) {
        for (g, x) in g.iter_mut().zip(logits) {
            *g = weight * math::exp(*x - total);
        }
    }

    /// g -= weight * softmax(logits).
    fn subtract_softmax(logits: &[f32], total: f32, weight: f32, g: &mut [f32]) {
        for (g, x) in g.iter_mut().zip(logits) {
            *g -= weight * math::exp(*x - total);
        }
    }
}

fn divergence(reference: &[f32], logits: &[f32], (theirs, ours): (f32, f32)) -> f32 {
    // A single column leaves out the answer 0, whose log probabilities are minus the totals.
    let other = match logits.len() {
        1 => f64::from((-theirs).exp()) * f64::from(ours - theirs),
        _ => 0.0,
    };
    #[expect(clippy::cast_possible_truncation, reason = "the result is f32")]
    let total = (other + kl(reference, logits, theirs, ours)) as f32;
    total
}
