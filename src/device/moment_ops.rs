//! What a device does for second moments: Gram matrices of a site's columns, and cross-Gram matrices of
//! two sites.

use super::ops::Ops;
use crate::error::Result;

/// A device that can take second moments.
pub trait MomentOps: Ops {
    /// Second moments of the columns of one tensor, or of two.
    type Moments: Send;

    /// Empty moments of `x` `[rows, left]` with itself, or with another tensor of `right` columns; of
    /// each of `classes` classes by itself where that is more than 1.
    fn moments(&self, left: usize, right: Option<usize>, classes: usize) -> Result<Self::Moments>;
    /// Adds rows: `sum x z^T`, or `sum x x^T` without z, f32 in tiles of 512 rows and f64 across them.
    /// Row `rows[i]` counts for class `classes[i]`.
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
