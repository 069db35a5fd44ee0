//! Mean-difference directions (Marks & Tegmark 2023), plain or whitened, and what any direction says of
//! single neurons.

use super::class_moments::ClassMoments;
use super::rows::{Block, dot};
use crate::error::{Error, Result};
use crate::methods::dual::auc;
use crate::methods::ranking::{GroupRanking, Score};

/// Eigenvalues of the covariance up to this are taken for 0 (geometry-of-truth, `probes.py`).
pub const CUTOFF: f64 = 1e-3;

/// Eigenvalues, largest first, and eigenvectors, one a row, of a symmetric matrix `[n, n]`.
pub type Eigen<'a> = &'a dyn Fn(&[f64], usize) -> (Vec<f64>, Vec<f64>);

/// A direction through centred rows; there is no bias.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Direction {
    /// `[D]`.
    pub weights: Vec<f64>,
    /// What rows are centred by, `[D]`: the mean of the data set they come from.
    pub centre: Vec<f64>,
}

/// Right answers and order on held-out rows.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct DirectionQuality {
    /// Share of rows on their side of 0.
    pub accuracy: f64,
    /// Area under the ROC curve; none without rows of both kinds.
    pub auc: Option<f64>,
}

fn two(classes: &[ClassMoments; 2]) -> Result<(&ClassMoments, &ClassMoments)> {
    let [without, with] = classes;
    if without.rows == 0 || with.rows == 0 || without.dims() != with.dims() {
        return Err(Error::config(
            "massmean",
            format!("{} rows without the concept, {} with it", without.rows, with.rows),
            "give rows of both kinds",
        ));
    }
    Ok((without, with))
}

/// `mu+ - mu-`, from the moments without the concept and with it. For data of another distribution.
pub fn mass_mean(classes: &[ClassMoments; 2]) -> Result<Direction> {
    let (without, with) = two(classes)?;
    let total = without.count() + with.count();
    let pairs = || with.mean.iter().zip(&without.mean);
    Ok(Direction {
        weights: pairs().map(|(a, b)| a - b).collect(),
        centre: pairs().map(|(a, b)| (with.count() * a + without.count() * b) / total).collect(),
    })
}

/// Pooled covariance inside classes, `(S_+ + S_-) / T`, `[D, D]`.
pub fn pooled_covariance(classes: &[ClassMoments]) -> Vec<f64> {
    let total: f64 = classes.iter().map(ClassMoments::count).sum();
    let mut sum = vec![0.0; classes.first().map_or(0, |class| class.scatter.len())];
    for class in classes {
        sum.iter_mut().zip(&class.scatter).for_each(|(sum, s)| *sum += s);
    }
    sum.iter_mut().for_each(|sum| *sum /= total.max(1.0));
    sum
}

/// `S^+ (mu+ - mu-)` with S the pooled covariance inside classes and the pseudo-inverse cut at
/// [`CUTOFF`]. For data of the same distribution.
pub fn whitened_mass_mean(classes: &[ClassMoments; 2], eigen: Eigen<'_>) -> Result<Direction> {
    let plain = mass_mean(classes)?;
    let d = plain.weights.len();
    let (values, vectors) = eigen(&pooled_covariance(classes), d);
    let mut weights = vec![0.0; d];
    for (value, vector) in values.iter().zip(vectors.chunks_exact(d)) {
        if value.abs() > CUTOFF {
            let along = dot(vector, &plain.weights) / value;
            weights.iter_mut().zip(vector).for_each(|(w, v)| *w += along * v);
        }
    }
    Ok(Direction { weights, ..plain })
}

impl Direction {
    /// `w . (x - centre)`; its logistic function is the probability of the concept.
    pub fn score(&self, row: &[f64]) -> f64 {
        dot(&self.weights, row) - dot(&self.weights, &self.centre)
    }

    /// How well it tells rows apart that it was not made from.
    pub fn judge(&self, rows: &Block, labels: &[bool]) -> DirectionQuality {
        let scores: Vec<f64> = rows.rows().map(|row| self.score(row)).collect();
        let pairs = scores.iter().zip(labels);
        let right = pairs.filter(|&(score, &label)| (*score > 0.0) == label).count();
        let accuracy = right as f64 / labels.len().max(1) as f64;
        DirectionQuality { accuracy, auc: auc(&scores, labels) }
    }
}

/// What a direction says of neurons (`dir2neurons`): |w_n| sigma_n, how far one spread of the neuron moves
/// a row along it, with the sign of w_n.
pub fn direction_neurons(weights: &[f64], spreads: &[f64]) -> GroupRanking {
    let one = |(w, spread): (&f64, &f64)| Score::signed(w * spread, None);
    let scores: Vec<Score> = weights.iter().zip(spreads).map(one).collect();
    let constant: Vec<bool> = spreads.iter().map(|&spread| spread == 0.0).collect();
    GroupRanking::from_scores(&scores, &constant)
}

/// Spread of each neuron over all rows, from the moments of classes: inside them and between.
pub fn spreads(classes: &[ClassMoments]) -> Vec<f64> {
    let total: f64 = classes.iter().map(ClassMoments::count).sum();
    let d = classes.first().map_or(0, ClassMoments::dims);
    let spread = |n: usize| {
        let mean = classes.iter().map(|c| c.count() * c.mean[n]).sum::<f64>() / total;
        let own =
            |c: &ClassMoments| c.scatter[n * (d + 1)] + c.count() * (c.mean[n] - mean).powi(2);
        (classes.iter().map(own).sum::<f64>() / total).max(0.0).sqrt()
    };
    (0..d).map(spread).collect()
}
