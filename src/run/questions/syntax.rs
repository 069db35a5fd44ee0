//! What neurons hold of the prompts (Lakretz et al. 2019): probes of the group at one position tested at
//! the others, and the regression of a number on all neurons together.

use std::sync::atomic::Ordering;

use rayon::prelude::*;

use super::Experiment;
use super::config::{Align, ProbeConfig};
use super::passes::Passes;
use crate::artifact::effects::TimeRow;
use crate::device::backward::Differentiable;
use crate::device::suffix_ops::SuffixOps;
use crate::engine::fleet::Device;
use crate::error::{Error, Result};
use crate::methods::dual::{auc, gram, logistic, ridge, weights};
use crate::stimulate::neurons::{Neurons, activations};
use crate::stimulate::question::{Question, QuestionBatch, batches};

/// Values that may be held at once.
const MOST: usize = 1 << 29;
/// Penalties among which the regression chooses, relative to the mean of the Gram matrix' diagonal.
const PENALTIES: [f64; 7] = [1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0, 100.0];
/// Rows of each group that a probe needs at least.
const FEWEST: usize = 2;

/// Neurons of some tokens of a question, `[T, N]`.
struct Held {
    /// The token that answers, counted in `tokens`.
    at: usize,
    /// `[layers][T * N]`.
    layers: Vec<Vec<f32>>,
}

impl<O: SuffixOps + Device> Passes<'_, O> {
    /// The neurons of every question, at all tokens or at the answering one. Kept in memory: one pass
    /// over the questions, done again by every attempt.
    fn collect(&mut self, everywhere: bool) -> Result<Vec<Held>> {
        let experiment = self.experiment;
        let (neurons, list) = (&experiment.neurons, &experiment.questions.list);
        let tokens = |one: &Question| if everywhere { one.tokens.len() } else { 1 };
        let values = list.iter().map(tokens).sum::<usize>() * neurons.count();
        if values > MOST {
            let what = format!("{values} values of neurons do not fit in memory");
            let remedy = "ask fewer questions (questions.limit) or layers (neurons.layers)";
            return Err(Error::config("probe", what, remedy));
        }
        let Self { fleet, stop, report, tokens: before, .. } = self;
        let (held, tokens) = fleet.on_one(|run| {
            let (mut held, mut tokens) = (Vec::with_capacity(list.len()), *before);
            for cut in batches(list, run.limits().tokens) {
                if stop.load(Ordering::Relaxed) {
                    return Err(Error::Unfinished { what: "stopped by a signal".into() });
                }
                report("probing", tokens, cut.start as f64 / list.len() as f64);
                let batch = QuestionBatch::new(&list[cut]);
                tokens += batch.tokens.len() as u64;
                hold(run, (&batch, neurons), everywhere, &mut held)?;
            }
            Ok((held, tokens))
        })?;
        self.tokens = tokens;
        (self.report)("probing", tokens, 1.0);
        Ok(held)
    }

    /// Probes of the group: trained at each position on half of the questions and tested at every
    /// position on the others, both ways.
    pub(super) fn time(&mut self, config: &ProbeConfig) -> Result<Vec<TimeRow>> {
        let Some(align) = config.align else { return Ok(Vec::new()) };
        let held = self.collect(true)?;
        let experiment = self.experiment;
        let layers = 0..experiment.neurons.layers.len();
        let rows = layers.flat_map(|layer| {
            let material = Material::new(experiment, (&held, layer), align);
            let positions = 0..material.positions;
            let found: Vec<Vec<TimeRow>> = positions
                .into_par_iter()
                .map(|at| material.trained_at(at, config.penalty, experiment))
                .collect();
            found.into_iter().flatten()
        });
        Ok(rows.collect())
    }
}

/// Adds the neurons of each question of a batch.
fn hold<O: SuffixOps>(
    run: &mut Differentiable<O>,
    (batch, neurons): (&QuestionBatch, &Neurons),
    everywhere: bool,
    held: &mut Vec<Held>,
) -> Result<()> {
    let kept = activations(run, batch, &neurons.sites())?;
    let mut layers = Vec::with_capacity(neurons.layers.len());
    for &layer in &neurons.layers {
        layers.push(kept.read(run.ops(), neurons.site(layer))?);
    }
    for question in 0..batch.len() {
        let (first, at) = (batch.starts[question] as usize, batch.at(question));
        let rows = match everywhere {
            true => first..first + batch.length(question),
            false => first + at..first + at + 1,
        };
        let own = rows.start * neurons.width..rows.end * neurons.width;
        let layers = layers.iter().map(|values| values[own.clone()].to_vec()).collect();
        held.push(Held { at: if everywhere { at } else { 0 }, layers });
    }
    Ok(())
}

/// Refuses what a probe cannot be trained on.
pub(super) fn check(experiment: &Experiment) -> Result<()> {
    let groups = experiment.questions.groups.len();
    if experiment.config.probe.align.is_some() && groups != 2 {
        let what = format!("{groups} groups of questions; a probe divides two");
        let remedy = "set questions.group to a key with two values";
        return Err(Error::config("probe.align", what, remedy));
    }
    Ok(())
}

/// The questions of a layer, by position.
struct Material<'a> {
    layer: usize,
    width: usize,
    positions: usize,
    align: Align,
    held: &'a [Held],
    labels: Vec<bool>,
}

impl<'a> Material<'a> {
    fn new(experiment: &Experiment, (held, layer): (&'a [Held], usize), align: Align) -> Self {
        let width = experiment.neurons.width;
        let count = |one: &Held| match align {
            Align::Start => one.layers[layer].len() / width,
            Align::End => one.at + 1,
        };
        Self {
            layer,
            width,
            positions: held.iter().map(count).max().unwrap_or(0),
            align,
            held,
            labels: experiment.questions.group_of.iter().map(|of| *of == Some(1)).collect(),
        }
    }

    /// The neurons of a question at a position, if it is that long.
    fn row(&self, question: usize, position: usize) -> Option<&[f32]> {
        let Held { at, layers } = &self.held[question];
        let token = match self.align {
            Align::Start => position,
            Align::End => at.checked_sub(position)?,
        };
        layers[self.layer].get(token * self.width..(token + 1) * self.width)
    }

    /// Questions of a fold that have a position, with their rows.
    fn fold(&self, fold: usize, position: usize) -> (Vec<&[f32]>, Vec<bool>) {
        let own = (0..self.held.len()).filter(|question| question % 2 == fold);
        let rows = own.filter_map(|of| Some((self.row(of, position)?, self.labels[of])));
        rows.unzip()
    }

    /// The probe of a position, tested at all.
    fn trained_at(&self, at: usize, penalty: f64, experiment: &Experiment) -> Vec<TimeRow> {
        let probes = [0, 1].map(|fold| {
            let (rows, labels) = self.fold(fold, at);
            let positive = labels.iter().filter(|label| **label).count();
            let enough = positive >= FEWEST && labels.len() - positive >= FEWEST;
            enough.then(|| Probe::train(&rows, &labels, penalty)).flatten()
        });
        let tested = |position: usize| {
            let mut found: Vec<(f64, usize)> = Vec::new();
            for (fold, probe) in probes.iter().enumerate() {
                let (rows, labels) = self.fold(1 - fold, position);
                let Some(probe) = probe else { continue };
                let scores: Vec<f64> = rows.iter().map(|row| probe.score(row)).collect();
                found.extend(auc(&scores, &labels).map(|auc| (auc, rows.len())));
            }
            let n: usize = found.iter().map(|(_, n)| n).sum();
            let number = |n: usize| i32::try_from(n).expect("prompts are short");
            (n > 0).then(|| TimeRow {
                label: experiment.config.questions.group.clone().unwrap_or_default(),
                site: experiment.neurons.site(experiment.neurons.layers[self.layer]).to_string(),
                layer: number(experiment.neurons.layers[self.layer]),
                trained_at: number(at),
                tested_at: number(position),
                n: n as i64,
                auc: found.iter().map(|(auc, n)| auc * *n as f64).sum::<f64>() / n as f64,
            })
        };
        (0..self.positions).filter_map(tested).collect()
    }
}

/// A logistic probe on standardised neurons.
struct Probe {
    weights: Vec<f64>,
    bias: f64,
}

impl Probe {
    fn train(rows: &[&[f32]], labels: &[bool], penalty: f64) -> Option<Self> {
        let scales = Scales::of(rows);
        let rows: Vec<Vec<f64>> = rows.iter().map(|row| scales.apply(row)).collect();
        let found = logistic(&gram(&rows), labels, penalty)?;
        let own = weights(&rows, &found.alpha);
        // Of the neurons as they are.
        let weights: Vec<f64> = own.iter().zip(&scales.factor).map(|(w, f)| w * f).collect();
        let shift: f64 = weights.iter().zip(&scales.mean).map(|(w, mean)| w * mean).sum();
        Some(Self { weights, bias: found.bias - shift })
    }

    fn score(&self, row: &[f32]) -> f64 {
        self.weights.iter().zip(row).map(|(w, x)| w * f64::from(*x)).sum::<f64>() + self.bias
    }
}

/// Means of neurons, and 1 / their standard deviations; 0 for those that do not vary.
struct Scales {
    mean: Vec<f64>,
    factor: Vec<f64>,
}

impl Scales {
    fn of(rows: &[&[f32]]) -> Self {
        let (n, width) = (rows.len().max(1) as f64, rows.first().map_or(0, |row| row.len()));
        let mut mean = vec![0.0; width];
        for row in rows {
            mean.iter_mut().zip(*row).for_each(|(mean, x)| *mean += f64::from(*x) / n);
        }
        let mut square = vec![0.0; width];
        for row in rows {
            let spread = square.iter_mut().zip(*row).zip(&mean);
            spread.for_each(|((sum, x), mean)| *sum += (f64::from(*x) - mean).powi(2) / n);
        }
        let factor = |(square, mean): (&f64, &f64)| {
            if *square > 1e-12 * mean.powi(2).max(1e-12) { 1.0 / square.sqrt() } else { 0.0 }
        };
        let factor = square.iter().zip(&mean).map(factor).collect();
        Self { mean, factor }
    }

    fn apply(&self, row: &[f32]) -> Vec<f64> {
        let scales = self.mean.iter().zip(&self.factor);
        row.iter().zip(scales).map(|(x, (mean, factor))| (f64::from(*x) - mean) * factor).collect()
    }
}

/// Weights of every neuron in the ridge regression of the questions' quantity on all of them, at the
/// answering token, the covariates accounted for on both sides (Frisch & Waugh 1933). `[layers][N]`.
pub(super) fn diagnostic_weights<O: SuffixOps + Device>(
    passes: &mut Passes<'_, O>,
) -> Result<Vec<Vec<f64>>> {
    let held = passes.collect(false)?;
    let experiment = passes.experiment;
    let questions = &experiment.questions;
    let joined: Vec<Vec<f32>> = held.into_iter().map(|one| one.layers.concat()).collect();
    let rows: Vec<&[f32]> = joined.iter().map(Vec::as_slice).collect();
    let scales = Scales::of(&rows);
    let mut rows: Vec<Vec<f64>> = rows.iter().map(|row| scales.apply(row)).collect();
    let mut y = questions.quantities.clone().expect("checked when the experiment was made");
    let bases = orthonormal(&questions.covariates, y.len());
    for base in &bases {
        let along: f64 = base.iter().zip(&y).map(|(b, y)| b * y).sum();
        y.iter_mut().zip(base).for_each(|(y, b)| *y -= along * b);
        let along = weights(&rows, base);
        for (row, b) in rows.iter_mut().zip(base) {
            row.iter_mut().zip(&along).for_each(|(x, along)| *x -= along * b);
        }
    }
    let gram = gram(&rows);
    let n = y.len();
    let size = (0..n).map(|i| gram[i * n + i]).sum::<f64>() / n as f64;
    let penalties = PENALTIES.map(|penalty| (penalty * size).max(f64::MIN_POSITIVE));
    let Some((alpha, _)) = ridge(&gram, &y, &penalties) else {
        let what = "the neurons do not vary over the questions";
        return Err(Error::config(
            "questions.quantity",
            what,
            "ask more, and different, questions",
        ));
    };
    let all = weights(&rows, &alpha);
    Ok(all.chunks(experiment.neurons.width).map(<[f64]>::to_vec).collect())
}

/// Orthonormal columns that span a constant and the covariates.
fn orthonormal(covariates: &[Vec<f64>], n: usize) -> Vec<Vec<f64>> {
    let count = covariates.first().map_or(0, Vec::len);
    let columns = (0..count).map(|at| covariates.iter().map(|row| row[at]).collect());
    let mut bases: Vec<Vec<f64>> = Vec::new();
    for mut column in std::iter::once(vec![1.0; n]).chain(columns) {
        let before = length(&column);
        for base in &bases {
            let along: f64 = base.iter().zip(&column).map(|(b, x)| b * x).sum();
            column.iter_mut().zip(base).for_each(|(x, b)| *x -= along * b);
        }
        let length = length(&column);
        if length > 1e-9 * before {
            bases.push(column.iter().map(|x| x / length).collect());
        }
    }
    bases
}

fn length(x: &[f64]) -> f64 {
    x.iter().map(|x| x * x).sum::<f64>().sqrt()
}
