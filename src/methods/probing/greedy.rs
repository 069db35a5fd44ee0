//! Greedy selection of neurons with one trained probe: the neuron whose addition makes the probe best on
//! development rows, again and again. What a probe says with one more neuron is the probe's own affair.

use super::information::{Information, bits, counts, entropy};

/// What the next neuron must make largest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Criterion {
    /// H(V) - mean -log2 p(v | h). The default.
    #[default]
    MutualInformation,
    /// Mean log p(v | h). H(V) does not depend on the neurons, so the order is that of `mi`; the scores
    /// differ.
    LogLikelihood,
    /// Share of rows whose label is the likeliest class.
    Accuracy,
}

/// The probe with the neurons chosen so far.
pub trait Chosen {
    /// Neurons there are.
    fn neurons(&self) -> usize;
    /// Writes log p(class, row) up to a constant of the row, for the chosen neurons and `neuron`, into
    /// `joint`, `[classes, rows]`. False where the neuron cannot be added.
    fn with(&self, neuron: usize, joint: &mut [f64]) -> bool;
    /// Adds a neuron.
    fn add(&mut self, neuron: usize);
}

/// One neuron more.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Step {
    /// The neuron.
    pub neuron: u32,
    /// What it was chosen by.
    pub score: f64,
    /// What the neurons so far know together, in bits.
    pub information: Information,
    /// Share of rows that they answer right.
    pub accuracy: f64,
    /// What the second best would have scored less; none for the last neuron.
    pub lead: Option<f64>,
}

/// Chooses up to `most` neurons by rows whose labels are below `classes`. Equal scores go to the smaller neuron. Ends early when none can be added.
pub fn select(
    chosen: &mut impl Chosen,
    (labels, classes): (&[u32], usize),
    (criterion, most): (Criterion, usize),
) -> Vec<Step> {
    let entropy = entropy(&counts(labels, classes));
    let mut left: Vec<usize> = (0..chosen.neurons()).collect();
    let mut joint = vec![0.0; classes * labels.len()];
    let mut steps = Vec::new();
    while steps.len() < most {
        let mut best: Option<(usize, Step)> = None;
        let mut second = None;
        for (place, &neuron) in left.iter().enumerate() {
            if !chosen.with(neuron, &mut joint) {
                continue;
            }
            let step = judge(neuron, &joint, labels, (entropy, criterion));
            match best {
                Some((_, top)) if step.score <= top.score => {
                    second = Some(second.map_or(step.score, |s: f64| s.max(step.score)));
                }
                _ => {
                    second = best.map(|(_, top)| top.score);
                    best = Some((place, step));
                }
            }
        }
        let Some((place, mut step)) = best else { break };
        step.lead = second.map(|second| step.score - second);
        chosen.add(left.remove(place));
        steps.push(step);
    }
    steps
}

fn judge(
    neuron: usize,
    joint: &[f64],
    labels: &[u32],
    (entropy, criterion): (f64, Criterion),
) -> Step {
    let rows = labels.len();
    let (mut nats, mut right) = (0.0, 0_u64);
    for (row, &label) in labels.iter().enumerate() {
        let at = |class: usize| joint[class * rows + row];
        let classes = joint.len() / rows;
        let mut top = 0;
        (1..classes).for_each(|class| top = if at(class) > at(top) { class } else { top });
        let sum: f64 = (0..classes).map(|class| (at(class) - at(top)).exp()).sum();
        nats += at(top) + sum.ln() - at(label as usize);
        right += u64::from(top == label as usize);
    }
    let n = rows.max(1) as f64;
    let information = Information { entropy, cross_entropy: bits(nats / n) };
    let accuracy = right as f64 / n;
    let score = match criterion {
        Criterion::MutualInformation => information.mutual(),
        Criterion::LogLikelihood => -nats / n,
        Criterion::Accuracy => accuracy,
    };
    // A density of 0 for every class is no answer.
    let score = if score.is_nan() { f64::NEG_INFINITY } else { score };
    Step { neuron: neuron as u32, score, information, accuracy, lead: None }
}
