//! Rankings of neurons from what changing them did.

use std::collections::BTreeSet;

use super::Experiment;
use super::resolve::importance;
use crate::accumulate::effects::{EffectState, Effects, Spread};
use crate::artifact::effects::EffectRow;
use crate::methods::significance::{benjamini_hochberg, t_two_sided};
use crate::stimulate::gradients::neurons_of;
use crate::stimulate::task::{Task, Tasks};

/// Questions that a refined set of knowledge neurons needs (Dai et al. 2022).
const FEWEST: u64 = 3;
/// Sizes between which the mean refined set should lie, and how `p` is moved towards them.
const SIZES: (f64, f64) = (2.0, 5.0);
const STEP: f64 = 0.05;
const MOVES: usize = 6;

/// A neuron: its place among the layers asked, and its column.
pub(super) type Place = (usize, u32);

/// One method's ranking for one group of questions.
pub(super) struct Ranking {
    pub(super) method: String,
    /// 0 is all questions.
    pub(super) group: usize,
    pub(super) neurons: Vec<Ranked>,
}

/// A neuron of a ranking.
pub(super) struct Ranked {
    pub(super) place: Place,
    score: f64,
    spread: Spread,
    p: Option<f64>,
    q: Option<f64>,
    share: Option<f64>,
    selected: bool,
}

/// Every method's ranking for all questions and for each group.
pub(super) fn rank(experiment: &Experiment, tasks: &Tasks, state: &EffectState) -> Vec<Ranking> {
    let mut rankings = Vec::new();
    for (index, chosen) in experiment.methods.iter().enumerate() {
        let first = tasks.first_measure(index);
        let layers = tasks.layers.len();
        let values = &state.measures[first..first + layers];
        let counts = match tasks.tasks[index] {
            Task::Knowledge { .. } => Some(&state.measures[first + layers..first + 2 * layers]),
            _ => None,
        };
        let sets = counts.map(|counts| refined(counts, chosen.call.number("p")));
        for group in 0..values[0].groups() {
            let mut ranking = one(values, group, |mean| importance(chosen, mean));
            if let (Some(counts), Some(sets)) = (counts, &sets) {
                for neuron in &mut ranking {
                    let (layer, column) = neuron.place;
                    neuron.share = Some(counts[layer].spread(group, column as usize).mean);
                    neuron.selected = sets[group].contains(&neuron.place);
                }
            }
            rankings.push(Ranking { method: chosen.call.to_string(), group, neurons: ranking });
        }
    }
    rankings
}

fn one(values: &[Effects], group: usize, importance: impl Fn(f64) -> f64) -> Vec<Ranked> {
    let mut neurons: Vec<Ranked> = (0..values.len())
        .flat_map(|layer| (0..).take(values[layer].width()).map(move |column| (layer, column)))
        .map(|(layer, column)| {
            let spread = values[layer].spread(group, column as usize);
            Ranked {
                place: (layer, column),
                score: importance(spread.mean),
                p: p_value(spread),
                spread,
                q: None,
                share: None,
                selected: false,
            }
        })
        .collect();
    let p: Vec<f64> = neurons.iter().filter_map(|neuron| neuron.p).collect();
    if p.len() == neurons.len() {
        let q = benjamini_hochberg(&p);
        neurons.iter_mut().zip(q).for_each(|(neuron, q)| neuron.q = Some(q));
    }
    neurons.sort_by(|a, b| b.score.total_cmp(&a.score).then(a.place.cmp(&b.place)));
    neurons
}

/// Two-sided, that the mean is 0.
fn p_value(spread: Spread) -> Option<f64> {
    if spread.n < 2 {
        return None;
    }
    Some(match spread.error {
        0.0 if spread.mean == 0.0 => 1.0,
        0.0 => 0.0,
        error => t_two_sided(spread.mean / error, spread.n as f64 - 1.0),
    })
}

/// Refined sets of every group, that of all questions first: neurons in the coarse sets of at least p
/// of its questions. p is moved until the mean size lies between 2 and 5.
fn refined(counts: &[Effects], p: f64) -> Vec<BTreeSet<Place>> {
    let groups = counts[0].groups();
    let at = |p: f64| -> Vec<BTreeSet<Place>> {
        let member = |group: usize, (layer, column): Place| {
            let share = counts[layer].spread(group, column as usize).mean;
            counts[layer].count(group) >= FEWEST && share >= p - 1e-9
        };
        let all = || {
            let columns = |layer: usize| (0..).take(counts[layer].width()).map(move |c| (layer, c));
            (0..counts.len()).flat_map(columns)
        };
        (0..groups).map(|group| all().filter(|&place| member(group, place)).collect()).collect()
    };
    let (mut p, mut sets) = (p, at(p));
    for _ in 0..MOVES {
        let judged = if groups > 1 { &sets[1..] } else { &sets[..] };
        let mean = judged.iter().map(BTreeSet::len).sum::<usize>() as f64 / judged.len() as f64;
        p += match mean {
            mean if mean < SIZES.0 => -STEP,
            mean if mean > SIZES.1 => STEP,
            _ => break,
        };
        sets = at(p);
    }
    sets
}

impl Ranking {
    /// As rows of `effects.parquet`.
    pub(super) fn rows<'a>(
        &'a self,
        experiment: &'a Experiment,
    ) -> impl Iterator<Item = EffectRow> + 'a {
        let label = experiment.config.questions.group.clone().unwrap_or_default();
        let concept = match self.group {
            0 => "*".to_owned(),
            group => experiment.questions.groups[group - 1].clone(),
        };
        (1..).zip(&self.neurons).map(move |(rank, neuron)| {
            let (layer, column) = neuron.place;
            let layer = experiment.layers[layer];
            EffectRow {
                method: self.method.clone(),
                label: label.clone(),
                concept: concept.clone(),
                site: neurons_of(layer).to_string(),
                layer: i32::try_from(layer).ok(),
                neuron: i32::try_from(column).expect("neurons are counted in i32"),
                rank,
                score: neuron.score,
                effect: neuron.spread.mean,
                error: neuron.spread.error,
                n: i64::try_from(neuron.spread.n).expect("questions are counted in i64"),
                p_value: neuron.p,
                q_value: neuron.q,
                share: neuron.share,
                selected: neuron.selected,
            }
        })
    }
}
