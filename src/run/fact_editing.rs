//! `edit-ece` (Zhang et al. 2025): facts edited by one gradient step for each cluster of them. Each fact is
//! attributed to neurons (knowledge attribution of its old answer), facts are clustered by their
//! attributions, and each cluster moves the columns of its facts' neurons, and no others, along the
//! gradient of the mean log probability of its new answers.
//!
//! All gradients are those of the model as it is: steps of clusters that share a neuron are added, so
//! that the order of clusters changes nothing.

use std::path::PathBuf;

use serde::Serialize;
use serde_json::json;

use super::devices::{Devices, cpu, gpus};
use crate::config::Dtype;
use crate::device::backward::Differentiable;
use crate::device::forward::Limits;
use crate::device::score::Score;
use crate::device::suffix_ops::SuffixOps;
use crate::engine::fleet::{Device, Fleet, Setup, Slot};
use crate::engine::tokenizer::open_tokenizer;
use crate::error::{Error, Result};
use crate::methods::clustering::facts::{fact_clusters, fact_neurons};
use crate::model::Model;
use crate::rewrite::Rewrite;
use crate::rewrite::knowledge::{relative_step, shift};
use crate::rewrite::neurons::{ColumnValues, Neurons};
use crate::rewrite::undo::Undo;
use crate::stimulate::column_gradients::add_columns;
use crate::stimulate::facts::{answer_gradients, answers, attributions};
use crate::stimulate::integrated_gradients::Settings;
use crate::stimulate::question::Question;
use crate::stimulate::read::{self, QuestionConfig};

/// Tokens of a device call, unless a path or a prompt needs more.
const BATCH_TOKENS: usize = 2048;

/// How facts are edited.
#[derive(Clone, Debug)]
pub struct FactEditing {
    /// The questions: `answer` is the new answer, `wrong` the old one, `group` says which questions ask
    /// for the same fact (each its own without it).
    pub questions: QuestionConfig,
    /// Path and metric of the attribution.
    pub attribution: Settings,
    /// A fact's neurons reach this share of its largest attribution,
    pub threshold: f32,
    /// and are at most so many.
    pub most: usize,
    /// Facts are joined up to this cosine distance.
    pub distance: f64,
    /// Length of a cluster's step, in lengths of the columns that it moves.
    pub rate: f64,
    /// Prompts begin with the model's BOS where its tokenizer does not say so.
    pub add_bos: bool,
}

/// Questions of one kind, ready to be asked.
pub struct Asked {
    /// In the order of their file.
    pub questions: Vec<Question>,
    /// The fact of each, or its own number.
    fact_of: Vec<usize>,
    names: Vec<String>,
}

/// A fact and what was found of it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct EditedFact {
    /// Its group, or the line of its only question.
    pub fact: String,
    /// Its cluster, from 0.
    pub cluster: usize,
    /// Its neurons, by layer.
    pub neurons: Neurons,
}

/// What is changed.
#[derive(Clone, Debug, PartialEq)]
pub struct FactEdits {
    /// The facts, as they are named in the questions.
    pub facts: Vec<EditedFact>,
    /// What is added to columns.
    pub shifts: ColumnValues,
}

/// Answers before and after.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Outcome {
    /// Questions.
    pub questions: usize,
    /// Share of them to which the new answer is the likeliest of all tokens.
    pub success: [f64; 2],
    /// Share of them to which the new answer is likelier than the old.
    pub preferred: [f64; 2],
    /// Mean log probability of the new answer, in nats.
    pub new_log_prob: [f64; 2],
    /// Mean log probability of the old answer, in nats.
    pub old_log_prob: [f64; 2],
}

impl FactEditing {
    fn check(&self) -> Result<()> {
        let refuse = |key: &str, what: String, remedy: &str| Err(Error::config(key, what, remedy));
        if !(self.threshold > 0.0 && self.threshold <= 1.0) {
            return refuse(
                "--threshold",
                format!("{} is no share", self.threshold),
                "0.2 is usual",
            );
        }
        if self.most == 0 {
            return refuse("--most", "no neuron would be left".into(), "give 1 or more");
        }
        if !(self.distance >= 0.0 && self.distance <= 2.0) {
            let what = format!("{} is no cosine distance", self.distance);
            return refuse("--distance", what, "from 0 to 2");
        }
        if !(self.rate > 0.0 && self.rate.is_finite()) {
            return refuse("--rate", format!("{} is no step", self.rate), "a number above 0");
        }
        if self.attribution.steps == 0 || self.attribution.steps > 1000 {
            let what = format!("{} steps of a path", self.attribution.steps);
            return refuse("--steps", what, "from 1 to 1000; 20 are usual");
        }
        Ok(())
    }

    /// Reads the questions and refuses what cannot be edited.
    pub fn open(&self, model: &Model) -> Result<Asked> {
        self.check()?;
        read_questions(&self.questions, model, self.add_bos)
    }

    /// What is changed, found on the first of these devices that can.
    pub fn find<O: SuffixOps + Device>(
        &self,
        slots: Vec<Slot<'_, O>>,
        model: &Model,
        asked: &Asked,
    ) -> Result<FactEdits> {
        let least = self.attribution.steps as usize;
        let found = on_one(slots, model, (&asked.questions, least), |run| self.found(run, asked));
        let (facts, gradients) = found?;
        let mut shifts = ColumnValues::new();
        for of_cluster in gradients {
            add_columns(&mut shifts, relative_step(model, of_cluster, self.rate)?);
        }
        Ok(FactEdits { facts, shifts })
    }

    /// The facts, and the gradient of each cluster.
    fn found<O: SuffixOps>(
        &self,
        run: &mut Differentiable<O>,
        asked: &Asked,
    ) -> Result<(Vec<EditedFact>, Vec<ColumnValues>)> {
        let Asked { questions, fact_of, names } = asked;
        let of_old: Vec<Question> = questions.iter().map(about_old).collect();
        let by_fact = attributions(run, &of_old, (fact_of, names.len()), self.attribution)?;
        let width = run.spec().mlp.width;
        let neurons_of =
            |values: &Vec<f32>| fact_neurons(values, width, (self.threshold, self.most));
        let neurons: Vec<Neurons> = by_fact.iter().map(neurons_of).collect();
        let mut cluster_of = vec![0; names.len()];
        let mut gradients = Vec::new();
        for (number, members) in (0..).zip(fact_clusters(&by_fact, self.distance)) {
            let mut of_cluster = Neurons::new();
            for &fact in &members {
                cluster_of[fact] = number;
                for (layer, set) in &neurons[fact] {
                    of_cluster.entry(*layer).or_default().extend(set);
                }
            }
            let inside = |(_, fact): &(&Question, &usize)| members.contains(fact);
            let own = questions.iter().zip(fact_of).filter(inside).map(|(one, _)| one.clone());
            let own: Vec<Question> = own.collect();
            gradients.push(answer_gradients(run, &own, &of_cluster)?);
        }
        let facts = names.iter().zip(cluster_of).zip(neurons);
        let facts = facts.map(|((fact, cluster), neurons)| {
            let fact = fact.clone();
            EditedFact { fact, cluster, neurons }
        });
        Ok((facts.collect(), gradients))
    }

    /// The new checkpoint, and what puts the columns back.
    pub fn edit<'a>(&self, model: &'a Model, edits: &FactEdits) -> Result<(Rewrite<'a>, Undo)> {
        if edits.shifts.values().all(|of| of.is_empty()) {
            let what = "no fact is attributed to any neuron";
            let remedy = "ask for answers that the model gives (--old)";
            return Err(Error::config("edit-ece", what, remedy));
        }
        let facts: Vec<&str> = edits.facts.iter().map(|fact| fact.fact.as_str()).collect();
        let edit = json!({"ece": {"facts": facts, "rate": self.rate, "distance": self.distance,
            "threshold": self.threshold, "most": self.most}});
        shift(model, &edits.shifts, edit)
    }
}

/// The question with the old answer as the right one.
fn about_old(question: &Question) -> Question {
    let old = question.foil.expect("every question has its old answer");
    Question { target: old, foil: Some(question.target), ..question.clone() }
}

/// Reads questions with an answer, and their groups.
pub fn read_questions(config: &QuestionConfig, model: &Model, add_bos: bool) -> Result<Asked> {
    if model.spec.classes().is_none() || model.spec.logits_per_sequence() {
        let remedy = "use a checkpoint with its language-model head";
        return Err(Error::input("config.json", "the model cannot answer questions", remedy));
    }
    let tokenizer = open_tokenizer(model, add_bos)?;
    let read = read::read(config, model, &tokenizer)?;
    let numbers = 0..read.list.len();
    let (fact_of, names) = match config.group {
        Some(_) => {
            let of = read.group_of.iter().map(|group| group.map_or(0, |group| group as usize));
            (of.collect(), read.groups)
        }
        None => (numbers.clone().collect(), numbers.map(|n| format!("question {n}")).collect()),
    };
    Ok(Asked { questions: read.list, fact_of, names })
}

/// Does work on the first device that can, with batches as small as its memory asks for. A path of
/// `steps` copies of a prompt goes through the model together.
fn on_one<O: SuffixOps + Device, T>(
    slots: Vec<Slot<'_, O>>,
    model: &Model,
    (questions, steps): (&[Question], usize),
    work: impl FnMut(&mut Differentiable<O>) -> Result<T>,
) -> Result<T> {
    let sequence = questions.iter().map(|question| question.tokens.len()).max().unwrap_or(1);
    let least = sequence * steps.max(1);
    let limits = Limits { tokens: BATCH_TOKENS.max(least), sequence };
    Fleet::new(slots, Setup::differentiable(model, limits).at_least(least)).on_one(work)
}

/// What a model answers.
pub fn ask<O: SuffixOps + Device>(
    slots: Vec<Slot<'_, O>>,
    model: &Model,
    questions: &[Question],
) -> Result<Vec<Score>> {
    on_one(slots, model, (questions, 1), |run| answers(run, questions))
}

/// exp of the mean of -log p(right answer).
pub fn perplexity(scores: &[Score]) -> f64 {
    mean(scores, |score| -f64::from(score.log_prob)).exp()
}

fn mean(scores: &[Score], of: impl Fn(&Score) -> f64) -> f64 {
    scores.iter().map(of).sum::<f64>() / scores.len().max(1) as f64
}

impl Outcome {
    /// From the scores of both models; a score's target is the new answer, its foil the old.
    pub fn of(before: &[Score], after: &[Score]) -> Self {
        let both = |of: fn(&Score) -> f64| [mean(before, of), mean(after, of)];
        Self {
            questions: before.len(),
            success: both(|score| f64::from(u8::from(score.correct))),
            preferred: both(|score| f64::from(u8::from(score.logit_difference > 0.0))),
            new_log_prob: both(|score| f64::from(score.log_prob)),
            old_log_prob: both(|score| f64::from(score.log_prob - score.logit_difference)),
        }
    }
}

/// Where facts are edited, and what is asked of both models beside the facts.
#[derive(Clone, Debug)]
pub struct Bench {
    /// See [`Devices::choose`].
    pub device: Option<String>,
    /// Of the forward and backward pass.
    pub dtype: Dtype,
}

impl Bench {
    /// [`FactEditing::find`] on the devices of the bench.
    pub fn find(&self, how: &FactEditing, model: &Model, asked: &Asked) -> Result<FactEdits> {
        match Devices::choose(self.device.as_deref())? {
            Devices::Cpu => how.find(vec![cpu(self.dtype)], model, asked),
            Devices::Cuda(found) => how.find(gpus(&found, self.dtype), model, asked),
        }
    }

    /// [`ask`] on the devices of the bench.
    pub fn ask(&self, model: &Model, questions: &[Question]) -> Result<Vec<Score>> {
        match Devices::choose(self.device.as_deref())? {
            Devices::Cpu => ask(vec![cpu(self.dtype)], model, questions),
            Devices::Cuda(found) => ask(gpus(&found, self.dtype), model, questions),
        }
    }
}

/// Files of questions whose right answers an edit should leave alone.
pub fn others(files: Vec<PathBuf>, like: &QuestionConfig, answer: &str) -> QuestionConfig {
    let answer = answer.to_owned();
    QuestionConfig { files, answer, wrong: None, group: None, ..like.clone() }
}
