//! What rankings are worth: the questions asked again with the top neurons of each taken away, kept
//! alone or moved, beside random neurons of the same layers (Dalvi et al. 2019; Antverg & Belinkov
//! 2022).

use std::collections::BTreeMap;

use super::config::{JudgeConfig, JudgeHow};
use super::passes::{Passes, Survey};
use super::ranking::{Place, Ranking};
use super::resolve::Chosen;
use super::sets::{Order, matched, others, sizes};
use super::worth::worth;
use crate::accumulate::effects::Effects;
use crate::artifact::effects::{CurveRow, SetRow};
use crate::device::suffix_ops::SuffixOps;
use crate::engine::fleet::Device;
use crate::error::{Error, Result};
use crate::id::NeuronId;
use crate::stimulate::arms::{Act, Arm, NeuronSet};
use crate::stimulate::neurons::Neurons;
use crate::stimulate::read::Questions;

/// Refuses what cannot be judged.
pub(super) fn check(
    config: &JudgeConfig,
    questions: &Questions,
    methods: &[Chosen],
    neurons: &Neurons,
) -> Result<()> {
    let sizes = sizes(config, neurons);
    let largest = sizes.last().copied().unwrap_or(0);
    if largest > neurons.count() {
        let (what, remedy) =
            (format!("a set of {largest} neurons"), format!("choose 1 to {}", neurons.count()));
        return Err(Error::config("judge.sizes", what, remedy));
    }
    for chosen in methods {
        let Some(top) = chosen.screened() else { continue };
        if largest > top || config.bottom {
            let what = format!("'{}' ranks {top} neurons only", chosen.call);
            let remedy = "judge smaller sets without bottom, or leave top out";
            return Err(Error::config("judge.sizes", what, remedy));
        }
    }
    if config.steer.iter().any(|strength| !strength.is_finite()) {
        return Err(Error::config("judge.steer", "a strength is no number", "write [1, 2, 4]"));
    }
    if !config.steer.is_empty() && questions.groups.len() != 2 {
        let count = questions.groups.len();
        let what = format!("{count} groups of questions; steering goes from one to the other");
        let remedy = "set questions.group to a key with two values";
        return Err(Error::config("judge.steer", what, remedy));
    }
    if !config.steer.is_empty() && sizes.is_empty() && config.sets.is_empty() {
        let remedy = "list sizes: the largest set is steered";
        return Err(Error::config("judge.steer", "there are no judge.sizes", remedy));
    }
    Ok(())
}

/// What judging leaves.
pub(super) struct Judged {
    pub(super) curves: Vec<CurveRow>,
    pub(super) sets: Vec<SetRow>,
}

/// An arm with what its rows say of it.
struct Named {
    arm: Arm,
    method: String,
    order: &'static str,
    act: &'static str,
    draw: u32,
    size: usize,
    strength: f32,
}

/// What is done with a set.
#[derive(Clone, Copy)]
enum Does {
    TakeAway,
    Keep,
    Steer(f32),
}

/// The curves of all orders over all questions, the untouched model first.
pub(super) fn judge<O: SuffixOps + Device>(
    passes: &mut Passes<'_, O>,
    rankings: &[Ranking],
    (survey, baseline): (Option<&Survey>, &Effects),
) -> Result<Judged> {
    let experiment = passes.experiment;
    let (config, neurons) = (&experiment.config.judge, &experiment.neurons);
    let maker = Maker { neurons, config, survey };
    let untouched = Named {
        method: "none".into(),
        act: "",
        ..maker.named("", &Order { name: String::new(), places: vec![], set: false }, &[])
    };
    let mut curves = rows_of(experiment, &untouched, baseline);
    let whole = rankings.iter().filter(|ranking| ranking.group == 0).flat_map(Order::of);
    let orders: Vec<Order> = whole.chain(experiment.orders.iter().cloned()).collect();
    let arms: Vec<Named> = orders.iter().flat_map(|order| maker.arms(order)).collect();
    let plain: Vec<Arm> = arms.iter().map(|named| named.arm.clone()).collect();
    if !plain.is_empty() {
        for (named, effects) in arms.iter().zip(passes.arms("judging", &plain)?) {
            curves.extend(rows_of(experiment, named, &effects));
        }
    }
    let mut found = BTreeMap::new();
    for (at, order) in orders.iter().enumerate().filter(|(_, order)| !order.set) {
        found.insert(order.name.clone(), greedy(passes, &maker, (at, order), &mut curves)?);
    }
    let ids = |places: &[Place]| places.iter().map(|&place| id(neurons, place)).collect();
    let members = |method: &str, order: &str, size: usize| -> Vec<String> {
        let of = orders.iter().find(|of| of.name == method);
        match (order, of) {
            ("greedy", _) => ids(&found[method][..size]),
            (_, Some(of)) => ids(&of.places[..size]),
            _ => Vec::new(),
        }
    };
    Ok(Judged { sets: worth(&curves, neurons.count(), members), curves })
}

/// A neuron as tables name it.
pub(super) fn id(neurons: &Neurons, (layer, index): Place) -> String {
    NeuronId { site: neurons.site(neurons.layers[layer]), index }.to_string()
}

/// Neurons of an order taken away one after the other, each time the one among the candidates that
/// leaves the answers worst; their curve is added.
fn greedy<O: SuffixOps + Device>(
    passes: &mut Passes<'_, O>,
    maker: &Maker<'_>,
    (at, order): (usize, &Order),
    curves: &mut Vec<CurveRow>,
) -> Result<Vec<Place>> {
    let experiment = passes.experiment;
    let compares = usize::from(experiment.questions.list[0].foil.is_some());
    let mut left: Vec<Place> = order.places.iter().copied().take(maker.config.candidates).collect();
    let mut taken: Vec<Place> = Vec::new();
    while taken.len() < maker.config.greedy && !left.is_empty() {
        let with = |one: &Place| [&taken[..], &[*one]].concat();
        let arms: Vec<Named> = left
            .iter()
            .map(|one| maker.does(Does::TakeAway, maker.named("greedy", order, &with(one))))
            .collect();
        let plain: Vec<Arm> = arms.iter().map(|named| named.arm.clone()).collect();
        let name = format!("greedy-{at}-{}", taken.len());
        let answers = passes.arms(&name, &plain)?;
        let value = |effects: &Effects| effects.spread(0, compares).mean;
        let worst = (0..answers.len())
            .min_by(|&a, &b| value(&answers[a]).total_cmp(&value(&answers[b])))
            .expect("there are candidates");
        curves.extend(rows_of(experiment, &arms[worst], &answers[worst]));
        taken.push(left.remove(worst));
    }
    Ok(taken)
}

struct Maker<'a> {
    neurons: &'a Neurons,
    config: &'a JudgeConfig,
    survey: Option<&'a Survey>,
}

impl Maker<'_> {
    fn arms(&self, order: &Order) -> Vec<Named> {
        let sizes =
            if order.set { vec![order.places.len()] } else { sizes(self.config, self.neurons) };
        let mut arms = Vec::new();
        for &size in &sizes {
            arms.extend(self.beside_random(order, size, Does::TakeAway));
            if self.config.keep {
                arms.extend(self.beside_random(order, size, Does::Keep));
            }
        }
        let largest = sizes.last().copied().unwrap_or(0);
        for &strength in &self.config.steer {
            arms.extend(self.beside_random(order, largest, Does::Steer(strength)));
        }
        arms
    }

    /// The top of an order, its bottom, and random neurons: as many of each layer as the top.
    fn beside_random(&self, order: &Order, size: usize, does: Does) -> Vec<Named> {
        let top = &order.places[..size];
        let first = if order.set { "set" } else { "top" };
        let mut arms = vec![self.named(first, order, top)];
        if self.config.bottom && !order.set && !matches!(does, Does::Steer(_)) {
            let bottom = &order.places[order.places.len() - size..];
            arms.push(self.named("bottom", order, bottom));
        }
        for draw in 0..self.config.random {
            let places = matched(top, self.neurons, draw);
            // Where a layer has not as many others, there is no set to compare with.
            if places.len() < size {
                break;
            }
            arms.push(Named { draw, ..self.named("random", order, &places) });
        }
        arms.into_iter().map(|named| self.does(does, named)).collect()
    }

    /// An arm with these neurons, that does nothing yet.
    fn named(&self, order: &'static str, of: &Order, places: &[Place]) -> Named {
        let mut neurons = NeuronSet::new();
        for &(layer, column) in places {
            neurons.entry(self.neurons.layers[layer]).or_default().push(column);
        }
        neurons.values_mut().for_each(|columns| columns.sort_unstable());
        Named {
            arm: Arm { kind: self.neurons.kind, neurons, act: Act::Set(BTreeMap::new()) },
            method: of.name.clone(),
            order,
            act: "",
            draw: 0,
            size: places.len(),
            strength: 0.0,
        }
    }

    fn does(&self, does: Does, named: Named) -> Named {
        match does {
            Does::TakeAway => {
                let act = if self.config.how == JudgeHow::Zero { "zero" } else { "mean" };
                let arm = self.without(named.arm);
                Named { arm, act, ..named }
            }
            Does::Keep => {
                let act = if self.config.how == JudgeHow::Zero { "keep-zero" } else { "keep-mean" };
                let layers = &self.neurons.layers;
                let kept = named.arm.neurons.iter().flat_map(|(layer, columns)| {
                    let at = layers.binary_search(layer).expect("it is asked");
                    columns.iter().map(move |&column| (at, column))
                });
                let rest = others(&kept.collect::<Vec<_>>(), self.neurons);
                let none = Order { name: String::new(), places: vec![], set: false };
                let arm = self.without(self.named("", &none, &rest).arm);
                Named { arm, act, ..named }
            }
            Does::Steer(strength) => {
                let arm = self.moved(named.arm, strength);
                Named { arm, act: "steer", strength, ..named }
            }
        }
    }

    /// The neurons of an arm become 0 or their means.
    fn without(&self, arm: Arm) -> Arm {
        let values = |(&layer, columns): (&usize, &Vec<u32>)| {
            let value = |column: &u32| match (self.config.how, self.survey) {
                (JudgeHow::Mean, Some(survey)) => survey.means[layer][*column as usize],
                _ => 0.0,
            };
            (layer, columns.iter().map(value).collect())
        };
        let act = Act::Set(arm.neurons.iter().map(values).collect());
        Arm { act, ..arm }
    }

    /// The neurons of an arm move towards their means in the other group.
    fn moved(&self, arm: Arm, strength: f32) -> Arm {
        let survey = self.survey.expect("steering takes one");
        let towards = |from: usize, to: usize| {
            let values = |(&layer, columns): (&usize, &Vec<u32>)| {
                let at = self.neurons.layers.binary_search(&layer).expect("it is asked");
                #[expect(clippy::cast_possible_truncation, reason = "means of f32 values")]
                let value = |column: &u32| {
                    let mean = |group| survey.answering[at].spread(group, *column as usize).mean;
                    strength * (mean(to) - mean(from)) as f32
                };
                (layer, columns.iter().map(value).collect())
            };
            arm.neurons.iter().map(values).collect()
        };
        let act = Act::Shift(vec![towards(1, 2), towards(2, 1)]);
        Arm { act, ..arm }
    }
}

fn rows_of(experiment: &super::Experiment, named: &Named, effects: &Effects) -> Vec<CurveRow> {
    let compares = experiment.questions.list[0].foil.is_some();
    let reads = experiment.readout.is_some();
    let label = experiment.config.questions.group.clone().unwrap_or_default();
    (0..effects.groups())
        .map(|group| {
            let [log_prob, difference, correct, preferred, probe] =
                [0, 1, 2, 3, 4].map(|index| effects.spread(group, index));
            let accuracy = if compares { preferred } else { correct };
            CurveRow {
                method: named.method.clone(),
                order: named.order.to_owned(),
                act: named.act.to_owned(),
                draw: i32::try_from(named.draw).unwrap_or(i32::MAX),
                size: i32::try_from(named.size).unwrap_or(i32::MAX),
                strength: f64::from(named.strength),
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
                probe: reads.then_some(probe.mean),
                probe_error: reads.then_some(probe.error),
            }
        })
        .collect()
}
