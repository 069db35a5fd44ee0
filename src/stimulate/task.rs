//! What is asked of every neuron, question by question: the causal methods as work on a batch.

use std::sync::Arc;

use super::gradients::Over;
use super::integrated_gradients::Settings;
use super::log_prob_increase::FrozenNorm;
use super::neurons::{Neurons, activations};
use super::question::{Question, QuestionBatch, Where};
use super::readout::Readout;
use super::resample::{Asked, Lent};
use super::work::Work;
use crate::accumulate::effects::{EffectPlan, EffectState, Effects};
use crate::device::backward::Differentiable;
use crate::device::gradient_ops::Metric;
use crate::device::score::Score;
use crate::device::suffix_ops::SuffixOps;
use crate::error::Result;
use crate::id::SiteKind;

/// What a question's answer is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value {
    /// A number with a gradient.
    Of(Metric),
    /// 1 where the right answer is preferred to the wrong one; without one, to all others.
    Accuracy,
    /// 1 - cosine of the question's mean row of the final norm to that of the untouched model.
    Cosine,
}

impl Value {
    /// Of a score.
    pub fn of(self, score: &Score, has_foil: bool) -> f64 {
        match self {
            Self::Of(metric) => f64::from(score.value(metric)),
            Self::Accuracy if has_foil => f64::from(u8::from(score.logit_difference > 0.0)),
            Self::Accuracy => f64::from(u8::from(score.correct)),
            Self::Cosine => f64::from(score.cosine),
        }
    }
}

/// A number for each neuron, by layer of the model; empty for layers that are not asked.
pub type ByLayer = Arc<Vec<Vec<f32>>>;

/// What a neuron is replaced by.
#[derive(Clone, Debug, PartialEq)]
pub enum Replacement {
    /// 0.
    Zero,
    /// Its mean over the tokens of all questions.
    Mean(ByLayer),
    /// Its value at another token of the questions that lend, chosen by this seed.
    Resample(u64),
    /// Its value at the same place of the counterfactual prompt.
    Counterfactual,
}

/// What is taken of a question's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    /// The number.
    Itself,
    /// Its magnitude.
    Magnitude,
    /// Its square.
    Square,
}

/// One method, resolved.
#[derive(Clone, Debug, PartialEq)]
pub enum Task {
    /// Products with the gradient: of the activation, or of the change that a replacement is.
    Gradient {
        /// Of what.
        metric: Metric,
        /// None for the activation itself; resampling has no gradient of its own.
        towards: Option<Replacement>,
        /// What is taken of the tokens.
        over: Over,
        /// What is taken of a question.
        then: Then,
    },
    /// Products with the gradient, averaged over inputs between the counterfactual and the clean.
    Path {
        /// Of what.
        metric: Metric,
        /// Inputs.
        steps: u32,
    },
    /// Integrated gradients at the answering token, and how often a neuron reaches a share of the
    /// question's largest over all layers.
    Knowledge {
        /// Steps, rule and metric.
        settings: Settings,
        /// The share.
        threshold: f32,
    },
    /// What each neuron adds to the prediction by itself.
    LogProbIncrease {
        /// How the stream is read.
        norm: Arc<FrozenNorm>,
        /// Neurons that are not to first order.
        exact: usize,
    },
    /// Each neuron replaced, one at a time.
    Ablation {
        /// By what.
        replacement: Replacement,
        /// At which tokens.
        place: Where,
        /// What is measured.
        value: Value,
        /// Only these neurons of each layer asked.
        only: Option<Arc<Vec<Vec<u32>>>>,
    },
}

/// Numbers of the baseline measure: log p, logit difference, right before all, right before wrong, what
/// the probe reads (0 without one).
pub const BASELINE: usize = 5;

/// All tasks of a pass.
#[derive(Clone, Debug)]
pub struct Tasks {
    /// In the order of the experiment.
    pub tasks: Vec<Task>,
    /// Whose numbers they are.
    pub neurons: Neurons,
    /// The probe that is read beside the answers, and is the metric of tasks with [`Metric::Probe`].
    pub readout: Option<Arc<Readout>>,
}

/// What a pass found: for each task its measures, one for each layer, then the next kind.
pub type Found = Vec<Vec<Effects>>;

impl Tasks {
    /// The widths of a task's measures.
    fn widths(&self, task: &Task) -> Vec<usize> {
        let layers = self.neurons.layers.len();
        match task {
            Task::Knowledge { .. } => vec![self.neurons.width; 2 * layers],
            Task::Ablation { only: Some(only), .. } => only.iter().map(Vec::len).collect(),
            _ => vec![self.neurons.width; layers],
        }
    }

    /// The measures of a block: the baseline, then task by task.
    pub fn plan(&self, groups: usize) -> EffectPlan {
        let rest = self.tasks.iter().flat_map(|task| self.widths(task));
        EffectPlan { groups, widths: std::iter::once(BASELINE).chain(rest).collect() }
    }

    /// The measures of a finished pass: the baseline, and those of each task.
    pub fn split(&self, state: EffectState) -> (Effects, Found) {
        let mut measures = state.measures.into_iter();
        let baseline = measures.next().expect("the plan has it");
        let own = |task| measures.by_ref().take(self.widths(task).len()).collect();
        (baseline, self.tasks.iter().map(own).collect())
    }

    /// Runs everything on a batch of questions and adds what it finds.
    pub fn add<O: SuffixOps>(
        &self,
        run: &mut Differentiable<O>,
        asked: &Asked<'_>,
        state: &mut EffectState,
    ) -> Result<()> {
        let (questions, groups) = asked.questions();
        let batch = QuestionBatch::new(questions);
        let other = if self.wants_counterfactual() {
            let prompts: Vec<Question> = questions.iter().map(counterfactual).collect();
            let prompts = QuestionBatch::new(&prompts);
            let kept = activations(run, &prompts, &self.neurons.sites())?;
            Some((prompts, kept))
        } else {
            None
        };
        let own = match self.wants_values() {
            true => Some(activations(run, &batch, &self.neurons.sites())?),
            false => None,
        };
        let lent = match self.resamples() {
            true => Some(Lent::new(run, &self.neurons, asked)?),
            false => None,
        };
        let readout = self.readout.as_deref();
        let read = readout.map_or(Ok(Vec::new()), |readout| readout.read(run, &batch))?;
        let held = run.hold(batch.input(), self.held_layers())?;
        let mut clean = run.score(&batch.starts, batch.scoring(), None)?;
        if let Some(readout) = readout {
            readout.fill(&read, &mut clean);
        }
        for (score, group) in clean.iter().zip(groups) {
            state.measures[0].add(*group, baseline(score).into_iter());
        }
        let work = Work {
            neurons: &self.neurons,
            questions,
            batch: &batch,
            groups,
            held: &held,
            clean: &clean,
            readout: readout.map(|readout| (readout, &read[..])),
            own: own.as_ref(),
            lent: lent.as_ref(),
            other: other.as_ref().map(|(batch, kept)| (batch, kept)),
        };
        let (_, mut measures) = state.measures.split_at_mut(1);
        let mut cut = Vec::with_capacity(self.tasks.len());
        for task in &self.tasks {
            let (own, rest) = measures.split_at_mut(self.widths(task).len());
            cut.push((task, own));
            measures = rest;
        }
        // What reads the run of the batch comes before what runs another.
        cut.sort_by_key(|(task, _)| !matches!(task, Task::Gradient { .. }));
        for (task, measures) in cut {
            work.task(run, task, measures)?;
        }
        state.counts.tokens += batch.tokens.len() as u64;
        state.counts.sequences += batch.len() as u64;
        state.counts.rows += batch.len() as u64;
        Ok(())
    }

    /// Layers from whose neurons copies go on.
    fn held_layers(&self) -> &[usize] {
        let resumes = |task: &Task| match task {
            Task::Knowledge { .. } => true,
            Task::Ablation { .. } => self.neurons.kind == SiteKind::MlpAct,
            _ => false,
        };
        if self.tasks.iter().any(resumes) { &self.neurons.layers } else { &[] }
    }

    fn wants_counterfactual(&self) -> bool {
        self.tasks.iter().any(|task| match task {
            Task::Path { .. } => true,
            Task::Gradient { towards, .. } => *towards == Some(Replacement::Counterfactual),
            Task::Ablation { replacement, .. } => *replacement == Replacement::Counterfactual,
            Task::Knowledge { .. } | Task::LogProbIncrease { .. } => false,
        })
    }

    /// Whether any task reads values that nothing else keeps.
    fn wants_values(&self) -> bool {
        let reads = |task: &Task| matches!(task, Task::Gradient { .. });
        !self.neurons.are_kept() && self.tasks.iter().any(reads)
    }

    /// Whether any task has tokens lend each other values.
    fn resamples(&self) -> bool {
        self.tasks.iter().any(|task| {
            matches!(task, Task::Ablation { replacement: Replacement::Resample(_), .. })
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
        f64::from(score.probe),
    ]
}

/// The second prompt of a question as one of its own.
pub(super) fn counterfactual(question: &Question) -> Question {
    let other = question.other.clone().expect("checked when the experiment was made");
    Question { tokens: other, ..question.clone() }
}
