//! Methods that choose neurons one after another on dev rows, with one trained probe: `gauss`,
//! `latent-probe`.

use super::each_class::{candidates, eigen_of, labelled};
use super::parts::{OneClass, PartRows, Parts};
use super::tried::{TRIED, Tried, choose, of_places};
use crate::error::Result;
use crate::methods::MethodCall;
use crate::methods::probing::gauss::{Covariance, Gaussian};
use crate::methods::probing::greedy::{Chosen, Criterion, Step, select};
use crate::methods::probing::latent::{LatentProbe, LatentSettings};
use crate::methods::probing::masks::Sampling;
use crate::methods::probing::rows::log_sum_exp;
use crate::methods::probing::salience::exact_order;
use crate::methods::probing::sparse::{Heuristic, SIZES, rank_neurons};
use crate::methods::probing::{Block, Rows, class_moments};
use crate::methods::ranking::GroupRanking;
use crate::probe::split::Part;

/// Instead of a class, for rows of classes that are left out.
const LEFT_OUT: u32 = u32::MAX;

/// Neurons in the order of the choice, and what they did together.
pub(super) struct Greedy {
    pub(super) ranking: GroupRanking,
    pub(super) tried: Vec<Tried>,
    /// Numbers of classes with too few rows, which take no part.
    pub(super) left_out: Vec<usize>,
}

/// Rows of several classes: those with too few training rows are left out, the others counted anew.
pub(super) struct Classes<'a> {
    parts: &'a Parts,
    targets: [Vec<u32>; 3],
    count: usize,
    left_out: Vec<usize>,
}

impl<'a> Classes<'a> {
    /// Classes that have at least `least` training rows.
    pub(super) fn new(parts: &'a Parts, classes: usize, least: usize) -> Self {
        let train = &parts.of(Part::Train).targets;
        let rows = |class: usize| train.iter().filter(|own| **own as usize == class).count();
        let (kept, left_out): (Vec<usize>, Vec<usize>) =
            (0..classes).partition(|class| rows(*class) >= least);
        let new = |old: &u32| {
            let place = kept.iter().position(|class| *class == *old as usize);
            place.map_or(LEFT_OUT, |place| place as u32)
        };
        let targets = Part::ALL.map(|part| parts.of(part).targets.iter().map(new).collect());
        Self { parts, targets, count: kept.len(), left_out }
    }

    /// One class, which is 1, against the rest.
    pub(super) fn of_one(class: &OneClass<'a>) -> Self {
        let of = |part| class.labels(part).iter().map(|own| u32::from(*own)).collect();
        let targets = Part::ALL.map(of);
        Self { parts: class.parts, targets, count: 2, left_out: Vec::new() }
    }

    /// Whether there are two classes, and dev rows of them to choose by.
    pub(super) fn can_be_told(&self) -> bool {
        self.count > 1 && self.targets[Part::Dev as usize].iter().any(|own| *own != LEFT_OUT)
    }

    /// How many take part.
    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// Those that take none.
    pub(super) fn left_out(&self) -> &[usize] {
        &self.left_out
    }

    /// Rows of the classes that take part: their activations at some columns, and their classes.
    pub(super) fn known(&self, part: Part, columns: &[u32]) -> (Vec<f32>, Vec<u32>) {
        let targets = &self.targets[part as usize];
        let own: &PartRows = self.parts.of(part);
        let (mut values, mut labels) = (Vec::new(), Vec::new());
        for (row, target) in targets.iter().enumerate().filter(|(_, target)| **target != LEFT_OUT) {
            values.extend(columns.iter().map(|&n| own.row(row)[n as usize]));
            labels.push(*target);
        }
        (values, labels)
    }

    /// The columns that are tried: of more than `most`, those that tell classes apart best one by one.
    pub(super) fn candidates(&self, most: usize) -> Result<Vec<u32>> {
        let width = self.parts.width;
        if most == 0 || most >= width {
            return Ok((0..).take(width).collect());
        }
        let all: Vec<u32> = (0..).take(width).collect();
        let (values, targets) = self.known(Part::Train, &all);
        let mut masses = Vec::with_capacity(self.count * width);
        for class in 0..self.count {
            let is: Vec<bool> = targets.iter().map(|own| *own as usize == class).collect();
            let data = labelled(&values, width, &is);
            if self.count == 2 {
                return candidates(data, most);
            }
            let found = rank_neurons(data, Heuristic::MeanDifference)?;
            masses.extend(super::by_neuron(&found));
        }
        let mut order = exact_order(&Block::new(masses, width)).order;
        order.truncate(most);
        order.sort_unstable();
        Ok(order)
    }
}

/// Sizes that are reported: those of sparse probes, and the last.
fn sizes(steps: usize) -> Vec<usize> {
    let mut sizes: Vec<usize> = SIZES.into_iter().filter(|size| *size < steps).collect();
    sizes.push(steps);
    sizes
}

/// `gauss`: a Gaussian of each class.
pub(super) fn gauss(call: &MethodCall, classes: Classes<'_>) -> Result<Greedy> {
    let columns = classes.candidates(call.whole("candidates"))?;
    let (values, labels) = classes.known(Part::Train, &columns);
    let labels: Vec<Option<u32>> = labels.into_iter().map(Some).collect();
    let moments = class_moments(Rows::new(&values, columns.len()), &labels, classes.count)?;
    drop(values);
    let kind = match call.text("covariance").as_str() {
        "mle" => Covariance::Mle,
        _ => Covariance::Map,
    };
    let mut probe = Gaussian::fit(&moments, kind, call.flag("diagonal"))?;
    drop(moments);
    if kind == Covariance::Mle {
        let least = |matrix: &[f64], n: usize| eigen_of(matrix, n).0.last().copied().unwrap_or(0.0);
        probe.make_definite(least)?;
    }
    let (dev, labels) = classes.known(Part::Dev, &columns);
    let by = match call.text("by").as_str() {
        "likelihood" => Criterion::LogLikelihood,
        "accuracy" => Criterion::Accuracy,
        _ => Criterion::MutualInformation,
    };
    let dev = Rows::new(&dev, columns.len()).all();
    let asked = (&labels[..], classes.count);
    let steps = select(&mut probe.selection(&dev), asked, (by, call.whole("k")));
    drop(dev);
    let order: Vec<u32> = steps.iter().map(|step| step.neuron).collect();
    let mut tried = Vec::new();
    for part in TRIED {
        let values = classes.parts.of(part).columns(&columns);
        let block = Rows::new(&values, columns.len()).all();
        for size in sizes(order.len()).into_iter().filter(|size| *size > 0) {
            let posteriors = probe.log_posteriors(&block, &order[..size])?;
            let named = named(&order[..size], &columns);
            let labels = &classes.targets[part as usize];
            tried.push(Tried::of_posteriors((part, &named), &posteriors, labels));
        }
    }
    Ok(greedy((call, classes), (&columns, &steps), (tried, |_| 0)))
}

/// Columns of the candidates as neurons of the site.
fn named(order: &[u32], columns: &[u32]) -> Vec<u32> {
    order.iter().map(|place| columns[*place as usize]).collect()
}

fn greedy(
    (call, classes): (&MethodCall, Classes<'_>),
    (columns, steps): (&[u32], &[Step]),
    (mut tried, sign): (Vec<Tried>, impl Fn(u32) -> i8),
) -> Greedy {
    choose(&mut tried, |own| own.information.unwrap_or(own.accuracy));
    let one = |step: &Step| (columns[step.neuron as usize], sign(step.neuron));
    let places: Vec<(u32, i8)> = steps.iter().map(one).collect();
    let ranking = of_places(&places, (call.whole("k").max(1), classes.parts.width));
    Greedy { ranking, tried, left_out: classes.left_out }
}

/// `latent-probe`: one linear probe, trained under masks.
pub(super) fn latent(call: &MethodCall, classes: Classes<'_>) -> Result<Greedy> {
    let columns = classes.candidates(call.whole("candidates"))?;
    let settings = LatentSettings {
        sampling: match call.text("sampling").as_str() {
            "conditional" => Sampling::ConditionalPoisson,
            _ => Sampling::Poisson,
        },
        rate: call.number("rate"),
        epochs: call.whole("epochs"),
        masks: call.whole("masks"),
        entropy_scale: call.number("entropy"),
        seed: call.whole("seed") as u64,
        ..LatentSettings::default()
    };
    let block = |values: &[f32]| Rows::new(values, columns.len()).all();
    let (values, labels) = classes.known(Part::Train, &columns);
    let probe = settings.fit(&block(&values), &labels, classes.count)?;
    let (dev, labels) = classes.known(Part::Dev, &columns);
    let dev = block(&dev);
    let asked = (&labels[..], classes.count);
    let chosen = (Criterion::MutualInformation, call.whole("k"));
    let steps = select(&mut probe.selection(&dev), asked, chosen);
    let mut tried = Vec::new();
    for part in TRIED {
        let x = block(&classes.parts.of(part).columns(&columns));
        let labels = &classes.targets[part as usize];
        tried.extend(with_steps((&probe, &x), (&steps, &columns), (part, labels)));
    }
    let weights = &probe.probe.weights;
    let two = weights.len() == 2;
    let rise = |n: u32| weights.row(1)[n as usize] - weights.row(0)[n as usize];
    let sign = |n: u32| if two { crate::methods::ranking::sign(rise(n)) } else { 0 };
    Ok(greedy((call, classes), (&columns, &steps), (tried, sign)))
}

/// What the probe answers as neurons are added.
fn with_steps(
    (probe, x): (&LatentProbe, &Block),
    (steps, columns): (&[Step], &[u32]),
    (part, labels): (Part, &[u32]),
) -> Vec<Tried> {
    let (classes, rows) = (probe.probe.weights.len(), x.len());
    let sizes = sizes(steps.len());
    let mut chosen = probe.selection(x);
    let mut joint = vec![0.0; classes * rows];
    let mut tried = Vec::new();
    for (at, step) in steps.iter().enumerate().filter(|_| rows > 0) {
        if sizes.contains(&(at + 1)) {
            chosen.with(step.neuron as usize, &mut joint);
            let logits = (0..rows).flat_map(|row| (0..classes).map(move |c| (c, row)));
            let logits = logits.map(|(class, row)| joint[class * rows + row]).collect();
            let mut posteriors = Block::new(logits, classes);
            for row in posteriors.rows_mut() {
                let norm = log_sum_exp(row);
                row.iter_mut().for_each(|x| *x -= norm);
            }
            let order: Vec<u32> = steps[..=at].iter().map(|step| step.neuron).collect();
            let named = named(&order, columns);
            tried.push(Tried::of_posteriors((part, &named), &posteriors, labels));
        }
        chosen.add(step.neuron as usize);
    }
    tried
}
