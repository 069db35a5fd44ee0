//! What rankings are worth: the questions asked again with the top neurons of each taken away or
//! moved, beside random neurons of the same layers.

use std::collections::BTreeMap;

use super::config::{JudgeConfig, JudgeHow};
use super::passes::{Passes, Survey};
use super::ranking::{Place, Ranking};
use crate::accumulate::effects::Effects;
use crate::artifact::effects::CurveRow;
use crate::device::suffix_ops::SuffixOps;
use crate::error::{Error, Result};
use crate::hash::{GAMMA, mix};
use crate::stimulate::arms::{Act, Arm, NeuronSet};
use crate::stimulate::read::Questions;

/// Random sets beside each set of a ranking.
const MOST_DRAWS: u32 = 100;

/// Refuses what cannot be judged.
pub(super) fn check(config: &JudgeConfig, questions: &Questions, neurons: usize) -> Result<()> {
    if let Some(size) = config.sizes.iter().find(|&&size| size == 0 || size > neurons) {
        let what = format!("a set of {size} neurons");
        return Err(Error::config("judge.sizes", what, format!("choose 1 to {neurons}")));
    }
    if config.random > MOST_DRAWS {
        let what = format!("{} random draws", config.random);
        return Err(Error::config("judge.random", what, format!("choose at most {MOST_DRAWS}")));
    }
    if config.steer.iter().any(|strength| !strength.is_finite()) {
        return Err(Error::config("judge.steer", "a strength is no number", "write [1, 2, 4]"));
    }
    if !config.steer.is_empty() && questions.groups.len() != 2 {
        let what = format!(
            "{} groups of questions; steering goes from one to the other",
            questions.groups.len()
        );
        return Err(Error::config(
            "judge.steer",
            what,
            "set questions.group to a key with two values",
        ));
    }
    if !config.steer.is_empty() && config.sizes.is_empty() {
        let remedy = "list sizes: the largest set is steered";
        return Err(Error::config("judge.steer", "there are no judge.sizes", remedy));
    }
    Ok(())
}

/// An arm with what its rows say of it.
struct Named {
    arm: Arm,
    method: String,
    order: &'static str,
    act: &'static str,
    draw: i32,
    size: usize,
    strength: f64,
}

/// The curves of all rankings over all questions, the untouched model first.
pub(super) fn judge<O: SuffixOps>(
    passes: &mut Passes<'_, O>,
    rankings: &[Ranking],
    (survey, baseline): (Option<&Survey>, &Effects),
) -> Result<Vec<CurveRow>> {
    let experiment = passes.experiment;
    let config = &experiment.config.judge;
    let untouched = Named {
        arm: Arm { neurons: NeuronSet::new(), act: Act::Set(BTreeMap::new()) },
        method: "none".into(),
        order: "",
        act: "",
        draw: 0,
        size: 0,
        strength: 0.0,
    };
    let mut rows = rows_of(experiment, &untouched, baseline);
    if config.sizes.is_empty() {
        return Ok(rows);
    }
    let maker = Maker { layers: &experiment.layers, config, survey };
    let whole = rankings.iter().filter(|ranking| ranking.group == 0);
    let arms: Vec<Named> = whole.flat_map(|ranking| maker.arms(ranking)).collect();
    let plain: Vec<Arm> = arms.iter().map(|named| named.arm.clone()).collect();
    for (named, effects) in arms.iter().zip(passes.arms(&plain)?) {
        rows.extend(rows_of(experiment, named, &effects));
    }
    Ok(rows)
}

struct Maker<'a> {
    layers: &'a [usize],
    config: &'a JudgeConfig,
    survey: Option<&'a Survey>,
}

impl Maker<'_> {
    fn arms(&self, ranking: &Ranking) -> Vec<Named> {
        let order: Vec<Place> = ranking.neurons.iter().map(|neuron| neuron.place).collect();
        let largest = self.config.sizes.iter().copied().max().unwrap_or(0);
        let mut arms = Vec::new();
        for &size in &self.config.sizes {
            arms.extend(self.both(ranking, &order, size, None));
        }
        for &strength in &self.config.steer {
            arms.extend(self.both(ranking, &order, largest, Some(strength)));
        }
        arms
    }

    /// The top of a ranking, and random neurons: as many of each layer.
    fn both(
        &self,
        ranking: &Ranking,
        order: &[Place],
        size: usize,
        strength: Option<f32>,
    ) -> Vec<Named> {
        let top = &order[..size];
        let named = |places: &[Place], order: &'static str, draw: u32| Named {
            arm: self.arm(places, strength),
            method: ranking.method.clone(),
            order,
            act: match (strength, self.config.how) {
                (Some(_), _) => "steer",
                (None, JudgeHow::Zero) => "zero",
                (None, JudgeHow::Mean) => "mean",
            },
            draw: i32::try_from(draw).unwrap_or(i32::MAX),
            size,
            strength: strength.map_or(0.0, f64::from),
        };
        let random = (0..self.config.random).map(|draw| (draw, matched(top, order, draw)));
        std::iter::once(named(top, "top", 0))
            .chain(random.map(|(draw, places)| named(&places, "random", draw)))
            .collect()
    }

    fn arm(&self, places: &[Place], strength: Option<f32>) -> Arm {
        let mut sets: BTreeMap<usize, Vec<u32>> = BTreeMap::new();
        for &(layer, column) in places {
            sets.entry(layer).or_default().push(column);
        }
        sets.values_mut().for_each(|columns| columns.sort_unstable());
        let values = |number: &dyn Fn(usize, u32) -> f32| -> BTreeMap<usize, Vec<f32>> {
            let layer = |(&at, columns): (&usize, &Vec<u32>)| {
                (self.layers[at], columns.iter().map(|&column| number(at, column)).collect())
            };
            sets.iter().map(layer).collect()
        };
        let act = match (strength, self.config.how, self.survey) {
            (Some(strength), _, Some(survey)) => {
                let mean = |group: usize, at: usize, column: u32| {
                    survey.answering[at].spread(group, column as usize).mean
                };
                #[expect(clippy::cast_possible_truncation, reason = "means of f32 values")]
                let towards = |from: usize, to: usize| {
                    values(&|at, column| {
                        strength * (mean(to, at, column) - mean(from, at, column)) as f32
                    })
                };
                Act::Shift(vec![towards(1, 2), towards(2, 1)])
            }
            (None, JudgeHow::Mean, Some(survey)) => {
                Act::Set(values(&|at, column| survey.means[self.layers[at]][column as usize]))
            }
            _ => Act::Set(values(&|_, _| 0.0)),
        };
        let neurons = sets.into_iter().map(|(at, columns)| (self.layers[at], columns)).collect();
        Arm { neurons, act }
    }
}

/// As many neurons of each layer as `top` has, drawn from the others by a seed.
fn matched(top: &[Place], all: &[Place], draw: u32) -> Vec<Place> {
    let mut wanted: BTreeMap<usize, usize> = BTreeMap::new();
    top.iter().for_each(|(layer, _)| *wanted.entry(*layer).or_default() += 1);
    let hash = |&(layer, column): &Place| {
        mix(mix(u64::from(draw).wrapping_add(GAMMA)) ^ ((layer as u64) << 32 | u64::from(column)))
    };
    let mut others: Vec<Place> = all.iter().copied().filter(|place| !top.contains(place)).collect();
    others.sort_by_key(|place| (hash(place), *place));
    others.retain(|(layer, _)| match wanted.get_mut(layer) {
        Some(left) if *left > 0 => {
            *left -= 1;
            true
        }
        _ => false,
    });
    others
}

fn rows_of(experiment: &super::Experiment, named: &Named, effects: &Effects) -> Vec<CurveRow> {
    let compares = experiment.questions.list[0].foil.is_some();
    let label = experiment.config.questions.group.clone().unwrap_or_default();
    (0..effects.groups())
        .map(|group| {
            let [log_prob, difference, correct, preferred] =
                [0, 1, 2, 3].map(|index| effects.spread(group, index));
            let accuracy = if compares { preferred } else { correct };
            CurveRow {
                method: named.method.clone(),
                order: named.order.to_owned(),
                act: named.act.to_owned(),
                draw: named.draw,
                size: i32::try_from(named.size).unwrap_or(i32::MAX),
                strength: named.strength,
                label: label.clone(),
                concept: match group {
                    0 => "*".to_owned(),
                    group => experiment.questions.groups[group - 1].clone(),
                },
                n: i64::try_from(accuracy.n).unwrap_or(i64::MAX),
                accuracy: accuracy.mean,
                accuracy_error: accuracy.error,
                log_prob: log_prob.mean,
                log_prob_error: log_prob.error,
                logit_difference: difference.mean,
                logit_difference_error: difference.error,
            }
        })
        .collect()
}
