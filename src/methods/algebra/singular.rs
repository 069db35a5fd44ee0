//! Singular values of small matrices, by way of their Gram matrices.

use super::dense::Dense;
use super::eigen::eigen;

/// `A = U diag(values) V^T`.
#[derive(Clone, Debug, PartialEq)]
pub struct Singular {
    /// Descending; min(rows, columns) of them.
    pub values: Vec<f64>,
    /// `[rows, k]`, the columns of U.
    pub left: Dense,
    /// `[columns, k]`, the columns of V.
    pub right: Dense,
}

/// Singular values and vectors. The squares of the values are found, so that those below 1e-8 of the
/// largest are noise; their vectors on the longer side are 0. None if it holds NaN or an infinity.
pub fn singular(matrix: &Dense) -> Option<Singular> {
    if matrix.rows() > matrix.columns() {
        let Singular { values, left, right } = singular(&matrix.transposed())?;
        return Some(Singular { values, left: right, right: left });
    }
    let across = matrix.transposed();
    let found = eigen(&matrix.product(&across))?;
    let values: Vec<f64> = found.values.iter().map(|value| value.max(0.0).sqrt()).collect();
    let noise = values.first().map_or(0.0, |most| most * f64::EPSILON.sqrt());
    let left = found.vectors.transposed();
    let mut right = across.product(&left);
    let factors: Vec<f64> =
        values.iter().map(|value| if *value > noise { 1.0 / value } else { 0.0 }).collect();
    for i in 0..right.rows() {
        right.row_mut(i).iter_mut().zip(&factors).for_each(|(x, factor)| *x *= factor);
    }
    Some(Singular { values, left, right })
}
