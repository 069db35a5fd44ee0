//! What a device does for second moments: Gram matrices of a site's columns, and cross-Gram matrices of
//! two sites.

use super::ops::Ops;
use crate::error::Result;

/// Rows of a class that are added in f32 before their sums go to f64.
pub const TILE: usize = 512;

/// A device that can take second moments.
pub trait MomentOps: Ops {
    /// Second moments of the columns of one tensor, or of two.
    type Moments: Send;

    /// Empty moments of `x` `[rows, left]` with itself, or with another tensor of `right` columns; of
    /// each of `classes` classes by itself where that is more than 1.
    fn moments(&self, left: usize, right: Option<usize>, classes: usize) -> Result<Self::Moments>;
    /// Adds rows: `sum x z^T`, or `sum x x^T` without z, f32 in tiles of [`TILE`] rows of a class and f64
    /// across them. Row `rows[i]` counts for class `classes[i]`. Rows that do not fill a tile wait for the
    /// next call: however rows are cut into calls, the bits are the same.
    fn add_moments(
        &self,
        moments: &mut Self::Moments,
        x_and_z: (&Self::Tensor, Option<&Self::Tensor>),
        rows_and_classes: (&[u32], &[u32]),
    );
    /// rescale: `x[r][c] = (x[r][c] - shift[c]) * scale[c]`, in place: so that moments do not cancel where
    /// a column's mean is large, and probes see columns of one size.
    fn rescale(&self, shift: &Self::Vector, scale: &Self::Vector, x: &mut Self::Tensor);
    /// Hands them over, by class: f64 `[left, right]` row-major; of x with itself both halves.
    fn take_moments(&self, moments: Self::Moments) -> Result<Vec<Vec<f64>>>;
}

/// Copies the upper half of a square matrix of side n to the lower one.
pub(super) fn mirror(values: &mut [f64], n: usize) {
    assert_eq!(values.len(), n * n);
    for row in 1..n {
        for column in 0..row {
            values[row * n + column] = values[column * n + row];
        }
    }
}
