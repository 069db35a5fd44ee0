//! What an experiment will hold in memory, counted before it starts.

use super::{Chosen, Experiment};
use crate::device::sizes::{gradient_buffers, transposed_weights};
use crate::error::Result;
use crate::id::SiteKind;
use crate::methods::registry::Causal;
use crate::model::Param;
use crate::run::Devices;
use crate::run::memory::{MemoryPlan, number_bytes, rooms};
use crate::stimulate::task::BASELINE;

/// Counts the memory of an experiment with batches of the size asked for.
pub fn experiment_memory(experiment: &Experiment) -> Result<MemoryPlan> {
    let (model, (limits, _)) = (&experiment.model, experiment.limits);
    let number = number_bytes(experiment.config.model.dtype);
    let (gpus, states) = rooms(&experiment.devices);
    let mut copies = transposed_weights(&model.spec);
    if experiment.devices == Devices::Cpu && model.head_is_tied() {
        // The processor packs its own copy of the table.
        let shape = model.spec.shape(Param::Head).unwrap_or_default();
        copies += shape.iter().map(|side| *side as u64).product::<u64>();
    }
    Ok(MemoryPlan {
        weights: model.cost(limits.sequence)?.parameters * number,
        transposed: copies * number,
        workspace: gradient_buffers(&model.spec, limits) * number,
        kept: limits.tokens as u64 * number * kept_columns(experiment) as u64,
        statistics: 0,
        state: state_bytes(experiment),
        states,
        gpus,
    })
}

/// Columns that are kept of each token of a batch while it is asked: the largest of all passes.
fn kept_columns(experiment: &Experiment) -> usize {
    let (spec, neurons) = (&experiment.model.spec, &experiment.neurons);
    let (all, width) = (neurons.count(), neurons.width);
    let of_mlp = neurons.kind == SiteKind::MlpAct;
    let resumes = |chosen: &Chosen| match chosen.causal {
        Causal::Knowledge => true,
        Causal::Ablate | Causal::Patch | Causal::Agreement => of_mlp,
        _ => false,
    };
    let methods = &experiment.methods;
    let held = match methods.iter().any(resumes) {
        true => neurons.layers.len() * (2 * spec.width + spec.mlp.width),
        false => 0,
    };
    let attention = &spec.attention;
    let pasts = match attention.causal {
        true => 2 * spec.layers * attention.kv_heads * attention.head_width,
        false => 0,
    };
    let patches = |of: &Chosen| matches!(of.causal, Causal::Patch | Causal::AttributionPatch);
    let other = if methods.iter().any(patches) { all } else { 0 };
    let own = if neurons.are_kept() { 0 } else { all };
    let task = methods.iter().map(|chosen| match chosen.causal {
        Causal::AttributionPatch => 2 * (all + spec.width) + 2 * width,
        Causal::LogProbIncrease => {
            neurons.layers.len() * (spec.width + spec.mlp.width) + spec.width
        }
        Causal::Knowledge => 2 * width + spec.width,
        _ => 2 * width,
    });
    // What a probe reads, and the start of its way back.
    let read = experiment.readout.as_ref().map_or(0, |of| 3 * spec.site_width(of.site()));
    let asking = pasts + held + own + other + task.max().unwrap_or(0) + read;
    let searches = methods.iter().any(|chosen| chosen.causal == Causal::Mask);
    let masking = if searches { all + width } else { 0 };
    // A survey and probes keep all neurons, and nothing else.
    asking.max(masking).max(all)
}

/// Bytes of what a block of questions leaves, of all groups: a count, and for each number its sum and
/// the sum of its squares. The largest of all passes but the arms, whose numbers are few.
fn state_bytes(experiment: &Experiment) -> u64 {
    let neurons = experiment.neurons.count() as u64;
    let of = |chosen: &Chosen| match chosen.causal {
        Causal::Knowledge => 2 * neurons,
        Causal::Mask | Causal::DiagnosticWeights => 0,
        _ => neurons,
    };
    let asked: u64 = experiment.methods.iter().map(of).sum();
    let surveyed = if experiment.is_surveyed() { 2 * neurons } else { 0 };
    let groups = experiment.questions.groups.len() as u64 + 1;
    groups * 16 * (BASELINE as u64 + asked.max(surveyed))
}
