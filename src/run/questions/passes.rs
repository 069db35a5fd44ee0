//! Passes over the questions of an experiment, block by block.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::config::JudgeHow;
use super::{BATCH_TOKENS, BLOCK, Experiment, resolve};
use crate::accumulate::effects::{EffectPlan, EffectState, Effects};
use crate::device::backward::Differentiable;
use crate::device::forward::Limits;
use crate::device::suffix_ops::SuffixOps;
use crate::engine::states::{COMMIT_INTERVAL, States};
use crate::error::{Error, Result};
use crate::run::Report;
use crate::run::folder::RunFolder;
use crate::stimulate::arms::Arm;
use crate::stimulate::gradients::activations;
use crate::stimulate::question::{Question, QuestionBatch, batches};
use crate::stimulate::task::{BASELINE, Tasks};

/// What neurons do before anything is changed.
pub(super) struct Survey {
    /// Mean over all tokens, by layer of the model; empty for layers that are not asked.
    pub(super) means: Arc<Vec<Vec<f32>>>,
    /// Neurons at the answering tokens, by group, a measure for each layer asked.
    pub(super) answering: Vec<Effects>,
}

/// A model on its device, and where its states go.
pub(super) struct Passes<'a, O: SuffixOps> {
    pub(super) experiment: &'a Experiment,
    run: Differentiable<O>,
    folder: &'a RunFolder,
    stop: &'a AtomicBool,
    report: Report<'a>,
    tokens: u64,
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

    /// Means of neurons, if anything asks for them.
    pub(super) fn survey(&mut self) -> Result<Option<Survey>> {
        let config = &self.experiment.config;
        let judged = !config.judge.sizes.is_empty() && config.judge.how == JudgeHow::Mean;
        let asked = self.experiment.methods.iter().any(resolve::needs_means);
        if !judged && !asked && config.judge.steer.is_empty() {
            return Ok(None);
        }
        let (layers, neurons) = (&self.experiment.layers, self.run.spec().mlp.width);
        let groups = self.experiment.questions.groups.len();
        let plan = EffectPlan { groups, widths: vec![neurons; 2 * layers.len()] };
        let state = self.pass(("survey", &[]), &plan, |run, (questions, of), state| {
            let batch = QuestionBatch::new(questions);
            let (_, kept) = activations(run, &batch, layers)?;
            let (all, answering) = state.measures.split_at_mut(layers.len());
            for ((&layer, all), answering) in layers.iter().zip(all).zip(answering) {
                let values = kept.read(run.ops(), layer)?;
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

    /// Every method on every question.
    pub(super) fn methods(
        &mut self,
        means: Option<&Arc<Vec<Vec<f32>>>>,
    ) -> Result<(Tasks, EffectState)> {
        let calls = &self.experiment.methods;
        let tasks = Tasks {
            tasks: calls.iter().map(|call| resolve::task(call, means)).collect(),
            layers: self.experiment.layers.clone(),
            neurons: self.run.spec().mlp.width,
        };
        let plan = tasks.plan(self.experiment.questions.groups.len());
        let state =
            self.pass(("asking", &[]), &plan, |run, asked, state| tasks.add(run, asked, state))?;
        Ok((tasks, state))
    }

    /// Every arm on every question: a measure of [`BASELINE`] numbers for each.
    pub(super) fn arms(&mut self, arms: &[Arm]) -> Result<Vec<Effects>> {
        let groups = self.experiment.questions.groups.len();
        let plan = EffectPlan { groups, widths: vec![BASELINE; arms.len()] };
        // Sets follow from the rankings, and these from the questions: their bytes tell arms apart.
        let identity = format!("{arms:?}");
        let state = self.pass(("judging", identity.as_bytes()), &plan, |run, asked, state| {
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
        (name, identity): (&'static str, &[u8]),
        plan: &EffectPlan,
        mut work: impl FnMut(&mut Differentiable<O>, Asked<'_>, &mut EffectState) -> Result<()>,
    ) -> Result<EffectState> {
        let experiment = self.experiment;
        let blocks = experiment.blocks();
        let run_id = *blake3::Hasher::new()
            .update(&experiment.run_id)
            .update(name.as_bytes())
            .update(identity)
            .finalize()
            .as_bytes();
        let interval = experiment.config.device.commit_seconds;
        let mut states = States::load(&self.folder.states().join(name), run_id, plan.clone())?
            .commit_every(interval.map_or(COMMIT_INTERVAL, Duration::from_secs));
        let before = states.tokens();
        for block in states.missing(blocks) {
            if self.stop.load(Ordering::Relaxed) {
                states.commit()?;
                return Err(Error::Unfinished { what: "stopped by a signal".into() });
            }
            (self.report)(name, states.tokens(), f64::from(block) / f64::from(blocks));
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
        (self.report)(name, states.tokens(), 1.0);
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
