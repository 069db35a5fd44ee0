//! A task done on a batch of questions.

use std::sync::Arc;

use super::gradients::{BySequence, Products, Times, gradient_products, path_products};
use super::integrated_gradients::{Settings, integrated_gradients};
use super::log_prob_increase::log_prob_increases;
use super::masks::untouched;
use super::neurons::{Activations, Neurons, site_of};
use super::plain_sweep::plain_sweep;
use super::question::{Question, QuestionBatch, Where};
use super::readout::Readout;
use super::resample::Lent;
use super::sweep::{self, Asks, Becomes};
use super::task::{Replacement, Task, Then, Value};
use crate::accumulate::effects::Effects;
use crate::device::backward::Differentiable;
use crate::device::gradient_ops::Metric;
use crate::device::score::Score;
use crate::device::suffix::Held;
use crate::device::suffix_ops::SuffixOps;
use crate::error::Result;
use crate::id::SiteKind;

/// A batch that tasks work on.
pub(super) struct Work<'a, O: SuffixOps> {
    pub(super) neurons: &'a Neurons,
    pub(super) questions: &'a [Question],
    pub(super) batch: &'a QuestionBatch,
    pub(super) groups: &'a [Option<u32>],
    pub(super) held: &'a Held<O>,
    pub(super) clean: &'a [Score],
    /// The probe, and the rows that it read.
    pub(super) readout: Option<(&'a Readout, &'a [f32])>,
    /// The neurons of the batch, where a task reads them.
    pub(super) own: Option<&'a Activations<O>>,
    /// What tokens lend each other, where a task has them do so.
    pub(super) lent: Option<&'a Lent>,
    /// The counterfactual prompts and their neurons, where a task reads them.
    pub(super) other: Option<(&'a QuestionBatch, &'a Activations<O>)>,
}

/// What an ablation does, in every layer.
struct How<'a, T> {
    replacement: &'a Replacement,
    place: Where,
    value: Value,
    untouched: Untouched<T>,
}

/// What the untouched model is compared by, where a value asks for it.
struct Untouched<T> {
    /// What its head reads.
    hidden: Option<T>,
    /// Its mean rows.
    means: Vec<f32>,
}

impl<'a, O: SuffixOps> Work<'a, O> {
    /// Does a task, and adds what it finds to its measures.
    pub(super) fn task(
        &self,
        run: &mut Differentiable<O>,
        task: &Task,
        measures: &mut [Effects],
    ) -> Result<()> {
        match task {
            Task::Gradient { metric, towards, over, then } => {
                let times = match towards {
                    None | Some(Replacement::Zero | Replacement::Resample(_)) => Times::Value,
                    Some(Replacement::Mean(means)) => Times::To(means),
                    Some(Replacement::Counterfactual) => Times::Other(self.second().1),
                };
                let values = if self.neurons.are_kept() { None } else { self.own };
                let readout = self.readout;
                let how = Products { metric: *metric, times, over: *over, values, readout };
                let found = gradient_products(run, (self.batch, self.neurons), &how)?;
                self.add(&found, *then, measures);
            }
            Task::Path { metric, steps } => {
                let (batches, how) = ((self.batch, self.second().0), (*metric, *steps));
                let found = path_products(run, batches, self.neurons, how, self.probe())?;
                self.add(&found, Then::Itself, measures);
            }
            Task::Knowledge { settings, threshold } => {
                self.knowledge(run, (*settings, *threshold), measures)?;
            }
            Task::LogProbIncrease { norm, exact } => {
                let layers = &self.neurons.layers;
                let found = log_prob_increases(run, self.batch, layers, (norm, *exact))?;
                let found = layers.iter().copied().zip(found).collect();
                self.add(&found, Then::Itself, measures);
            }
            Task::Ablation { replacement, place, value, only } => {
                let untouched = self.untouched(run, *value)?;
                let how = How { replacement, place: *place, value: *value, untouched };
                let all: Vec<u32> = (0..).take(self.neurons.width).collect();
                for (at, &layer) in self.neurons.layers.iter().enumerate() {
                    let of = only.as_ref().map_or(&all, |only| &only[at]);
                    self.ablation(run, (layer, of), &how, &mut measures[at])?;
                }
            }
        }
        Ok(())
    }

    fn probe(&self) -> Option<&'a Readout> {
        self.readout.map(|(readout, _)| readout)
    }

    fn second(&self) -> (&QuestionBatch, &Activations<O>) {
        self.other.expect("asked for by a task")
    }

    fn add(&self, found: &BySequence, then: Then, measures: &mut [Effects]) {
        for (layer, effects) in self.neurons.layers.iter().zip(measures) {
            let rows = found[layer].chunks_exact(self.neurons.width);
            for (row, group) in rows.zip(self.groups) {
                let number = |x: &f32| match then {
                    Then::Itself => f64::from(*x),
                    Then::Magnitude => f64::from(x.abs()),
                    Then::Square => f64::from(*x) * f64::from(*x),
                };
                effects.add(*group, row.iter().map(number));
            }
        }
    }

    fn knowledge(
        &self,
        run: &mut Differentiable<O>,
        (settings, threshold): (Settings, f32),
        measures: &mut [Effects],
    ) -> Result<()> {
        let layers = &self.neurons.layers;
        let mut found: Vec<Vec<Vec<f32>>> = vec![Vec::new(); layers.len()];
        for (&layer, found) in layers.iter().zip(&mut found) {
            let batch = (self.batch, self.held);
            integrated_gradients(run, batch, layer, (settings, self.probe()), |one| {
                found.push(one.values);
                Ok(())
            })?;
        }
        let (values, counts) = measures.split_at_mut(layers.len());
        for (question, group) in self.groups.iter().enumerate() {
            let all = found.iter().flat_map(|layer| &layer[question]);
            let bar = threshold * all.fold(0.0_f32, |a, &b| a.max(b));
            for (at, layer) in found.iter().enumerate() {
                let row = &layer[question];
                values[at].add(*group, row.iter().map(|x| f64::from(*x)));
                let reaches = |x: &f32| f64::from(u8::from(*x > 0.0 && *x >= bar));
                counts[at].add(*group, row.iter().map(reaches));
            }
        }
        Ok(())
    }

    /// What neurons become: a function of neuron and token.
    fn becomes(&self, ops: &O, layer: usize, how: &Replacement) -> Result<BecomesWhat<'_>> {
        let site = self.neurons.site(layer);
        let width = self.neurons.width;
        Ok(match how {
            Replacement::Zero => Box::new(|_, _| 0.0),
            Replacement::Mean(means) => {
                let means = Arc::clone(means);
                Box::new(move |neuron, _| means[layer][neuron as usize])
            }
            Replacement::Resample(seed) => {
                Box::new(self.lent.expect("asked for").borrowed(layer, *seed))
            }
            Replacement::Counterfactual => {
                let values = self.second().1.read(ops, site)?;
                Box::new(move |neuron, token| values[token as usize * width + neuron as usize])
            }
        })
    }

    fn untouched(&self, run: &mut Differentiable<O>, value: Value) -> Result<Untouched<O::Tensor>> {
        let hidden = match value {
            Value::Of(Metric::Kl) | Value::Cosine => Some(untouched(run, self.batch)?),
            _ => None,
        };
        let means = match value {
            Value::Cosine => run.mean_rows(&self.batch.starts)?,
            _ => Vec::new(),
        };
        Ok(Untouched { hidden, means })
    }

    fn ablation(
        &self,
        run: &mut Differentiable<O>,
        (layer, of): (usize, &[u32]),
        &How { replacement, place, value, ref untouched }: &How<'_, O::Tensor>,
        effects: &mut Effects,
    ) -> Result<()> {
        let becomes = self.becomes(run.ops(), layer, replacement)?;
        let has_foil = self.batch.foils.is_some();
        let clean: Vec<f64> = self.clean.iter().map(|score| value.of(score, has_foil)).collect();
        let mut table = vec![0.0_f64; self.batch.len() * of.len()];
        let mut at = 0;
        let mut each = |_: u32, scores: &[Score]| {
            for (question, (score, clean)) in scores.iter().zip(&clean).enumerate() {
                table[question * of.len() + at] = value.of(score, has_foil) - clean;
            }
            at += 1;
            Ok(())
        };
        let asks = match (value, &untouched.hidden) {
            (Value::Of(Metric::Kl), Some(hidden)) => Asks::Kl(hidden),
            (Value::Cosine, _) => Asks::Cosine(&untouched.means),
            (Value::Of(Metric::Probe), _) => Asks::Probe(self.probe().expect("asked for")),
            (Value::Accuracy | Value::Of(Metric::LogitDifference), _) if has_foil => {
                Asks::Differences
            }
            _ => Asks::Answers,
        };
        // What copies from a layer's neurons on do not come by is read in whole passes.
        let end = site_of(SiteKind::ResidPost, layer);
        let within = asks.readout().is_some_and(|readout| readout.site() < end);
        if self.neurons.kind == SiteKind::MlpAct && !within {
            let becomes = |neuron, token| Becomes::value(becomes(neuron, token));
            let how = sweep::How { place, asks, becomes: &becomes };
            sweep::sweep(run, (self.batch, self.held), (layer, of), how, &mut each)?;
        } else {
            let site = self.neurons.site(layer);
            plain_sweep(run, self.questions, (site, of), (place, asks, &*becomes), &mut each)?;
        }
        for (row, group) in table.chunks_exact(of.len().max(1)).zip(self.groups) {
            effects.add(*group, row.iter().copied());
        }
        Ok(())
    }
}

/// The value that a neuron gets at a token.
type BecomesWhat<'a> = Box<dyn Fn(u32, u32) -> f32 + 'a>;
