//! Pruning neurons into those that say the same (`p-prune`; Wang et al. 2024). Each layer's neurons
//! are clustered by their activations; one neuron of each cluster is kept, and what the others wrote
//! is written by it, as far as it can tell by least squares: `x_n ~ a x_r + b` gives
//! `v_r += a v_n`, and `b v_n` to the bias. Without a bias the fit goes through 0.

use serde_json::json;

use super::activations::{Activations, Matrix};
use super::checkpoint::Rewrite;
use super::cluster::{clusters, correlations, representative};
use super::neurons::{add_to_bias, keep};
use super::tensor::{Merge, Step};
use crate::error::{Error, Result};
use crate::model::{LayerParam, Model, Param};

/// What became of a layer.
#[derive(Clone, Debug, PartialEq)]
pub struct MergedLayer {
    /// Neurons that are kept, ascending.
    pub kept: Vec<usize>,
    /// The share of the variance of all its neurons that those kept do not explain.
    pub lost: f64,
}

/// A pruned neuron, the one that speaks for it, and how.
struct Fit {
    from: usize,
    to: usize,
    slope: f64,
    intercept: f64,
    /// Sum of squares that is left.
    residual: f64,
}

/// The checkpoint with a share `keep_share` of each layer's neurons, rounded up.
pub fn merge<'a>(
    model: &'a Model,
    activations: &Activations,
    keep_share: f64,
) -> Result<(Rewrite<'a>, Vec<MergedLayer>)> {
    if !(keep_share > 0.0 && keep_share <= 1.0) {
        let what = format!("{keep_share} is no share");
        return Err(Error::config("--keep", what, "above 0, and 1 at most"));
    }
    let (layers, width) = (model.spec.layers, model.spec.mlp.width);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "a share of a number of neurons is no larger than that"
    )]
    let count = ((keep_share * width as f64 - 1e-9).ceil() as usize).clamp(1, width);
    let mut rewrite = Rewrite::new(model, json!({"merge_neurons": {"keep": count}}))?;
    let mut merged = Vec::with_capacity(layers);
    for layer in 0..layers {
        let matrix = activations.layer(layer, width)?;
        merged.push(merge_layer(&mut rewrite, layer, &matrix, count)?);
    }
    let kept: Vec<Vec<usize>> = merged.iter().map(|layer| layer.kept.clone()).collect();
    keep(&mut rewrite, &kept)?;
    Ok((rewrite, merged))
}

fn merge_layer(
    rewrite: &mut Rewrite<'_>,
    layer: usize,
    matrix: &Matrix,
    count: usize,
) -> Result<MergedLayer> {
    let n = matrix.columns;
    let similarity = correlations(matrix);
    let bias = rewrite.model().has(Param::Layer(layer, LayerParam::DownBias));
    let (mut kept, mut fits) = (Vec::with_capacity(count), Vec::new());
    for cluster in clusters(&similarity, n, count) {
        let to = representative(&cluster, |a, b| similarity[a * n + b]);
        kept.push(to);
        let others = cluster.into_iter().filter(|&from| from != to);
        fits.extend(others.map(|from| fit(matrix, (from, to), bias)));
    }
    kept.sort_unstable();
    if !fits.is_empty() {
        let merges = fits.iter().map(|fit| Merge { from: fit.from, to: fit.to, factor: fit.slope });
        let merges = merges.collect();
        let down = Param::Layer(layer, LayerParam::Down);
        rewrite.change(down, |place, _| Step::Merge { axis: place.input_axis(), merges })?;
    }
    if bias && !fits.is_empty() {
        let shares: Vec<(usize, f64)> = fits.iter().map(|fit| (fit.from, fit.intercept)).collect();
        add_to_bias(rewrite, layer, &shares)?;
    }
    let residual: f64 = fits.iter().map(|fit| fit.residual).sum();
    let total: f64 = (0..n).map(|column| moments(matrix, (column, column)).2).sum();
    Ok(MergedLayer { kept, lost: if total > 0.0 { residual / total } else { 0.0 } })
}

/// Means of two columns, and the sum of products of what is beside them.
fn moments(matrix: &Matrix, (a, b): (usize, usize)) -> (f64, f64, f64) {
    #[expect(clippy::cast_precision_loss, reason = "fewer than 2^53 rows")]
    let rows = matrix.rows as f64;
    let pairs = || matrix.values.chunks_exact(matrix.columns).map(|row| (row[a], row[b]));
    let (mut sum_a, mut sum_b) = (0.0, 0.0);
    pairs().for_each(|(x, y)| (sum_a, sum_b) = (sum_a + x, sum_b + y));
    let (mean_a, mean_b) = (sum_a / rows, sum_b / rows);
    (mean_a, mean_b, pairs().map(|(x, y)| (x - mean_a) * (y - mean_b)).sum())
}

/// Least squares of column `from` on column `to`.
fn fit(matrix: &Matrix, (from, to): (usize, usize), bias: bool) -> Fit {
    let (mean_from, mean_to, product) = moments(matrix, (from, to));
    let squares = moments(matrix, (to, to)).2;
    #[expect(clippy::cast_precision_loss, reason = "fewer than 2^53 rows")]
    let rows = matrix.rows as f64;
    let (over, under) = match bias {
        true => (product, squares),
        false => (product + rows * mean_from * mean_to, squares + rows * mean_to * mean_to),
    };
    let slope = if under > 0.0 { over / under } else { 0.0 };
    let intercept = if bias { mean_from - slope * mean_to } else { 0.0 };
    let rest = |row: &[f64]| (row[from] - slope * row[to] - intercept).powi(2);
    let residual = matrix.values.chunks_exact(matrix.columns).map(rest).sum();
    Fit { from, to, slope, intercept, residual }
}
