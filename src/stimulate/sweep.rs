//! One neuron at a time: every question answered with one neuron of a layer changed. The arms of a
//! sweep are copies in one batch; the prompt below the layer is run once for all of them.

use std::collections::BTreeMap;

use super::question::QuestionBatch;
pub use super::question::Where;
use super::readout::{self, Reader, Readout};
use crate::device::backward::Differentiable;
use crate::device::forward::SiteWork;
use crate::device::ops::{Pooling, RowRuns};
use crate::device::score::{Score, Scoring};
use crate::device::suffix::{Change, Held};
use crate::device::suffix_ops::SuffixOps;
use crate::error::Result;

/// What a neuron's value becomes: `scale * x + shift`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Becomes {
    /// Its factor.
    pub scale: f32,
    /// What is added.
    pub shift: f32,
}

impl Becomes {
    /// This, whatever it was.
    pub fn value(shift: f32) -> Self {
        Self { scale: 0.0, shift }
    }
}

/// What is asked of every arm.
pub enum Asks<'a, O: SuffixOps> {
    /// All scores of the answers but `kl` and `cosine`.
    Answers,
    /// The difference of logits alone, which is much less work.
    Differences,
    /// What a probe reads: `probe` alone.
    Probe(&'a Readout),
    /// KL from a run whose head read these rows, `[S, W]`, beside the answers.
    Kl(&'a O::Tensor),
    /// How far the mean row of each question is from these, `[S, D]`: `cosine` alone. The neurons must
    /// be changed everywhere.
    Cosine(&'a [f32]),
}

// Borrows are copied whatever the device's tensors are.
impl<O: SuffixOps> Clone for Asks<'_, O> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<O: SuffixOps> Copy for Asks<'_, O> {}

impl<O: SuffixOps> Clone for How<'_, O> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<O: SuffixOps> Copy for How<'_, O> {}

impl<'a, O: SuffixOps> Asks<'a, O> {
    /// The probe that is asked.
    pub(super) fn readout(self) -> Option<&'a Readout> {
        match self {
            Self::Probe(readout) => Some(readout),
            _ => None,
        }
    }

    /// The scores of so many arms, question by question, of which `rows` answer; `reader` has read them
    /// in the run.
    pub(super) fn scores(
        self,
        run: &mut Differentiable<O>,
        (batch, arms): (&QuestionBatch, usize),
        (starts, rows): (&[u32], &[u32]),
        reader: &Reader<O>,
    ) -> Result<Vec<Score>> {
        let targets = batch.targets.repeat(arms);
        let foils = batch.foils.as_ref().map(|foils| foils.repeat(arms));
        let (targets, foils) = (&targets[..], foils.as_deref());
        let scoring = Scoring { rows, targets, foils, reference: None, keep: None };
        match self {
            Self::Differences if foils.is_some() && run.differences_are_plain() => {
                let found = run.logit_differences(starts, &scoring)?;
                let score = |x| Score { logit_difference: x, ..Score::default() };
                Ok(found.into_iter().map(score).collect())
            }
            Self::Answers | Self::Differences => run.score(starts, scoring, None),
            Self::Probe(readout) => {
                let mut scores = vec![Score::default(); rows.len()];
                readout.fill(&reader.rows(run.ops())?, &mut scores);
                Ok(scores)
            }
            Self::Kl(one) => {
                let mut reference = run.hidden(rows.len())?;
                let own: Vec<u32> = (0..).take(batch.len()).collect();
                let (first, len) = (own.repeat(arms), vec![1; rows.len()]);
                let runs = RowRuns { first: &first, len: &len };
                run.ops().pool(Pooling::First, runs, one, &mut reference);
                run.score(starts, Scoring { reference: Some(&reference), ..scoring }, None)
            }
            Self::Cosine(to) => {
                let width = run.spec().width;
                let means = run.mean_rows(starts)?;
                let to = to.chunks_exact(width).cycle();
                let cosine = |(a, b): (&[f32], &[f32])| 1.0 - cosine(a, b);
                let found = means.chunks_exact(width).zip(to).map(cosine);
                Ok(found.map(|cosine| Score { cosine, ..Score::default() }).collect())
            }
        }
    }
}

/// Cosine of two rows, 0 if one is 0 everywhere.
#[expect(clippy::cast_possible_truncation, reason = "as precise as what it is of")]
fn cosine(a: &[f32], b: &[f32]) -> f32 {
    let dot = |a: &[f32], b: &[f32]| -> f64 {
        a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
    };
    let lengths = (dot(a, a) * dot(b, b)).sqrt();
    if lengths > 0.0 { (dot(a, b) / lengths) as f32 } else { 0.0 }
}

/// How a sweep goes.
pub struct How<'a, O: SuffixOps> {
    /// Where neurons are changed.
    pub place: Where,
    /// What is asked then.
    pub asks: Asks<'a, O>,
    /// What neuron n turns into at a token of the batch.
    pub becomes: &'a dyn Fn(u32, u32) -> Becomes,
}

/// Scores of all questions of a held batch for each of these neurons of a layer, handed over neuron by
/// neuron. A probe that is asked reads after the layer.
pub fn sweep<O: SuffixOps>(
    run: &mut Differentiable<O>,
    (batch, held): (&QuestionBatch, &Held<O>),
    (layer, neurons): (usize, &[u32]),
    how: How<'_, O>,
    mut each: impl FnMut(u32, &[Score]) -> Result<()>,
) -> Result<()> {
    let one: usize = held.copies(how.place.copies(batch)).tokens.len();
    let arms = (run.limits().tokens / one.max(1)).max(1);
    for neurons in neurons.chunks(arms) {
        let scores = arms_at_once(run, (batch, held), (layer, neurons), how)?;
        for (neuron, scores) in neurons.iter().zip(scores.chunks_exact(batch.len())) {
            each(*neuron, scores)?;
        }
    }
    Ok(())
}

fn arms_at_once<O: SuffixOps>(
    run: &mut Differentiable<O>,
    (batch, held): (&QuestionBatch, &Held<O>),
    (layer, neurons): (usize, &[u32]),
    How { place, asks, becomes }: How<'_, O>,
) -> Result<Vec<Score>> {
    let copies = held.copies(neurons.iter().flat_map(|_| place.copies(batch)));
    let (mut of, mut scale, mut shift, mut rows) = (vec![], vec![], vec![], vec![]);
    for (arm, pair) in copies.starts.windows(2).enumerate() {
        let (neuron, answer) = (neurons[arm / batch.len()], batch.rows[arm % batch.len()]);
        for at in pair[0]..pair[1] {
            let token = copies.tokens[at as usize];
            let here = place == Where::Everywhere || token == answer;
            let Becomes { scale: a, shift: b } =
                if here { becomes(neuron, token) } else { Becomes { scale: 1.0, shift: 0.0 } };
            of.push(neuron);
            scale.push(a);
            shift.push(b);
            if token == answer {
                rows.push(at);
            }
        }
    }
    let (read, edits) = (readout::sites(asks.readout()), BTreeMap::new());
    let mut reader = Reader::new(run, asks.readout(), &rows)?;
    let mut sites = SiteWork { wanted: &read, edits: &edits, visitor: &mut reader };
    let change = Change::Neuron { of: &of, scale: &scale, shift: &shift };
    run.resume_only(held, (layer, &copies), change, &mut sites)?;
    asks.scores(run, (batch, neurons.len()), (&copies.starts, &rows), &reader)
}
