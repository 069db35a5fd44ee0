//! Passes over the questions of an experiment, block by block, on every device.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use super::{BLOCK, Experiment};
use crate::accumulate::effects::{EffectPlan, EffectState, Effects, Spread};
use crate::corpus::block::Counts;
use crate::device::backward::Differentiable;
use crate::device::suffix_ops::SuffixOps;
use crate::engine::fleet::{Device, Fleet, Setup, Slot};
use crate::engine::pass::{BlockWork, PassProgress, run_pass};
use crate::engine::share::Underway;
use crate::engine::states::{COMMIT_INTERVAL, States};
use crate::error::Result;
use crate::run::Report;
use crate::run::folder::RunFolder;
use crate::stimulate::arms::Arm;
use crate::stimulate::mediation::Mediation;
use crate::stimulate::neurons::activations;
use crate::stimulate::question::{QuestionBatch, batches};
use crate::stimulate::resample::Asked;
use crate::stimulate::task::{BASELINE, ByLayer, Found, Task, Tasks};

const SURVEY: Pass<'static> = Pass { title: "survey", folder: "survey", identity: &[] };

/// What neurons do before anything is changed.
pub(super) struct Survey {
    /// Mean over all tokens, by layer of the model; empty for layers that are not asked.
    pub(super) means: ByLayer,
    /// Neurons at the answering tokens, by group, a measure for each layer asked.
    pub(super) answering: Vec<Effects>,
}

/// A model on its devices, and where its states go.
pub(super) struct Passes<'a, O: SuffixOps> {
    pub(super) experiment: &'a Experiment,
    pub(super) fleet: Fleet<'a, O, Differentiable<O>>,
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

/// What a pass does with its questions: `ask` adds what it finds in those that are asked.
struct Asking<'a, F> {
    experiment: &'a Experiment,
    plan: &'a EffectPlan,
    ask: F,
}

impl<O, F> BlockWork<Differentiable<O>> for Asking<'_, F>
where
    O: SuffixOps,
    F: Fn(&mut Differentiable<O>, &Asked<'_>, &mut EffectState) -> Result<()> + Sync,
{
    type Block = u32;
    type State = EffectState;

    fn blocks(&self) -> u32 {
        self.experiment.blocks()
    }

    fn index(&self, block: &u32) -> u32 {
        *block
    }

    /// Questions are added one after the other, so that the size of the batches changes no bit.
    fn run(
        &self,
        run: &mut Differentiable<O>,
        block: &u32,
        underway: &Underway<'_>,
    ) -> Result<EffectState> {
        let questions = &self.experiment.questions;
        let mut state = EffectState::new(self.plan);
        let (whole, parts) = parts(self.experiment, *block);
        for part in parts {
            let (among, groups) =
                (&questions.list[part.clone()], &questions.group_of[part.clone()]);
            for own in batches(among, run.limits().tokens) {
                underway.go_on()?;
                let done = part.start + own.end - whole.start;
                (self.ask)(run, &Asked { among, groups, own }, &mut state)?;
                underway.so_far(state.counts.tokens, done as f64 / whole.len() as f64);
            }
        }
        Ok(state)
    }
}

impl<'a, O: SuffixOps + Device> Passes<'a, O> {
    /// Opens the first device, so that a model that does not fit, or a device that is not well, is seen
    /// before anything is written.
    pub(super) fn new(
        experiment: &'a Experiment,
        slots: Vec<Slot<'a, O>>,
        folder: &'a RunFolder,
        (stop, report): (&'a AtomicBool, Report<'a>),
    ) -> Result<Self> {
        let (limits, least) = experiment.limits;
        let setup = Setup::differentiable(&experiment.model, limits).at_least(least);
        let mut fleet = Fleet::new(slots, setup);
        fleet.on_one(|_| Ok(()))?;
        Ok(Self { experiment, fleet, folder, stop, report, tokens: 0 })
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
        if !self.experiment.is_surveyed() {
            return Ok(None);
        }
        let which = &self.experiment.neurons;
        let (layers, neurons) = (&which.layers, which.width);
        let groups = self.experiment.questions.groups.len();
        let plan = EffectPlan { groups, widths: vec![neurons; 2 * layers.len()] };
        let state = self.pass(&SURVEY, &plan, |run, asked: &Asked<'_>, state| {
            let (questions, of) = asked.questions();
            let batch = QuestionBatch::new(questions);
            let kept = activations(run, &batch, &which.sites())?;
            let (all, answering) = state.measures.split_at_mut(layers.len());
            for ((&layer, all), answering) in layers.iter().zip(all).zip(answering) {
                let values = kept.read(run.ops(), which.site(layer))?;
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
        let mut means = vec![Vec::new(); self.experiment.model.spec.layers];
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
        let (neurons, readout) = (self.experiment.neurons.clone(), self.experiment.readout.clone());
        let tasks = Tasks { tasks, neurons, readout };
        let plan = tasks.plan(self.experiment.questions.groups.len());
        let pass = Pass { title: "asking", folder: name, identity: identity.as_bytes() };
        let state =
            self.pass(&pass, &plan, |run, asked: &Asked<'_>, state| tasks.add(run, asked, state))?;
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
        let readout = self.experiment.readout.as_deref();
        let state = self.pass(&pass, &plan, |run, asked: &Asked<'_>, state| {
            let asked = asked.questions();
            for (arm, effects) in arms.iter().zip(&mut state.measures) {
                arm.add(run, asked, readout, effects)?;
            }
            state.counts.tokens += asked.0.iter().map(|one| one.tokens.len() as u64).sum::<u64>();
            Ok(())
        })?;
        Ok(state.measures)
    }

    /// Sets patched together on every question: the whole effect, and that of each set.
    pub(super) fn mediated(&mut self, name: &str, mediation: &Mediation) -> Result<Vec<Spread>> {
        let groups = self.experiment.questions.groups.len();
        let plan = EffectPlan { groups, widths: vec![1; mediation.measures()] };
        let identity = format!("{mediation:?}");
        let pass = Pass { title: "patching", folder: name, identity: identity.as_bytes() };
        let readout = self.experiment.readout.as_deref();
        let state = self.pass(&pass, &plan, |run, asked: &Asked<'_>, state| {
            let asked = asked.questions();
            mediation.add(run, asked, readout, &mut state.measures)?;
            state.counts.tokens += asked.0.iter().map(|one| one.tokens.len() as u64).sum::<u64>();
            Ok(())
        })?;
        Ok(state.measures.iter().map(|effects| effects.spread(0, 0)).collect())
    }

    /// One pass: blocks that earlier attempts did are not done again.
    fn pass(
        &mut self,
        &Pass { title, folder, identity }: &Pass<'_>,
        plan: &EffectPlan,
        ask: impl Fn(&mut Differentiable<O>, &Asked<'_>, &mut EffectState) -> Result<()> + Sync,
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
        let asking = Asking { experiment, plan, ask };
        let todo = states.missing(blocks).into_iter().map(Ok);
        let report = &mut *self.report;
        let progress = |PassProgress { tokens, blocks: done }| {
            report(title, tokens, done / f64::from(blocks));
        };
        run_pass(&mut self.fleet, &asking, &mut states, todo, (self.stop, progress))?;
        self.tokens += states.tokens() - before;
        (self.report)(title, states.tokens(), 1.0);
        states.finish(blocks)
    }
}

/// The questions of a block, and the runs of them whose tokens lend each other values: what the
/// experiment's own batches hold.
fn parts(experiment: &Experiment, block: u32) -> (Range<usize>, Vec<Range<usize>>) {
    let size = experiment.config.neurons.block.unwrap_or(BLOCK).max(1);
    let first = block as usize * size;
    let last = (first + size).min(experiment.questions.list.len());
    let cuts = batches(&experiment.questions.list[first..last], experiment.limits.0.tokens);
    let parts = cuts.into_iter().map(|cut| first + cut.start..first + cut.end).collect();
    (first..last, parts)
}
