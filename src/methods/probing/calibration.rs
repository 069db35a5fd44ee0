//! Scores as probabilities that can be believed (`ccs-cal`): scaled on a few labelled rows, and how far off
//! they are.

use super::rows::{sigmoid, softplus};
use crate::error::{Error, Result};

/// Scores this close to 0 or 1 have the logit of this.
const EDGE: f64 = 1e-12;
/// A temperature lies between 1/HOTTEST and HOTTEST.
const HOTTEST: f64 = 1e4;
/// Newton steps at most.
const STEPS: usize = 100;
/// Bins of the calibration error (Guo et al. 2017).
pub const BINS: usize = 15;

/// How a probability is mapped to a better one: `sigmoid(slope logit(p) + shift)`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Calibration {
    /// One over the temperature.
    pub slope: f64,
    /// 0 for a temperature.
    pub shift: f64,
}

impl Calibration {
    /// The probability for a score.
    pub fn apply(&self, score: f64) -> f64 {
        sigmoid(self.slope * logit(score) + self.shift)
    }
}

fn logit(p: f64) -> f64 {
    let p = p.clamp(EDGE, 1.0 - EDGE);
    (p / (1.0 - p)).ln()
}

fn both_kinds(scores: &[f64], labels: &[bool]) -> Result<()> {
    if scores.len() != labels.len() || !labels.contains(&true) || !labels.contains(&false) {
        return Err(Error::config(
            "ccs-cal",
            format!(
                "{} labels, all alike or not one for each of {} pairs",
                labels.len(),
                scores.len()
            ),
            "label pairs of both kinds",
        ));
    }
    Ok(())
}

/// Temperature scaling (Guo et al. 2017): the one number that makes the log loss smallest, by bisection of
/// its derivative, which rises. Scores that order all rows rightly have no best temperature: the smallest
/// allowed is taken.
pub fn temperature(scores: &[f64], labels: &[bool]) -> Result<Calibration> {
    both_kinds(scores, labels)?;
    let logits: Vec<f64> = scores.iter().map(|&p| logit(p)).collect();
    let rising = |slope: f64| {
        let rows = logits.iter().zip(labels);
        let terms = rows.map(|(z, &yes)| z * (sigmoid(slope * z) - f64::from(u8::from(yes))));
        terms.sum::<f64>() > 0.0
    };
    let (mut low, mut high) = ((1.0 / HOTTEST).ln(), HOTTEST.ln());
    for _ in 0..STEPS {
        let middle = 0.5 * (low + high);
        if rising(middle.exp()) { high = middle } else { low = middle }
    }
    Ok(Calibration { slope: (0.5 * (low + high)).exp(), shift: 0.0 })
}

/// Platt scaling (Platt 1999): slope and shift that make the log loss smallest against his smoothed
/// targets, `(n+ + 1)/(n+ + 2)` and `1/(n- + 2)`, which have an optimum for rows in right order too.
pub fn platt(scores: &[f64], labels: &[bool]) -> Result<Calibration> {
    both_kinds(scores, labels)?;
    let logits: Vec<f64> = scores.iter().map(|&p| logit(p)).collect();
    let positive = labels.iter().filter(|&&label| label).count() as f64;
    let negative = labels.len() as f64 - positive;
    let (yes, no) = ((positive + 1.0) / (positive + 2.0), 1.0 / (negative + 2.0));
    let targets: Vec<f64> = labels.iter().map(|&label| if label { yes } else { no }).collect();
    let rows = || logits.iter().zip(&targets);
    let loss = |(a, b): (f64, f64)| {
        rows().map(|(z, t)| softplus(a * z + b) - t * (a * z + b)).sum::<f64>()
    };
    let mut at = (1.0, 0.0);
    for _ in 0..STEPS {
        let (mut slope, mut h) = ((0.0, 0.0), (1e-12, 0.0, 1e-12));
        for (z, t) in rows() {
            let p = sigmoid(at.0 * z + at.1);
            let w = p * (1.0 - p);
            slope = (slope.0 + (p - t) * z, slope.1 + p - t);
            h = (h.0 + w * z * z, h.1 + w * z, h.2 + w);
        }
        let det = h.0 * h.2 - h.1 * h.1;
        if det <= 0.0 || slope.0.abs().max(slope.1.abs()) < 1e-12 {
            break;
        }
        let step = ((h.2 * slope.0 - h.1 * slope.1) / det, (h.0 * slope.1 - h.1 * slope.0) / det);
        let lengths = (0..40).map(|half| 0.5_f64.powi(half));
        let next = lengths.map(|l| (at.0 - l * step.0, at.1 - l * step.1));
        let before = loss(at);
        let Some(lower) = next.into_iter().find(|&next| loss(next) <= before) else { break };
        if lower == at {
            break;
        }
        at = lower;
    }
    Ok(Calibration { slope: at.0, shift: at.1 })
}

/// Expected calibration error (Guo et al. 2017): rows in [`BINS`] bins of equal width by the confidence
/// max(p, 1 - p) of their decision; the mean, by rows, of |accuracy - mean confidence|.
pub fn calibration_error(probabilities: &[f64], labels: &[bool]) -> f64 {
    let mut bins = [(0.0, 0.0, 0.0); BINS];
    for (&p, &label) in probabilities.iter().zip(labels) {
        let confidence = p.max(1.0 - p);
        let bin = &mut bins[((confidence * BINS as f64) as usize).min(BINS - 1)];
        let right = f64::from(u8::from((p > 0.5) == label));
        *bin = (bin.0 + 1.0, bin.1 + right, bin.2 + confidence);
    }
    let off: f64 = bins.iter().map(|(_, right, confidence)| (right - confidence).abs()).sum();
    off / probabilities.len().max(1) as f64
}
