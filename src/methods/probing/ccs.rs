//! Contrast-consistent search (`ccs`; Burns et al. 2022): a direction on which a statement and its negation
//! get probabilities that add up to 1, found without labels.

use super::adam::Adam;
use super::draw::Draws;
use super::rows::{Rows, sigmoid};
use crate::error::{Error, Result};

/// Pairs of activations, row i of one side with row i of the other.
#[derive(Clone, Copy, Debug)]
pub struct Pairs<'a> {
    /// Of the true ("yes") form.
    pub yes: Rows<'a>,
    /// Of the negated form.
    pub no: Rows<'a>,
}

impl Pairs<'_> {
    /// Pairs.
    pub fn len(&self) -> usize {
        self.yes.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.yes.is_empty()
    }
}

/// How the search goes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CcsSettings {
    /// Step of AdamW.
    pub rate: f64,
    /// Decay of weights, relative to the step.
    pub decay: f64,
    /// Steps, each over all pairs.
    pub epochs: usize,
    /// Starts; the one that ends lowest is kept.
    pub restarts: usize,
    /// Whether there is a bias (geometry-of-truth has none, one start and a decay of 0.1).
    pub bias: bool,
    /// Of the starts.
    pub seed: u64,
}

impl Default for CcsSettings {
    fn default() -> Self {
        Self { rate: 1e-3, decay: 0.01, epochs: 1000, restarts: 10, bias: true, seed: 0 }
    }
}

/// A direction. Nothing in the search tells "true" from "false": its sign means nothing until
/// [`CcsProbe::orient`].
#[derive(Clone, Debug, PartialEq)]
pub struct CcsProbe {
    /// `[D]`.
    pub weights: Vec<f64>,
    /// 0 where there is none.
    pub bias: f64,
    /// Loss at the end.
    pub loss: f64,
    /// Means of the two sides of the training pairs.
    pub centres: [Vec<f64>; 2],
}

/// Two readings of the same answers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CcsAccuracy {
    /// With the sign that the held-out tenth fixed.
    pub oriented: f64,
    /// max(a, 1 - a), as the reference reports it; with few pairs it is optimistic.
    pub either_way: f64,
}

/// Pairs centred, side by side.
struct Centred {
    /// `[pairs, D]` of each side.
    sides: [Vec<f64>; 2],
    d: usize,
    n: usize,
}

impl Centred {
    fn new(pairs: Pairs<'_>, centres: &[Vec<f64>; 2]) -> Self {
        let side = |rows: Rows<'_>, centre: &[f64]| {
            let row = |i: usize| {
                let values = rows.row(i).iter().zip(centre);
                values.map(|(&x, mean)| f64::from(x) - mean).collect::<Vec<f64>>()
            };
            (0..rows.len()).flat_map(row).collect()
        };
        let sides = [side(pairs.yes, &centres[0]), side(pairs.no, &centres[1])];
        Self { sides, d: pairs.yes.cols(), n: pairs.len() }
    }

    fn row(&self, side: usize, pair: usize) -> &[f64] {
        &self.sides[side][pair * self.d..(pair + 1) * self.d]
    }

    /// p of both sides of a pair; `at` is weights and then the bias.
    fn probabilities(&self, at: &[f64], pair: usize) -> [f64; 2] {
        [0, 1].map(|side| {
            let terms = self.row(side, pair).iter().zip(at);
            sigmoid(terms.map(|(x, w)| x * w).sum::<f64>() + at[self.d])
        })
    }

    /// mean (p+ - (1 - p-))² + mean min(p+, p-)², and its gradient into `slope`.
    fn loss(&self, at: &[f64], slope: &mut [f64]) -> f64 {
        slope.fill(0.0);
        let mut total = 0.0;
        for pair in 0..self.n {
            let p = self.probabilities(at, pair);
            let odds = p[0] + p[1] - 1.0;
            let least = p[0].min(p[1]);
            total += odds * odds + least * least;
            for side in 0..2 {
                let share = match p[side] - p[1 - side] {
                    // Both are the least: half of the slope each.
                    0.0 => least,
                    above if above < 0.0 => 2.0 * least,
                    _ => 0.0,
                };
                let pull = (2.0 * odds + share) * p[side] * (1.0 - p[side]) / self.n as f64;
                let terms = slope.iter_mut().zip(self.row(side, pair));
                terms.for_each(|(s, x)| *s += pull * x);
                slope[self.d] += pull;
            }
        }
        total / self.n as f64
    }
}

impl CcsSettings {
    /// Searches a direction. Each side is centred by its own mean, which takes away what the two forms
    /// differ by.
    ///
    /// Refuses sides that do not match, and fewer than two pairs.
    pub fn fit(&self, pairs: Pairs<'_>) -> Result<CcsProbe> {
        if pairs.len() < 2 || pairs.len() != pairs.no.len() || pairs.yes.cols() != pairs.no.cols() {
            return Err(Error::config(
                "ccs",
                format!("{} rows of one form, {} of the other", pairs.yes.len(), pairs.no.len()),
                "give two forms of each statement, and at least two statements",
            ));
        }
        let centres = [pairs.yes.means(), pairs.no.means()];
        let centred = Centred::new(pairs, &centres);
        let mut best = (f64::INFINITY, vec![0.0; centred.d + 1]);
        for start in 0..self.restarts.max(1) {
            let end = self.descend(&centred, start as u64);
            if end.0 < best.0 {
                best = end;
            }
        }
        let (loss, mut weights) = best;
        if !loss.is_finite() {
            return Err(Error::config(
                "ccs",
                "the loss is not a number",
                "leave out rows with activations that are NaN or infinite",
            ));
        }
        let bias = weights.pop().unwrap_or(0.0);
        Ok(CcsProbe { weights, bias, loss, centres })
    }

    /// One start, uniform in ±1/sqrt(D) as linear layers begin; its loss and where it ended.
    fn descend(&self, centred: &Centred, start: u64) -> (f64, Vec<f64>) {
        let mut draws = Draws::new(self.seed, start);
        let reach = 1.0 / (centred.d as f64).sqrt();
        let mut at: Vec<f64> =
            (0..=centred.d).map(|_| reach * (2.0 * draws.uniform() - 1.0)).collect();
        if !self.bias {
            at[centred.d] = 0.0;
        }
        let moved = if self.bias { at.len() } else { centred.d };
        let mut adam = Adam::new(moved, self.rate, self.decay);
        let mut slope = vec![0.0; at.len()];
        for _ in 0..self.epochs {
            centred.loss(&at, &mut slope);
            adam.step(&mut at[..moved], &slope[..moved]);
        }
        (centred.loss(&at, &mut slope), at)
    }
}

impl CcsProbe {
    /// `0.5 (p+ + 1 - p-)` of each pair: above 0.5 the "yes" form is held true. Rows are centred by the
    /// means of the training pairs (the reference takes those of the test).
    pub fn scores(&self, pairs: Pairs<'_>) -> Vec<f64> {
        let centred = Centred::new(pairs, &self.centres);
        let mut at = self.weights.clone();
        at.push(self.bias);
        let score = |pair: usize| {
            let [yes, no] = centred.probabilities(&at, pair);
            0.5 * (yes + 1.0 - no)
        };
        (0..pairs.len()).map(score).collect()
    }

    /// Turns the direction round if it is wrong on more than half of these labelled pairs: a tenth that is
    /// held out from the judgement (see [`split`](super::draw::split)). Whether it was turned.
    pub fn orient(&mut self, pairs: Pairs<'_>, labels: &[bool]) -> bool {
        let turn = accuracy(&self.scores(pairs), labels) < 0.5;
        if turn {
            self.weights.iter_mut().for_each(|w| *w = -*w);
            self.bias = -self.bias;
        }
        turn
    }

    /// Both accuracies on other pairs.
    pub fn judge(&self, pairs: Pairs<'_>, labels: &[bool]) -> CcsAccuracy {
        let oriented = accuracy(&self.scores(pairs), labels);
        CcsAccuracy { oriented, either_way: oriented.max(1.0 - oriented) }
    }
}

fn accuracy(scores: &[f64], labels: &[bool]) -> f64 {
    let right = scores.iter().zip(labels).filter(|&(s, &label)| (*s > 0.5) == label).count();
    right as f64 / labels.len().max(1) as f64
}
