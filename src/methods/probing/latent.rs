//! The latent-variable probe (`latent-probe`; Stańczak et al., AAAI 2023): one linear probe that is trained
//! under random masks of its input, together with the distribution of the masks, so that it can be asked
//! about any set of neurons without training again.
//!
//! Minimises `E_{m ~ q}[CE(W (m * x) + b)] - scale H(q)`. What differs from the reference: a running mean as
//! baseline of the score-function gradient, the best probe is kept and not the last, and the loss that
//! stops the training weighs the entropy as the training does.

use super::adam::Adam;
use super::draw::{Draws, split};
use super::elastic_net::LinearProbe;
use super::greedy::Chosen;
use super::masks::{Mask, Masks, Sampling};
use super::rows::{Block, log_sum_exp};
use crate::error::{Error, Result};

/// How slowly the baseline follows.
const KEEP: f64 = 0.9;

/// How the probe is trained.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LatentSettings {
    /// How masks are drawn.
    pub sampling: Sampling,
    /// Step of Adam.
    pub rate: f64,
    /// Steps at most, each over all training rows.
    pub epochs: usize,
    /// Steps without a better held-out loss after which it ends.
    pub patience: usize,
    /// Masks of a step.
    pub masks: usize,
    /// Weight of the entropy of masks.
    pub entropy_scale: f64,
    /// Share of the rows held out to stop by.
    pub held_out: f64,
    /// Of everything drawn.
    pub seed: u64,
}

impl Default for LatentSettings {
    fn default() -> Self {
        Self {
            sampling: Sampling::Poisson,
            rate: 1e-2,
            epochs: 5000,
            patience: 50,
            masks: 5,
            entropy_scale: 1e-2,
            held_out: 0.1,
            seed: 0,
        }
    }
}

/// A trained probe.
#[derive(Clone, Debug, PartialEq)]
pub struct LatentProbe {
    /// Works on inputs with any of the neurons set to 0.
    pub probe: LinearProbe,
    /// Logit of each neuron of the distribution of masks.
    pub logits: Vec<f64>,
    /// Steps until the best held-out loss.
    pub steps: usize,
}

/// Some rows under training.
struct Task<'a> {
    x: &'a Block,
    labels: &'a [u32],
    rows: Vec<usize>,
    classes: usize,
}

impl Task<'_> {
    /// Mean cross-entropy, nats, under one mask, at weights `[classes, D]` and then biases; its gradient
    /// times `share` is added to `slope`, if there is one.
    fn loss(&self, at: &[f64], mask: &[u32], mut slope: Option<(&mut [f64], f64)>) -> f64 {
        let (d, c) = (self.x.cols(), self.classes);
        let (w, b) = at.split_at(c * d);
        let mut total = 0.0;
        for &row in &self.rows {
            let x = self.x.row(row);
            let logit = |class: usize| {
                let w = &w[class * d..(class + 1) * d];
                b[class] + mask.iter().map(|&n| w[n as usize] * x[n as usize]).sum::<f64>()
            };
            let logits: Vec<f64> = (0..c).map(logit).collect();
            let norm = log_sum_exp(&logits);
            let label = self.labels[row] as usize;
            total += norm - logits[label];
            let Some((slope, share)) = &mut slope else { continue };
            let (slope_w, slope_b) = slope.split_at_mut(c * d);
            for class in 0..c {
                let error = (logits[class] - norm).exp() - f64::from(u8::from(class == label));
                let pull = *share * error / self.rows.len() as f64;
                slope_b[class] += pull;
                let own = &mut slope_w[class * d..(class + 1) * d];
                mask.iter().for_each(|&n| own[n as usize] += pull * x[n as usize]);
            }
        }
        total / self.rows.len() as f64
    }
}

impl LatentSettings {
    /// Trains a probe on rows with classes below `classes`.
    ///
    /// Refuses fewer than two rows, labels that name no class, and settings of 0.
    pub fn fit(&self, x: &Block, labels: &[u32], classes: usize) -> Result<LatentProbe> {
        let wrong = labels.iter().any(|&label| label as usize >= classes);
        if wrong || x.len() < 2 || labels.len() != x.len() || self.masks == 0 || self.epochs == 0 {
            return Err(Error::config(
                "latent-probe",
                format!(
                    "{} rows, {} labels of {classes} classes, {} masks, {} epochs",
                    x.len(),
                    labels.len(),
                    self.masks,
                    self.epochs
                ),
                "give at least two rows with a label each, and settings above 0",
            ));
        }
        let (held, rows) = split(x.len(), self.held_out, self.seed);
        let task = |rows| Task { x, labels, rows, classes };
        Ok(self.descend(&task(rows), &task(held)))
    }

    fn descend(&self, trained: &Task<'_>, held_out: &Task<'_>) -> LatentProbe {
        let (d, c) = (trained.x.cols(), trained.classes);
        let mut draws = Draws::new(self.seed, 2);
        let reach = 1.0 / (d as f64).sqrt();
        let mut at: Vec<f64> =
            (0..(d + 1) * c).map(|_| reach * (2.0 * draws.uniform() - 1.0)).collect();
        let mut logits = vec![0.0; d];
        let mut of_weights = Adam::new(at.len(), self.rate, 0.0);
        let mut of_logits = Adam::new(d, self.rate, 0.0);
        let mut baseline = None;
        let mut best = (f64::INFINITY, at.clone(), logits.clone(), 0);
        for step in 0..self.epochs {
            let masks = Masks::new(&logits, self.sampling);
            let drawn: Vec<Mask> = (0..self.masks).map(|_| masks.draw(&mut draws)).collect();
            let loss = self.held_out_loss(&masks, &drawn, (held_out, &at));
            if loss < best.0 {
                best = (loss, at.clone(), logits.clone(), step);
            } else if step - best.3 >= self.patience {
                break;
            }
            let mut slope = vec![0.0; at.len()];
            let share = 1.0 / self.masks as f64;
            let reward = |mask: &Mask| {
                let loss = trained.loss(&at, &mask.neurons, Some((&mut slope, share)));
                loss + self.entropy_cost(mask)
            };
            let rewards: Vec<f64> = drawn.iter().map(reward).collect();
            let mean = share * rewards.iter().sum::<f64>();
            let level = baseline.unwrap_or(mean);
            let mut slope_logits = self.entropy_slope(&masks);
            for (mask, reward) in drawn.iter().zip(&rewards) {
                let pull = share * (reward - level);
                slope_logits.iter_mut().zip(&mask.score).for_each(|(s, m)| *s += pull * m);
            }
            baseline = Some(KEEP * level + (1.0 - KEEP) * mean);
            of_weights.step(&mut at, &slope);
            of_logits.step(&mut logits, &slope_logits);
        }
        let (objective, mut weights, logits, steps) = best;
        let biases = weights.split_off(c * d);
        let probe = LinearProbe {
            weights: Block::new(weights, d),
            biases,
            objective,
            steps,
            ..LinearProbe::default()
        };
        LatentProbe { probe, logits, steps }
    }

    /// `scale ln q(m)` where the entropy has no closed form: -H is its mean.
    fn entropy_cost(&self, mask: &Mask) -> f64 {
        match self.sampling {
            Sampling::Poisson => 0.0,
            Sampling::ConditionalPoisson => self.entropy_scale * mask.log_probability,
        }
    }

    /// The derivative of `-scale H` where it has a closed form.
    fn entropy_slope(&self, masks: &Masks<'_>) -> Vec<f64> {
        let (_, slope) = masks.poisson_entropy();
        let scale = match self.sampling {
            Sampling::Poisson => -self.entropy_scale,
            Sampling::ConditionalPoisson => 0.0,
        };
        slope.into_iter().map(|s| scale * s).collect()
    }

    fn held_out_loss(
        &self,
        masks: &Masks<'_>,
        drawn: &[Mask],
        (held_out, at): (&Task<'_>, &[f64]),
    ) -> f64 {
        let one = |mask: &Mask| held_out.loss(at, &mask.neurons, None) + self.entropy_cost(mask);
        let mean = drawn.iter().map(one).sum::<f64>() / drawn.len() as f64;
        match self.sampling {
            Sampling::Poisson => mean - self.entropy_scale * masks.poisson_entropy().0,
            Sampling::ConditionalPoisson => mean,
        }
    }
}

/// The probe with some neurons chosen and all others set to 0, on cached rows, for
/// [`select`](super::greedy::select).
pub struct LatentSelection<'a> {
    probe: &'a LinearProbe,
    /// `[D, rows]`.
    columns: Vec<f64>,
    rows: usize,
    /// Logits with the chosen neurons, `[classes, rows]`.
    logits: Vec<f64>,
}

impl LatentProbe {
    /// Before any neuron is chosen, on development rows of all neurons.
    pub fn selection<'a>(&'a self, rows: &Block) -> LatentSelection<'a> {
        let bias = |b: &f64| vec![*b; rows.len()];
        LatentSelection {
            probe: &self.probe,
            columns: (0..rows.cols()).flat_map(|n| rows.column(n)).collect(),
            rows: rows.len(),
            logits: self.probe.biases.iter().flat_map(bias).collect(),
        }
    }
}

impl Chosen for LatentSelection<'_> {
    fn neurons(&self) -> usize {
        self.probe.weights.cols()
    }

    fn with(&self, neuron: usize, joint: &mut [f64]) -> bool {
        let x = &self.columns[neuron * self.rows..(neuron + 1) * self.rows];
        let classes = self.probe.weights.rows().zip(self.logits.chunks_exact(self.rows));
        for (out, (w, logits)) in joint.chunks_exact_mut(self.rows).zip(classes) {
            let w = w[neuron];
            out.iter_mut().zip(logits.iter().zip(x)).for_each(|(out, (z, x))| *out = z + w * x);
        }
        true
    }

    fn add(&mut self, neuron: usize) {
        let mut grown = vec![0.0; self.logits.len()];
        self.with(neuron, &mut grown);
        self.logits = grown;
    }
}
