//! Gates on all neurons at once: what closing them does to the answers, and the gradient with respect
//! to the gates and to the values behind closed ones. A gated neuron is `z x + (1 - z) b`.

use std::collections::BTreeMap;

use super::gradients::over_questions;
use super::neurons::{Neurons, room};
use super::question::{QuestionBatch, Where};
use crate::device::backward::{Differentiable, GradientView, GradientVisitor, GradientWork};
use crate::device::forward::SiteWork;
use crate::device::gradient_ops::{GradientOps, Metric};
use crate::device::ops::{Edit, Ops, Write};
use crate::device::score::{Score, Scoring};
use crate::device::site_view::{SiteView, SiteVisitor};
use crate::error::Result;
use crate::id::Site;

/// What the answers are held to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Holds {
    /// The untouched model's own: KL(untouched || gated) at the answering token, in nats.
    Same,
    /// The wrong answer's side: how far logit(right) - logit(wrong) is above -margin, or 0.
    Wrong {
        /// By how much the wrong answer must win.
        margin: f32,
    },
}

/// Gates and values, `[F]` by layer of the experiment.
#[derive(Clone, Debug, PartialEq)]
pub struct Gates {
    /// z.
    pub gates: Vec<Vec<f32>>,
    /// b.
    pub towards: Vec<Vec<f32>>,
}

/// A sum over questions and its slopes, by layer of the experiment.
#[derive(Clone, Debug, PartialEq)]
pub struct Slopes {
    /// What [`Holds`] says, summed over questions.
    pub sum: f64,
    /// With respect to z.
    pub gates: Vec<Vec<f64>>,
    /// With respect to b.
    pub towards: Vec<Vec<f64>>,
}

impl Slopes {
    /// Nothing added yet.
    pub fn new(neurons: &Neurons) -> Self {
        let zeros = vec![vec![0.0; neurons.width]; neurons.layers.len()];
        Self { sum: 0.0, gates: zeros.clone(), towards: zeros }
    }
}

/// What the head reads of each question in the untouched model: KL compares with it.
pub fn untouched<O: GradientOps>(
    run: &mut Differentiable<O>,
    batch: &QuestionBatch,
) -> Result<O::Tensor> {
    let (nothing, edits) = (std::collections::BTreeSet::new(), BTreeMap::new());
    let mut nobody = crate::device::site_view::Nobody;
    let mut sites = SiteWork { wanted: &nothing, edits: &edits, visitor: &mut nobody };
    run.run_only(batch.input(), &mut sites)?;
    let mut hidden = run.hidden(batch.len())?;
    run.score(&batch.starts, Scoring { keep: Some(&mut hidden), ..batch.scoring() }, None)?;
    Ok(hidden)
}

/// Gates neurons, and keeps what they were before.
struct Gating<'a, O: Ops> {
    edits: &'a BTreeMap<Site, Vec<Edit>>,
    before: BTreeMap<Site, O::Tensor>,
}

impl<O: Ops> SiteVisitor<O> for Gating<'_, O> {
    fn change(&mut self, ops: &O, site: Site, values: &mut O::Tensor) -> Result<()> {
        if let Some(kept) = self.before.get_mut(&site) {
            ops.copy(values, kept);
            self.edits[&site].iter().for_each(|edit| ops.edit(edit, values));
        }
        Ok(())
    }

    fn visit(&mut self, _: &O, _: &SiteView<'_, O>) -> Result<()> {
        Ok(())
    }
}

/// Adds up the slopes, from the sums of g x and of g over the gated tokens of each question.
struct Sums<'a, O: Ops> {
    batch: &'a QuestionBatch,
    neurons: &'a Neurons,
    place: Where,
    gates: &'a Gates,
    before: &'a BTreeMap<Site, O::Tensor>,
    product: O::Tensor,
    pooled: O::Tensor,
    slopes: &'a mut Slopes,
}

impl<O: Ops> GradientVisitor<O> for Sums<'_, O> {
    /// Question by question, so that the size of the batches changes no bit.
    fn visit(&mut self, ops: &O, view: &GradientView<'_, O>) -> Result<()> {
        ops.multiply(&self.before[&view.site], view.gradient, &mut self.product);
        let from = (self.batch, self.place);
        let by_x = over_questions(ops, from, (&self.product, &mut self.pooled), false)?;
        let plain = over_questions(ops, from, (view.gradient, &mut self.pooled), false)?;
        let (width, layers) = (self.neurons.width, &self.neurons.layers);
        let at = layers.iter().position(|&layer| self.neurons.site(layer) == view.site);
        let at = at.expect("only sites of these neurons are asked for");
        let (gates, towards) = (&self.gates.gates[at], &self.gates.towards[at]);
        let (of_gates, of_towards) = (&mut self.slopes.gates[at], &mut self.slopes.towards[at]);
        for (by_x, plain) in by_x.chunks_exact(width).zip(plain.chunks_exact(width)) {
            for n in 0..width {
                let [gx, g, z, b] = [by_x[n], plain[n], gates[n], towards[n]].map(f64::from);
                of_gates[n] += gx - b * g;
                of_towards[n] += (1.0 - z) * g;
            }
        }
        Ok(())
    }
}

/// Answers a batch with gated neurons, and adds what the answers miss and its slopes. `reference` is
/// that of [`untouched`].
pub fn gated<O: GradientOps>(
    run: &mut Differentiable<O>,
    (batch, reference): (&QuestionBatch, &O::Tensor),
    (neurons, place): (&Neurons, Where),
    (gates, holds): (&Gates, Holds),
    slopes: &mut Slopes,
) -> Result<()> {
    let (tokens, wanted) = (batch.tokens.len(), neurons.sites());
    let written = match place {
        Where::Everywhere => None,
        Where::Answer => Some(batch.rows.clone()),
    };
    let edit = |(at, &layer): (usize, &usize)| {
        let (gates, towards) = (gates.gates[at].clone(), gates.towards[at].clone());
        let write = Write::Blend { gates, towards };
        (neurons.site(layer), vec![Edit { columns: None, tokens: written.clone(), write }])
    };
    let edits: BTreeMap<_, _> = neurons.layers.iter().enumerate().map(edit).collect();
    let kept = wanted.iter().map(|&site| Ok((site, room(run, tokens, neurons.width)?)));
    let mut gating = Gating { edits: &edits, before: kept.collect::<Result<_>>()? };
    let none = BTreeMap::new();
    let mut sites = SiteWork { wanted: &wanted, edits: &none, visitor: &mut gating };
    run.run(batch.input(), &mut sites)?;
    for missed in score(run, (batch, reference), holds)? {
        slopes.sum += missed;
    }
    let mut visitor = Sums {
        batch,
        neurons,
        place,
        gates,
        before: &gating.before,
        product: room(run, tokens, neurons.width)?,
        pooled: room(run, batch.len(), neurons.width)?,
        slopes,
    };
    let seeds = BTreeMap::new();
    let mut work =
        GradientWork { wanted: &wanted, edits: &edits, seeds: &seeds, visitor: &mut visitor };
    run.back(batch.input(), &mut work)
}

/// What each answer misses; the start of the way back.
fn score<O: GradientOps>(
    run: &mut Differentiable<O>,
    (batch, reference): (&QuestionBatch, &O::Tensor),
    holds: Holds,
) -> Result<Vec<f64>> {
    match holds {
        Holds::Same => {
            let weights = vec![1.0; batch.len()];
            let scoring = Scoring { reference: Some(reference), ..batch.scoring() };
            let scores = run.score(&batch.starts, scoring, Some((Metric::Kl, &weights)))?;
            Ok(scores.iter().map(|score| f64::from(score.kl)).collect())
        }
        Holds::Wrong { margin } => {
            let scores = run.score(&batch.starts, batch.scoring(), None)?;
            let over = |score: &Score| (score.logit_difference + margin).max(0.0);
            let weight = |score: &Score| if over(score) > 0.0 { 1.0 } else { 0.0 };
            let weights: Vec<f32> = scores.iter().map(weight).collect();
            let gradient = Some((Metric::LogitDifference, &weights[..]));
            run.score(&batch.starts, batch.scoring(), gradient)?;
            Ok(scores.iter().map(|score| f64::from(over(score))).collect())
        }
    }
}
