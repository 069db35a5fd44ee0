//! Probes of trees (`tree-probe`; Arps et al. 2022): features of adjacent tokens, and ridge regression of
//! depth in closed form.

use super::class_moments::{add_outer, mirror};
use super::rows::{Block, Rows, dot};
use crate::error::{Error, Result};
use crate::methods::algebra::cholesky::{cholesky, solve};

/// Rows i and j of adjacent words: neighbours of one sentence, given the sentence of each row in order.
pub fn adjacent(sentences: &[u32]) -> Vec<(usize, usize)> {
    let next = sentences.windows(2).enumerate();
    next.filter(|(_, pair)| pair[0] == pair[1]).map(|(i, _)| (i, i + 1)).collect()
}

/// `[x_i ; x_j]` of each pair, `[pairs, 2 cols]`, in f32 as devices take them: columns below `cols` are
/// neurons of the first word, those above of the second.
pub fn pair_features(rows: Rows<'_>, pairs: &[(usize, usize)]) -> Vec<f32> {
    pairs.iter().flat_map(|&(i, j)| [rows.row(i), rows.row(j)].concat()).collect()
}

/// Moments that a regression needs: of inputs, and of inputs with targets.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RegressionMoments {
    /// Rows.
    pub rows: u64,
    /// Mean of inputs, `[D]`.
    pub mean: Vec<f64>,
    /// `Σ (x - mean)(x - mean)^T`, `[D, D]`.
    pub scatter: Vec<f64>,
    /// Mean of targets, `[C]`.
    pub target_mean: Vec<f64>,
    /// `Σ (y - mean)(x - mean)^T`, `[C, D]`.
    pub cross: Vec<f64>,
}

impl RegressionMoments {
    /// From rows at hand, `[rows, D]` and `[rows, C]`.
    pub fn of(x: &Block, y: &Block) -> Self {
        let (d, c, n) = (x.cols(), y.cols(), x.len());
        let mean = |block: &Block| -> Vec<f64> {
            let sum = |j: usize| block.rows().map(|row| row[j]).sum::<f64>();
            (0..block.cols()).map(|j| sum(j) / n.max(1) as f64).collect()
        };
        let (mean, target_mean) = (mean(x), mean(y));
        let (mut scatter, mut cross) = (vec![0.0; d * d], vec![0.0; c * d]);
        for (x, y) in x.rows().zip(y.rows()) {
            let centred: Vec<f64> = x.iter().zip(&mean).map(|(x, m)| x - m).collect();
            add_outer(&mut scatter, &centred);
            for (row, (y, m)) in cross.chunks_exact_mut(d).zip(y.iter().zip(&target_mean)) {
                row.iter_mut().zip(&centred).for_each(|(sum, x)| *sum += (y - m) * x);
            }
        }
        mirror(&mut scatter, d);
        Self { rows: n as u64, mean, scatter, target_mean, cross }
    }
}

/// A linear regression of C targets.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Ridge {
    /// `[C, D]`.
    pub weights: Block,
    /// `[C]`.
    pub biases: Vec<f64>,
}

/// Minimises `|Y - X W^T - b|² + penalty |W|²`, biases free.
///
/// Refuses moments without rows, and a penalty of 0 where the inputs depend on one another.
pub fn ridge(moments: &RegressionMoments, penalty: f64) -> Result<Ridge> {
    let d = moments.mean.len();
    let mut system = moments.scatter.clone();
    (0..d).for_each(|i| system[i * (d + 1)] += penalty);
    let refuse = |what: &str, remedy: &str| Err(Error::config("ridge", what, remedy));
    if moments.rows == 0 || !(penalty.is_finite() && penalty >= 0.0) {
        return refuse("no rows, or a penalty below 0", "label rows, and give a penalty from 0 up");
    }
    let Some(factor) = cholesky(system, d) else {
        return refuse("the inputs depend on one another", "give a penalty above 0");
    };
    let mut weights = Block::new(moments.cross.clone(), d);
    weights.rows_mut().for_each(|row| solve(&factor, row));
    let bias = |(w, y): (&[f64], &f64)| y - dot(w, &moments.mean);
    let biases = weights.rows().zip(&moments.target_mean).map(bias).collect();
    Ok(Ridge { weights, biases })
}

impl Ridge {
    /// The targets of each row, `[rows, C]`.
    pub fn predict(&self, rows: &Block) -> Block {
        let one = |row: &[f64]| -> Vec<f64> {
            self.weights.rows().zip(&self.biases).map(|(w, b)| dot(w, row) + b).collect()
        };
        Block::new(rows.rows().flat_map(one).collect(), self.biases.len())
    }
}

/// 1 - residual / total sum of squares of one target; 0 where the target is constant.
pub fn r_squared(predicted: &[f64], targets: &[f64]) -> f64 {
    let mean = targets.iter().sum::<f64>() / targets.len().max(1) as f64;
    let total: f64 = targets.iter().map(|y| (y - mean).powi(2)).sum();
    let left: f64 = predicted.iter().zip(targets).map(|(p, y)| (p - y).powi(2)).sum();
    if total > 0.0 { 1.0 - left / total } else { 0.0 }
}
