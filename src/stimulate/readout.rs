//! A linear probe as a number of a question: read at the answering token, off any site with a
//! gradient. What it reads goes to the host, where its few products are made in f64; its gradient
//! comes back as a seed of the way back ([`GradientWork::seeds`]).
//!
//! [`GradientWork::seeds`]: crate::device::backward::GradientWork::seeds

use std::collections::{BTreeMap, BTreeSet};

use super::neurons::room;
use super::question::QuestionBatch;
use crate::device::backward::Differentiable;
use crate::device::edit::Edit;
use crate::device::forward::SiteWork;
use crate::device::gradient_ops::GradientOps;
use crate::device::ops::{Ops, Pooling, RowRuns};
use crate::device::score::Score;
use crate::device::site_view::{SiteView, SiteVisitor};
use crate::error::Result;
use crate::id::Site;

/// What is made of a probe's outputs z.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Output {
    /// z of the class.
    #[default]
    Logit,
    /// log p of the class, in nats: z less log Σ exp z over all classes.
    LogProb,
}

/// A linear probe of one site, `z = W x + b`, and the class that is asked about.
#[derive(Clone, Debug, PartialEq)]
pub struct Readout {
    site: Site,
    /// `[C, D]`.
    weights: Vec<f64>,
    /// `[C]`.
    biases: Vec<f64>,
    class: usize,
    output: Output,
}

impl Readout {
    /// A probe with weights `[C, D]` and biases `[C]` that reads `(x - shift) * scale`, both `[D]`: they
    /// are folded into its weights. A yes-no probe of one output gets 0 as its "no" beside it.
    ///
    /// # Panics
    /// If lengths do not fit each other, or there is no such class.
    pub fn new(
        site: Site,
        (weights, biases): (&[f32], &[f32]),
        (shift, scale): (&[f32], &[f32]),
        (class, output): (usize, Output),
    ) -> Self {
        let width = shift.len();
        assert_eq!((weights.len(), scale.len()), (biases.len() * width, width));
        assert!(class < biases.len(), "a class of the probe");
        let (mut folded, mut moved) = (Vec::with_capacity(weights.len()), Vec::new());
        for (row, bias) in weights.chunks_exact(width).zip(biases) {
            let mut sum = f64::from(*bias);
            for ((w, shift), scale) in row.iter().zip(shift).zip(scale) {
                let w = f64::from(*w) * f64::from(*scale);
                sum -= w * f64::from(*shift);
                folded.push(w);
            }
            moved.push(sum);
        }
        Self { site, weights: folded, biases: moved, class, output }
    }

    /// Where it reads.
    pub fn site(&self) -> Site {
        self.site
    }

    fn width(&self) -> usize {
        self.weights.len() / self.biases.len()
    }

    /// All outputs for a row.
    fn outputs(&self, row: &[f32]) -> Vec<f64> {
        let dot = |w: &[f64]| w.iter().zip(row).map(|(w, x)| w * f64::from(*x)).sum::<f64>();
        let rows = self.weights.chunks_exact(self.width());
        rows.zip(&self.biases).map(|(w, b)| dot(w) + b).collect()
    }

    /// The number of a row `[D]`.
    pub fn value(&self, row: &[f32]) -> f64 {
        let z = self.outputs(row);
        match self.output {
            Output::Logit => z[self.class],
            Output::LogProb => z[self.class] - log_total(&z),
        }
    }

    /// Its gradient with respect to the row, `[D]`.
    pub fn gradient(&self, row: &[f32]) -> Vec<f64> {
        let mut share = vec![0.0; self.biases.len()];
        if self.output == Output::LogProb {
            let z = self.outputs(row);
            let total = log_total(&z);
            share.iter_mut().zip(z).for_each(|(share, z)| *share = -(z - total).exp());
        }
        share[self.class] += 1.0;
        let mut gradient = vec![0.0; self.width()];
        for (w, share) in self.weights.chunks_exact(self.width()).zip(share) {
            gradient.iter_mut().zip(w).for_each(|(g, w)| *g += share * w);
        }
        gradient
    }

    /// Reads rows `[R, D]` into their scores.
    #[expect(clippy::cast_possible_truncation, reason = "as precise as other scores")]
    pub(super) fn fill(&self, rows: &[f32], scores: &mut [Score]) {
        for (row, score) in rows.chunks_exact(self.width()).zip(scores) {
            score.probe = self.value(row) as f32;
        }
    }

    /// The start of the way back from tokens `places` of a batch, which read `rows` `[R, D]`.
    pub(super) fn seeds<O: GradientOps>(
        &self,
        run: &Differentiable<O>,
        (places, tokens): (&[u32], usize),
        rows: &[f32],
    ) -> Result<BTreeMap<Site, O::Tensor>> {
        let (ops, width) = (run.ops(), self.width());
        let slopes = rows.chunks_exact(width).flat_map(|row| self.gradient(row));
        #[expect(clippy::cast_possible_truncation, reason = "gradients are f32")]
        let slopes: Vec<f32> = slopes.map(|slope| slope as f32).collect();
        let (mut few, mut all) = (room(run, places.len(), width)?, room(run, tokens, width)?);
        ops.write(&mut few, &slopes)?;
        ops.edit(&Edit::zero(), &mut all);
        ops.scatter(places, &few, &mut all);
        Ok([(self.site, all)].into())
    }

    /// What it reads of the questions of a batch in a run of its own, `[S, D]`.
    pub fn read<O: GradientOps>(
        &self,
        run: &mut Differentiable<O>,
        batch: &QuestionBatch,
    ) -> Result<Vec<f32>> {
        let (wanted, edits) = (sites(Some(self)), BTreeMap::new());
        let mut reader = Reader::new(run, Some(self), &batch.rows)?;
        let mut work = SiteWork { wanted: &wanted, edits: &edits, visitor: &mut reader };
        run.run_only(batch.input(), &mut work)?;
        reader.rows(run.ops())
    }
}

/// log Σ exp z.
fn log_total(z: &[f64]) -> f64 {
    let max = z.iter().fold(f64::NEG_INFINITY, |a, &b| a.max(b));
    max + z.iter().map(|z| (z - max).exp()).sum::<f64>().ln()
}

/// The site that is read, if any is.
pub(super) fn sites(readout: Option<&Readout>) -> BTreeSet<Site> {
    readout.map(Readout::site).into_iter().collect()
}

/// Copies what a readout reads in one run, if there is one.
pub(super) struct Reader<O: Ops> {
    tokens: Vec<u32>,
    kept: Option<(Site, O::Tensor)>,
}

impl<O: Ops> Reader<O> {
    /// Of these tokens of the batch that will be run.
    pub(super) fn new(
        run: &Differentiable<O>,
        readout: Option<&Readout>,
        tokens: &[u32],
    ) -> Result<Self>
    where
        O: GradientOps,
    {
        let kept = readout.map(|of| Ok((of.site, room(run, tokens.len(), of.width())?)));
        Ok(Self { tokens: tokens.to_vec(), kept: kept.transpose()? })
    }

    /// What was read, `[R, D]`; nothing without a readout.
    pub(super) fn rows(&self, ops: &O) -> Result<Vec<f32>> {
        let mut rows = Vec::new();
        if let Some((_, kept)) = &self.kept {
            ops.read(kept, &mut rows)?;
        }
        Ok(rows)
    }
}

impl<O: Ops> SiteVisitor<O> for Reader<O> {
    fn visit(&mut self, ops: &O, view: &SiteView<'_, O>) -> Result<()> {
        if let Some((_, kept)) = self.kept.as_mut().filter(|(site, _)| *site == view.site) {
            let ones = vec![1; self.tokens.len()];
            let runs = RowRuns { first: &self.tokens, len: &ones };
            ops.pool(Pooling::First, runs, view.values, kept);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    //! Oracle: probabilities by hand, central differences in f64.
    use super::*;
    use crate::id::SiteKind;

    fn readout(class: usize, output: Output) -> Readout {
        let site = Site::of_layer(1, SiteKind::ResidPost);
        let (weights, biases) = ([1.0, -2.0, 0.5, 3.0, 0.0, 0.0], [0.25, -1.0, 0.0]);
        let scaling = (&[2.0_f32, -1.0][..], &[0.5_f32, 4.0][..]);
        Readout::new(site, (&weights, &biases), scaling, (class, output))
    }

    /// The probe sees ((4 - 2) / 2, (1 + 1) 4) = (1, 8).
    #[test]
    fn scaling_is_folded_into_the_weights() {
        let z = [1.0 - 16.0 + 0.25, 0.5 + 24.0 - 1.0, 0.0];
        for (class, want) in z.into_iter().enumerate() {
            assert_eq!(readout(class, Output::Logit).value(&[4.0, 1.0]), want);
            let log_p = want - z.map(f64::exp).iter().sum::<f64>().ln();
            let found = readout(class, Output::LogProb).value(&[4.0, 1.0]);
            assert!((found - log_p).abs() < 1e-12, "{found} {log_p}");
        }
    }

    #[test]
    fn gradients_are_slopes() {
        let (row, step) = ([1.5_f32, -0.75], 0.000_976_562_5_f32);
        for output in [Output::Logit, Output::LogProb] {
            for class in 0..3 {
                let probe = readout(class, output);
                for (at, slope) in probe.gradient(&row).into_iter().enumerate() {
                    let moved = |by: f32| {
                        let mut row = row;
                        row[at] += by;
                        probe.value(&row)
                    };
                    let found = (moved(step) - moved(-step)) / (2.0 * f64::from(step));
                    assert!((found - slope).abs() < 1e-3, "{output:?} {class}: {found} {slope}");
                }
            }
        }
    }
}
