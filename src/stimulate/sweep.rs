//! One neuron at a time: every question answered with one neuron of a layer changed. The arms of a
//! sweep are copies in one batch; the prompt below the layer is run once for all of them.

use std::collections::{BTreeMap, BTreeSet};

pub use super::question::Where;
use super::question::QuestionBatch;
use crate::device::backward::Differentiable;
use crate::device::forward::SiteWork;
use crate::device::score::{Score, Scoring};
use crate::device::site_view::Nobody;
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

/// Scores of all questions of a held batch for each of these neurons of a layer, handed over neuron by
/// neuron. `becomes` says what neuron n turns into at a token of the batch. With `differences`, scores
/// need to hold the difference of logits alone, which is much less work.
pub fn sweep<O: SuffixOps>(
    run: &mut Differentiable<O>,
    (batch, held): (&QuestionBatch, &Held<O>),
    (layer, neurons): (usize, &[u32]),
    (place, differences, becomes): (Where, bool, &dyn Fn(u32, u32) -> Becomes),
    mut each: impl FnMut(u32, &[Score]) -> Result<()>,
) -> Result<()> {
    let one: usize = held.copies(place.copies(batch)).tokens.len();
    let arms = (run.limits().tokens / one.max(1)).max(1);
    for neurons in neurons.chunks(arms) {
        let scores =
            arms_at_once(run, (batch, held), (layer, neurons), (place, differences, becomes))?;
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
    (place, differences, becomes): (Where, bool, &dyn Fn(u32, u32) -> Becomes),
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
    let (nothing, edits) = (BTreeSet::new(), BTreeMap::new());
    let mut sites = SiteWork { wanted: &nothing, edits: &edits, visitor: &mut Nobody };
    let change = Change::Neuron { of: &of, scale: &scale, shift: &shift };
    run.resume(held, (layer, &copies), change, &mut sites)?;
    let targets = batch.targets.repeat(neurons.len());
    let foils = batch.foils.as_ref().map(|foils| foils.repeat(neurons.len()));
    let scoring = Scoring {
        rows: &rows,
        targets: &targets,
        foils: foils.as_deref(),
        reference: None,
        keep: None,
    };
    if !differences || foils.is_none() || !run.differences_are_plain() {
        return run.score(&copies.starts, scoring, None);
    }
    let found = run.logit_differences(&copies.starts, &scoring)?;
    Ok(found.into_iter().map(|x| Score { logit_difference: x, ..Score::default() }).collect())
}
