//! What is asked of every neuron, question by question: the causal methods as work on a batch.

use super::gradients::{Activations, activations, gradient_products};
use super::integrated_gradients::{Settings, integrated_gradients};
use super::question::{Question, QuestionBatch};
use super::sweep::{Becomes, Where, sweep};
use crate::accumulate::effects::{EffectPlan, EffectState, Effects};
use crate::device::backward::Differentiable;
use crate::device::gradient_ops::Metric;
use crate::device::score::Score;
use crate::device::suffix::Held;
use crate::device::suffix_ops::SuffixOps;
use crate::error::Result;
use crate::hash::derangement;

/// What a question's answer is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value {
    /// A number with a gradient.
    Of(Metric),
    /// 1 where the right answer is preferred to the wrong one; without one, to all others.
    Accuracy,
}

impl Value {
    /// Of a score.
    pub fn of(self, score: &Score, has_foil: bool) -> f64 {
        match self {
            Self::Of(metric) => f64::from(score.value(metric)),
            Self::Accuracy if has_foil => f64::from(u8::from(score.logit_difference > 0.0)),
            Self::Accuracy => f64::from(u8::from(score.correct)),
        }
    }
}

/// What a neuron is replaced by.
#[derive(Clone, Debug, PartialEq)]
pub enum Replacement {
    /// 0.
    Zero,
    /// Its mean over the tokens of all questions, by layer.
    Mean(std::sync::Arc<Vec<Vec<f32>>>),
    /// Its value at another token of the batch, chosen by this seed.
    Resample(u64),
    /// Its value at the same place of the counterfactual prompt.
    Counterfactual,
}

/// One method, resolved.
#[derive(Clone, Debug, PartialEq)]
pub enum Task {
    /// Sum over tokens of activation times gradient, or its magnitude.
    GradientActivation {
        /// Of what.
        metric: Metric,
        /// The magnitude of a question's sum.
        absolute: bool,
    },
    /// (counterfactual - clean) times gradient.
    AttributionPatching {
        /// Of what.
        metric: Metric,
    },
    /// Integrated gradients at the answering token, and how often a neuron reaches a share of the
    /// question's largest over all layers.
    Knowledge {
        /// Steps, rule and metric.
        settings: Settings,
        /// The share.
        threshold: f32,
    },
    /// Each neuron replaced, one at a time.
    Ablation {
        /// By what.
        replacement: Replacement,
        /// At which tokens.
        place: Where,
        /// What is measured.
        value: Value,
    },
}

impl Task {
    /// Measures for each layer.
    fn measures(&self) -> usize {
        if matches!(self, Self::Knowledge { .. }) { 2 } else { 1 }
    }
}

/// Numbers of the baseline measure: log p, logit difference, right before all, right before wrong.
pub const BASELINE: usize = 4;

/// All tasks of an experiment over its layers.
#[derive(Clone, Debug)]
pub struct Tasks {
    /// In the order of the run file.
    pub tasks: Vec<Task>,
    /// Layers whose neurons are asked, ascending.
    pub layers: Vec<usize>,
    /// Neurons of a layer.
    pub neurons: usize,
}

impl Tasks {
    /// The measures of a block: the baseline, then task by task and layer by layer.
    pub fn plan(&self, groups: usize) -> EffectPlan {
        let count: usize = self.tasks.iter().map(Task::measures).sum();
        let rest = std::iter::repeat_n(self.neurons, count * self.layers.len());
        EffectPlan { groups, widths: std::iter::once(BASELINE).chain(rest).collect() }
    }

    /// Where the measures of a task begin; those of its layers follow, all of one kind first.
    pub fn first_measure(&self, task: usize) -> usize {
        1 + self.layers.len() * self.tasks[..task].iter().map(Task::measures).sum::<usize>()
    }

    /// Runs everything on a batch of questions and adds what it finds.
    pub fn add<O: SuffixOps>(
        &self,
        run: &mut Differentiable<O>,
        (questions, groups): (&[Question], &[Option<u32>]),
        state: &mut EffectState,
    ) -> Result<()> {
        let batch = QuestionBatch::new(questions);
        let held = run.hold(batch.input(), &self.layers)?;
        let clean = run.score(&batch.starts, super::gradients::scoring(&batch), None)?;
        for (score, group) in clean.iter().zip(groups) {
            state.measures[0].add(*group, baseline(score).into_iter());
        }
        let other = if self.wants_counterfactual() {
            let prompts: Vec<Question> = questions.iter().map(counterfactual).collect();
            Some(activations(run, &QuestionBatch::new(&prompts), &self.layers)?.1)
        } else {
            None
        };
        let work = Work { tasks: self, batch: &batch, groups, held: &held, clean: &clean };
        for (index, task) in self.tasks.iter().enumerate() {
            let first = self.first_measure(index);
            let measures = &mut state.measures[first..first + task.measures() * self.layers.len()];
            work.task(run, task, other.as_ref(), measures)?;
        }
        state.counts.tokens += batch.tokens.len() as u64;
        state.counts.sequences += batch.len() as u64;
        state.counts.rows += batch.len() as u64;
        Ok(())
    }

    /// Whether any task needs the second prompt.
    pub fn wants_counterfactual(&self) -> bool {
        self.tasks.iter().any(|task| match task {
            Task::AttributionPatching { .. } => true,
            Task::Ablation { replacement, .. } => *replacement == Replacement::Counterfactual,
            _ => false,
        })
    }
}

/// See [`BASELINE`].
pub(super) fn baseline(score: &Score) -> [f64; BASELINE] {
    let yes = |yes: bool| f64::from(u8::from(yes));
    [
        f64::from(score.log_prob),
        f64::from(score.logit_difference),
        yes(score.correct),
        yes(score.logit_difference > 0.0),
    ]
}

/// The second prompt of a question as one of its own.
fn counterfactual(question: &Question) -> Question {
    let other = question.other.clone().expect("checked when the experiment was made");
    Question { tokens: other, ..question.clone() }
}

/// A batch that tasks work on.
struct Work<'a, O: SuffixOps> {
    tasks: &'a Tasks,
    batch: &'a QuestionBatch,
    groups: &'a [Option<u32>],
    held: &'a Held<O>,
    clean: &'a [Score],
}

impl<O: SuffixOps> Work<'_, O> {
    fn task(
        &self,
        run: &mut Differentiable<O>,
        task: &Task,
        other: Option<&Activations<O>>,
        measures: &mut [Effects],
    ) -> Result<()> {
        match task {
            Task::GradientActivation { metric, absolute } => {
                self.products(run, (*metric, *absolute), None, measures)
            }
            Task::AttributionPatching { metric } => {
                self.products(run, (*metric, false), other, measures)
            }
            Task::Knowledge { settings, threshold } => {
                self.knowledge(run, (*settings, *threshold), measures)
            }
            Task::Ablation { replacement, place, value } => {
                for (at, &layer) in self.tasks.layers.iter().enumerate() {
                    let how = (replacement, *place, *value);
                    self.ablation(run, (layer, other), how, &mut measures[at])?;
                }
                Ok(())
            }
        }
    }

    fn products(
        &self,
        run: &mut Differentiable<O>,
        (metric, absolute): (Metric, bool),
        other: Option<&Activations<O>>,
        measures: &mut [Effects],
    ) -> Result<()> {
        let layers = &self.tasks.layers;
        let (_, found) = gradient_products(run, self.batch, (layers, metric), other)?;
        for (layer, effects) in layers.iter().zip(measures) {
            let rows = found[layer].chunks_exact(self.tasks.neurons);
            for (row, group) in rows.zip(self.groups) {
                let number = |x: &f32| f64::from(if absolute { x.abs() } else { *x });
                effects.add(*group, row.iter().map(number));
            }
        }
        Ok(())
    }

    fn knowledge(
        &self,
        run: &mut Differentiable<O>,
        (settings, threshold): (Settings, f32),
        measures: &mut [Effects],
    ) -> Result<()> {
        let layers = &self.tasks.layers;
        let mut found: Vec<Vec<Vec<f32>>> = vec![Vec::new(); layers.len()];
        for (&layer, found) in layers.iter().zip(&mut found) {
            let batch = (self.batch, self.held);
            integrated_gradients(run, batch, layer, settings, |one| {
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

    fn ablation(
        &self,
        run: &mut Differentiable<O>,
        (layer, other): (usize, Option<&Activations<O>>),
        (replacement, place, value): (&Replacement, Where, Value),
        effects: &mut Effects,
    ) -> Result<()> {
        let neurons = self.tasks.neurons;
        let mut values = Vec::new();
        match (replacement, other) {
            (Replacement::Resample(_), _) => {
                run.ops().read(self.held.neurons(layer), &mut values)?
            }
            (Replacement::Counterfactual, Some(other)) => values = other.read(run.ops(), layer)?,
            _ => {}
        }
        let donors = match replacement {
            Replacement::Resample(seed) => derangement(self.batch.tokens.len(), *seed),
            _ => (0..self.batch.tokens.len()).collect(),
        };
        let becomes = |neuron: u32, token: u32| match replacement {
            Replacement::Zero => Becomes::value(0.0),
            Replacement::Mean(means) => Becomes::value(means[layer][neuron as usize]),
            Replacement::Resample(_) | Replacement::Counterfactual => {
                let donor = donors[token as usize];
                Becomes::value(values[donor * neurons + neuron as usize])
            }
        };
        let has_foil = self.batch.foils.is_some();
        let clean: Vec<f64> = self.clean.iter().map(|score| value.of(score, has_foil)).collect();
        let all: Vec<u32> = (0..).take(neurons).collect();
        let mut table = vec![0.0_f64; self.batch.len() * neurons];
        let batch = (self.batch, self.held);
        let differences =
            has_foil && matches!(value, Value::Accuracy | Value::Of(Metric::LogitDifference));
        let how = (place, differences, &becomes as &dyn Fn(u32, u32) -> Becomes);
        sweep(run, batch, (layer, &all), how, |neuron, scores| {
            for (question, (score, clean)) in scores.iter().zip(&clean).enumerate() {
                table[question * neurons + neuron as usize] = value.of(score, has_foil) - clean;
            }
            Ok(())
        })?;
        for (row, group) in table.chunks_exact(neurons).zip(self.groups) {
            effects.add(*group, row.iter().copied());
        }
        Ok(())
    }
}
