//! How much a probe knows of its labels (`eval-mi`, `eval-vinfo`), everything in bits.
//!
//! Two published implementations divide bits by nats when they normalise, which makes 1.44 of 1.

use std::f64::consts::LN_2;

use super::rows::{Block, argmax};

/// Nats as bits.
pub fn bits(nats: f64) -> f64 {
    nats / LN_2
}

/// Entropy of the shares of counts, in bits; 0 without any.
pub fn entropy(counts: &[u64]) -> f64 {
    let total: u64 = counts.iter().sum();
    let share = |&&count: &&u64| count as f64 / total as f64;
    let some = counts.iter().filter(|&&count| count > 0);
    some.map(|count| share(&count)).map(|p| -p * p.log2()).sum()
}

/// Rows of each class; every label is below `classes`.
pub fn counts(labels: &[u32], classes: usize) -> Vec<u64> {
    let mut counts = vec![0; classes];
    labels.iter().for_each(|&label| counts[label as usize] += 1);
    counts
}

/// What a probe told about held-out labels. A lower bound of what there is to know: it may be negative.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Information {
    /// H(Y) of the held-out labels, bits.
    pub entropy: f64,
    /// Mean -log2 p(label | row), bits.
    pub cross_entropy: f64,
}

impl Information {
    /// MI(probe) = H(Y) - CE, bits (Pimentel et al. 2020).
    pub fn mutual(&self) -> f64 {
        self.entropy - self.cross_entropy
    }

    /// The share of H(Y), at most 1; 0 where there is nothing to know.
    pub fn normalised(&self) -> f64 {
        if self.entropy > 0.0 { self.mutual() / self.entropy } else { 0.0 }
    }
}

/// A probe held against labels.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Judgement {
    /// What it knows.
    pub information: Information,
    /// Share of rows whose label is the likeliest class, the first of equal ones.
    pub accuracy: f64,
    /// Rows whose class the probe never saw: counted as errors, left out of the information.
    pub unseen: u64,
}

/// Holds log posteriors `[rows, classes]` in nats against labels. Classes with `seen[class]` false, and
/// classes beyond, took no part in training.
pub fn judge(log_posteriors: &Block, labels: &[u32], seen: &[bool]) -> Judgement {
    let (mut nats, mut right) = (0.0, 0_u64);
    let mut known = vec![0; seen.len()];
    for (row, &label) in log_posteriors.rows().zip(labels) {
        if seen.get(label as usize) == Some(&true) {
            known[label as usize] += 1;
            nats -= row[label as usize];
            right += u64::from(argmax(row) == label as usize);
        }
    }
    let rows: u64 = known.iter().sum();
    let cross_entropy = if rows > 0 { bits(nats) / rows as f64 } else { 0.0 };
    Judgement {
        information: Information { entropy: entropy(&known), cross_entropy },
        accuracy: right as f64 / labels.len().max(1) as f64,
        unseen: labels.len() as u64 - rows,
    }
}

/// V-information in bits (Xu et al. 2020): H_V(Y | nothing) - H_V(Y | X), both held-out cross-entropies.
/// The best predictor without X is the label prior of the training rows. Classes never trained on are
/// left out of both.
pub fn v_information(trained: &[u64], held_out: &[u64], cross_entropy: f64) -> f64 {
    let total: u64 = trained.iter().sum();
    let seen = trained.iter().zip(held_out).filter(|(trained, _)| **trained > 0);
    let (mut sum, mut rows) = (0.0, 0);
    for (&trained, &held_out) in seen {
        sum -= held_out as f64 * (trained as f64 / total as f64).log2();
        rows += held_out;
    }
    let prior = if rows > 0 { sum / rows as f64 } else { 0.0 };
    prior - cross_entropy
}

/// The curve over subset sizes that more neurons cannot lower: the largest value so far, at least 0, from
/// the first neuron on.
pub fn running_maximum(values: &[f64]) -> Vec<f64> {
    let mut top = 0.0;
    let raise = |&value: &f64| {
        top = f64::max(top, value);
        top
    };
    values.iter().map(raise).collect()
}
