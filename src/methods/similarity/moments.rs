//! Second moments of neurons, made of sums over rows; correlations.

use crate::methods::algebra::Dense;
use crate::methods::evidence::negligible;

/// Means and covariances of N neurons over rows.
#[derive(Clone, Debug, PartialEq)]
pub struct Moments {
    /// Rows.
    pub count: u64,
    /// `[N]`.
    pub mean: Vec<f64>,
    /// `[N, N]`, divided by the number of rows.
    pub covariance: Dense,
}

impl Moments {
    /// From sums over rows x - shift: `sum` is `Σ (x - shift)` and `products` is
    /// `Σ (x - shift) (x - shift)^T`, over one row at least. Shifts near the means keep the difference
    /// exact.
    pub fn from_sums(count: u64, sum: &[f64], products: Dense, shift: &[f64]) -> Self {
        assert_eq!(sum.len(), shift.len(), "a shift for each neuron");
        let covariance = cross_covariance(count, (sum, sum), products);
        let mean = sum.iter().zip(shift).map(|(sum, shift)| shift + sum / count as f64).collect();
        Self { count, mean, covariance }
    }

    /// Number of neurons.
    pub fn neurons(&self) -> usize {
        self.mean.len()
    }

    /// Which neurons say nothing: their variance is [`negligible`].
    pub fn constant(&self) -> Vec<bool> {
        let variances = self.covariance.diagonal();
        variances
            .iter()
            .zip(&self.mean)
            .map(|(variance, mean)| negligible(*variance, *mean))
            .collect()
    }

    /// Of standard deviations; 0 for constant neurons.
    fn scales(&self) -> Vec<f64> {
        let variances = self.covariance.diagonal();
        let scale = |(variance, constant): (&f64, bool)| match constant {
            true => 0.0,
            false => 1.0 / variance.sqrt(),
        };
        variances.iter().zip(self.constant()).map(scale).collect()
    }

    /// Pearson's r of all pairs `[N, N]`: a constant neuron is like no other, 0, and 1 with itself.
    pub fn correlations(&self) -> Dense {
        let mut r = scaled(&self.covariance, &self.scales(), &self.scales());
        (0..self.neurons()).for_each(|i| r.row_mut(i)[i] = 1.0);
        r
    }

    /// The same neurons less their means, divided by their standard deviations. Constant ones are 0
    /// throughout, and so drop out of every direction.
    pub fn standardised(&self) -> Self {
        let covariance = scaled(&self.covariance, &self.scales(), &self.scales());
        Self { count: self.count, mean: vec![0.0; self.neurons()], covariance }
    }
}

/// `Σ x z^T / count - mean(x) mean(z)^T` `[left, right]`, from sums of x and z and their products, each
/// shifted as it likes.
pub fn cross_covariance(count: u64, sums: (&[f64], &[f64]), mut products: Dense) -> Dense {
    assert!(count > 0, "moments of no rows");
    assert_eq!((products.rows(), products.columns()), (sums.0.len(), sums.1.len()), "one shape");
    let count = count as f64;
    for (i, x) in sums.0.iter().enumerate() {
        let mean = x / count;
        for (product, z) in products.row_mut(i).iter_mut().zip(sums.1) {
            *product = *product / count - mean * (z / count);
        }
    }
    products
}

/// Pearson's r of every neuron of `left` with every one of `right`, from their cross-covariance; 0
/// where one is constant. Also the cross-covariance of [`Moments::standardised`] neurons.
pub fn cross_correlations(left: &Moments, right: &Moments, cross: &Dense) -> Dense {
    scaled(cross, &left.scales(), &right.scales())
}

fn scaled(covariance: &Dense, left: &[f64], right: &[f64]) -> Dense {
    assert_eq!((covariance.rows(), covariance.columns()), (left.len(), right.len()), "one shape");
    let mut out = covariance.clone();
    for (i, scale) in left.iter().enumerate() {
        let row = out.row_mut(i).iter_mut().zip(right);
        row.for_each(|(x, other)| *x = (*x * scale * other).clamp(-1.0, 1.0));
    }
    out
}
