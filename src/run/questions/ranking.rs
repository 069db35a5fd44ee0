//! Rankings of neurons from what changing them did.

use std::collections::BTreeSet;

use super::Experiment;
use super::resolve::Chosen;
use crate::accumulate::effects::{Effects, Spread};
use crate::artifact::effects::EffectRow;
use crate::methods::registry::Causal;
use crate::methods::significance::{benjamini_hochberg, t_two_sided};
use crate::stimulate::diffmask::Search;
use crate::stimulate::neurons::Neurons;

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
    pub(super) spread: Spread,
    p: Option<f64>,
    q: Option<f64>,
    share: Option<f64>,
    pub(super) selected: bool,
}

/// A method's ranking for all questions and for each group, from the measures of its layers. `only`
/// are the columns of each layer where not all were asked.
pub(super) fn rank(
    chosen: &Chosen,
    measures: &[Effects],
    only: Option<&[Vec<u32>]>,
) -> Vec<Ranking> {
    let layers = match chosen.causal {
        Causal::Knowledge => measures.len() / 2,
        _ => measures.len(),
    };
    let (values, counts) = measures.split_at(layers);
    let sets = (!counts.is_empty()).then(|| refined(counts, chosen.call.number("p")));
    let ranking = |group: usize| {
        let mut neurons = one((values, only), group, |mean| chosen.importance(mean));
        for neuron in &mut neurons {
            let (layer, column) = neuron.place;
            if let Some(sets) = &sets {
                neuron.share = Some(counts[layer].spread(group, column as usize).mean);
                neuron.selected = sets[group].contains(&neuron.place);
            }
            if chosen.causal == Causal::Agreement {
                neuron.selected = neuron.score > chosen.call.number("t");
            }
        }
        Ranking { method: chosen.call.to_string(), group, neurons }
    };
    (0..values[0].groups()).map(ranking).collect()
}

/// The ranking that a search of gates ends with, over all questions. `n` is their number.
pub(super) fn rank_gates(chosen: &Chosen, search: &Search, neurons: &Neurons, n: u64) -> Ranking {
    let decided = search.decided();
    let columns = |layer| (0..).take(neurons.width).map(move |column| (layer, column));
    let places = (0..neurons.layers.len()).flat_map(columns);
    let ranked = places.map(|place: Place| {
        let (score, selected) = search.verdict(place.0, place.1 as usize);
        let mean = f64::from(decided.gates[place.0][place.1 as usize]);
        let spread = Spread { n, mean, error: 0.0 };
        Ranked { place, score, spread, p: None, q: None, share: None, selected }
    });
    let mut neurons: Vec<Ranked> = ranked.collect();
    neurons.sort_by(|a, b| b.score.total_cmp(&a.score).then(a.place.cmp(&b.place)));
    Ranking { method: chosen.call.to_string(), group: 0, neurons }
}

/// The ranking of weights of a regression, over all questions.
pub(super) fn rank_weights(chosen: &Chosen, weights: &[Vec<f64>], n: u64) -> Ranking {
    let all = || weights.iter().flatten();
    let count = all().count() as f64;
    let mean = all().sum::<f64>() / count;
    let sd = (all().map(|w| (w - mean).powi(2)).sum::<f64>() / count).sqrt();
    let far = chosen.call.number("sd") * sd;
    let places = (0..)
        .zip(weights)
        .flat_map(|(layer, row)| (0..).zip(row).map(move |(column, w)| ((layer, column), *w)));
    let ranked = places.map(|(place, w)| Ranked {
        place,
        score: w.abs(),
        spread: Spread { n, mean: w, error: 0.0 },
        p: None,
        q: None,
        share: None,
        selected: (w - mean).abs() > far,
    });
    let mut neurons: Vec<Ranked> = ranked.collect();
    neurons.sort_by(|a, b| b.score.total_cmp(&a.score).then(a.place.cmp(&b.place)));
    Ranking { method: chosen.call.to_string(), group: 0, neurons }
}

/// The columns of each layer with the largest means in magnitude, so many of all layers together.
pub(super) fn largest(measures: &[Effects], top: usize) -> Vec<Vec<u32>> {
    let ranked = one((measures, None), 0, f64::abs);
    let mut only = vec![Vec::new(); measures.len()];
    for neuron in ranked.iter().take(top) {
        only[neuron.place.0].push(neuron.place.1);
    }
    only.iter_mut().for_each(|columns| columns.sort_unstable());
    only
}

fn one(
    (values, only): (&[Effects], Option<&[Vec<u32>]>),
    group: usize,
    importance: impl Fn(f64) -> f64,
) -> Vec<Ranked> {
    let places = |layer: usize| (0..values[layer].width()).map(move |index| (layer, index));
    let mut neurons: Vec<Ranked> = (0..values.len())
        .flat_map(places)
        .map(|(layer, index)| {
            let spread = values[layer].spread(group, index);
            let column = u32::try_from(index).expect("neurons are counted in u32");
            Ranked {
                place: (layer, only.map_or(column, |only| only[layer][index])),
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
            let layer = experiment.neurons.layers[layer];
            EffectRow {
                method: self.method.clone(),
                label: label.clone(),
                concept: concept.clone(),
                site: experiment.neurons.site(layer).to_string(),
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
