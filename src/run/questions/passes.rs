//! Passes over the questions of an experiment, block by block.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::config::JudgeHow;
use super::{BATCH_TOKENS, BLOCK, Chosen, Experiment, resolve};
use crate::accumulate::effects::{EffectPlan, EffectState, Effects};
use crate::corpus::block::Counts;
use crate::device::backward::Differentiable;
use crate::device::forward::Limits;
use crate::device::suffix_ops::SuffixOps;
use crate::engine::states::{COMMIT_INTERVAL, States};
use crate::error::{Error, Result};
use crate::run::Report;
use crate::run::folder::RunFolder;
use crate::stimulate::arms::Arm;
use crate::stimulate::neurons::activations;
use crate::stimulate::question::{Question, QuestionBatch, batches};
use crate::stimulate::task::{BASELINE, ByLayer, Found, Task, Tasks};

const SURVEY: Pass<'static> = Pass { title: "survey", folder: "survey", identity: &[] };

/// What neurons do before anything is changed.
pub(super) struct Survey {
    /// Mean over all tokens, by layer of the model; empty for layers that are not asked.
    pub(super) means: ByLayer,
    /// Neurons at the answering tokens, by group, a measure for each layer asked.
    pub(super) answering: Vec<Effects>,
}

/// A model on its device, and where its states go.
pub(super) struct Passes<'a, O: SuffixOps> {
    pub(super) experiment: &'a Experiment,
    pub(super) run: Differentiable<O>,
    pub(super) folder: &'a RunFolder,
    pub(super) stop: &'a AtomicBool,
    pub(super) report: Report<'a>,
    pub(super) tokens: u64,
}

/// One pass: what people read, and what tells its states from those of others.
struct Pass<'a> {
    title: &'static str,
    /// Folder of its states.
    folder: &'a str,
    /// Everything that decides its numbers, beside the experiment.
    identity: &'a [u8],
}

/// Some of the questions, with their groups.
type Asked<'a> = (&'a [Question], &'a [Option<u32>]);

impl<'a, O: SuffixOps> Passes<'a, O> {
    pub(super) fn new(
        experiment: &'a Experiment,
        ops: O,
        folder: &'a RunFolder,
        (stop, report): (&'a AtomicBool, Report<'a>),
    ) -> Result<Self> {
        let lengths = experiment.questions.list.iter().map(|question| question.tokens.len());
        let longest = lengths.max().unwrap_or(1);
        let batch = experiment.config.neurons.batch_tokens.unwrap_or(BATCH_TOKENS);
        let causal = experiment.model.spec.attention.causal;
        let at_once = resolve::tokens_at_once(&experiment.methods, &experiment.questions, causal)?;
        let limits = Limits { tokens: batch.max(longest).max(at_once), sequence: longest };
        let run = Differentiable::new(ops, &experiment.model, limits, (&BTreeSet::new(), true))?;
        Ok(Self { experiment, run, folder, stop, report, tokens: 0 })
    }

    /// Tokens of the questions that this attempt asked, copies not counted.
    pub(super) fn tokens(&self) -> u64 {
        self.tokens
    }

    /// At most so long between two states on disk.
    pub(super) fn interval(&self) -> Duration {
        let seconds = self.experiment.config.device.commit_seconds;
        seconds.map_or(COMMIT_INTERVAL, Duration::from_secs)
    }

    /// Means of neurons, if anything asks for them.
    pub(super) fn survey(&mut self) -> Result<Option<Survey>> {
        let config = &self.experiment.config;
        let judged = config.judge.takes_away() && config.judge.how == JudgeHow::Mean;
        let asked = self.experiment.methods.iter().any(Chosen::needs_means);
        if !judged && !asked && config.judge.steer.is_empty() {
            return Ok(None);
        }
        let asked = &self.experiment.neurons;
        let (layers, neurons) = (&asked.layers, asked.width);
        let groups = self.experiment.questions.groups.len();
        let plan = EffectPlan { groups, widths: vec![neurons; 2 * layers.len()] };
        let state = self.pass(&SURVEY, &plan, |run, (questions, of), state| {
            let batch = QuestionBatch::new(questions);
            let kept = activations(run, &batch, &asked.sites())?;
            let (all, answering) = state.measures.split_at_mut(layers.len());
            for ((&layer, all), answering) in layers.iter().zip(all).zip(answering) {
                let values = kept.read(run.ops(), asked.site(layer))?;
                for row in values.chunks_exact(neurons) {
                    all.add(None, row.iter().map(|x| f64::from(*x)));
                }
                for (&row, group) in batch.rows.iter().zip(of) {
                    let row = &values[row as usize * neurons..][..neurons];
                    answering.add(*group, row.iter().map(|x| f64::from(*x)));
                }
            }
            state.counts.tokens += batch.tokens.len() as u64;
            Ok(())
        })?;
        let mut means = vec![Vec::new(); self.run.spec().layers];
        for (&layer, effects) in layers.iter().zip(&state.measures) {
            #[expect(clippy::cast_possible_truncation, reason = "means of f32 values")]
            let mean = |neuron| effects.spread(0, neuron).mean as f32;
            means[layer] = (0..neurons).map(mean).collect();
        }
        let answering = state.measures[layers.len()..].to_vec();
        Ok(Some(Survey { means: Arc::new(means), answering }))
    }

    /// Tasks on every question: the baseline, and what each task found.
    pub(super) fn tasks(
        &mut self,
        name: &str,
        tasks: Vec<Task>,
    ) -> Result<(Effects, Found, Counts)> {
        let identity = format!("{tasks:?}");
        let tasks = Tasks { tasks, neurons: self.experiment.neurons.clone() };
        let plan = tasks.plan(self.experiment.questions.groups.len());
        let pass = Pass { title: "asking", folder: name, identity: identity.as_bytes() };
        let state = self.pass(&pass, &plan, |run, asked, state| tasks.add(run, asked, state))?;
        let counts = state.counts;
        let (baseline, found) = tasks.split(state);
        Ok((baseline, found, counts))
    }

    /// Every arm on every question: a measure of [`BASELINE`] numbers for each.
    pub(super) fn arms(&mut self, name: &str, arms: &[Arm]) -> Result<Vec<Effects>> {
        let groups = self.experiment.questions.groups.len();
        let plan = EffectPlan { groups, widths: vec![BASELINE; arms.len()] };
        // Sets follow from the rankings, and these from the questions: their bytes tell arms apart.
        let identity = format!("{arms:?}");
        let pass = Pass { title: "judging", folder: name, identity: identity.as_bytes() };
        let state = self.pass(&pass, &plan, |run, asked, state| {
            for (arm, effects) in arms.iter().zip(&mut state.measures) {
                arm.add(run, asked, effects)?;
            }
            state.counts.tokens += asked.0.iter().map(|one| one.tokens.len() as u64).sum::<u64>();
            Ok(())
        })?;
        Ok(state.measures)
    }

    /// One pass: blocks that earlier attempts did are not done again.
    fn pass(
        &mut self,
        &Pass { title, folder, identity }: &Pass<'_>,
        plan: &EffectPlan,
        mut work: impl FnMut(&mut Differentiable<O>, Asked<'_>, &mut EffectState) -> Result<()>,
    ) -> Result<EffectState> {
        let experiment = self.experiment;
        let blocks = experiment.blocks();
        let run_id = *blake3::Hasher::new()
            .update(&experiment.run_id)
            .update(folder.as_bytes())
            .update(identity)
            .finalize()
            .as_bytes();
        let mut states = States::load(&self.folder.states().join(folder), run_id, plan.clone())?
            .commit_every(self.interval());
        let before = states.tokens();
        for block in states.missing(blocks) {
            if self.stop.load(Ordering::Relaxed) {
                states.commit()?;
                return Err(Error::Unfinished { what: "stopped by a signal".into() });
            }
            (self.report)(title, states.tokens(), f64::from(block) / f64::from(blocks));
            let mut state = EffectState::new(plan);
            for part in parts(experiment, block, self.run.limits().tokens) {
                let asked = (
                    &experiment.questions.list[part.clone()],
                    &experiment.questions.group_of[part],
                );
                work(&mut self.run, asked, &mut state)?;
            }
            states.add(block, state)?;
        }
        self.tokens += states.tokens() - before;
        (self.report)(title, states.tokens(), 1.0);
        states.finish(blocks)
    }
}

/// Questions of a block that fit in one batch each.
fn parts(experiment: &Experiment, block: u32, tokens: usize) -> Vec<Range<usize>> {
    let size = experiment.config.neurons.block.unwrap_or(BLOCK).max(1);
    let first = block as usize * size;
    let last = (first + size).min(experiment.questions.list.len());
    let cuts = batches(&experiment.questions.list[first..last], tokens);
    cuts.into_iter().map(|cut| first + cut.start..first + cut.end).collect()
}
