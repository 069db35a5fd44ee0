//! Linear centred kernel alignment (Kornblith et al. 2019, equation 6), and the unbiased estimate of
//! its parts (Song et al. 2012, equation 5; as used by Nguyen et al. 2021).

use super::moments::Moments;
use crate::methods::algebra::dense::{Dense, dot};

/// `||C_xz||_F^2 / (||C_xx||_F ||C_zz||_F)` of covariances, in 0..=1; 0 where a side is constant.
/// Large for any two sets where neurons are many and rows few: see [`debiased_cka`].
pub fn linear_cka(left: &Dense, right: &Dense, cross: &Dense) -> f64 {
    let scale = (left.squares() * right.squares()).sqrt();
    if scale > 0.0 { (cross.squares() / scale).min(1.0) } else { 0.0 }
}

/// [`linear_cka`] of every two layers, `[L, L]`, with 1 on the diagonal (0 for a constant layer).
/// `cross(i, j)` is asked for i < j.
pub fn cka_between_layers<'a>(
    layers: &[Moments],
    cross: impl Fn(usize, usize) -> &'a Dense,
) -> Dense {
    let covariances: Vec<&Dense> = layers.iter().map(|layer| &layer.covariance).collect();
    Dense::symmetric(layers.len(), |i, j| match i == j {
        true => linear_cka(covariances[i], covariances[i], covariances[i]),
        false => linear_cka(covariances[i], covariances[j], cross(i, j)),
    })
}

/// What the unbiased estimate needs of rows beyond second moments, as sums over rows x - shift of one
/// set and z - shift of another (or of the same).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NormSums {
    /// `Σ |x|^2 |z|^2`.
    pub products: f64,
    /// `Σ |z|^2 x`, by neuron of x.
    pub left: Vec<f64>,
    /// `Σ |x|^2 z`, by neuron of z.
    pub right: Vec<f64>,
}

impl NormSums {
    /// `Σ |x - mean|^2 |z - mean|^2`. `shifts` are those of the sums, by neuron of each side.
    pub fn centred(
        &self,
        (left, right): (&Moments, &Moments),
        cross: &Dense,
        shifts: (&[f64], &[f64]),
    ) -> f64 {
        let rows = left.count as f64;
        let from = |side: &Moments, shift: &[f64]| -> Vec<f64> {
            side.mean.iter().zip(shift).map(|(mean, shift)| mean - shift).collect()
        };
        let (m, p) = (from(left, shifts.0), from(right, shifts.1));
        let (m2, p2) = (dot(&m, &m), dot(&p, &p));
        let (x2, z2) = (left.covariance.trace() + m2, right.covariance.trace() + p2);
        let across = dot(&m, &cross.apply(&p)) + m2 * p2;
        // (|x|^2 - 2 m.x + |m|^2) (|z|^2 - 2 p.z + |p|^2), summed term by term.
        self.products - 2.0 * dot(&m, &self.left) - 2.0 * dot(&p, &self.right)
            + rows * (p2 * x2 + m2 * z2 + 4.0 * across - 3.0 * m2 * p2)
    }
}

/// Linear CKA from unbiased estimates of its three parts: about 0 for independent neurons however many
/// they are, and so also below it. `norms` are [`NormSums::centred`] of left with right, left with
/// itself and right with itself. None with fewer than 4 rows, or where a side's own part is not
/// positive.
pub fn debiased_cka(
    left: &Moments,
    right: &Moments,
    cross: &Dense,
    norms: [f64; 3],
) -> Option<f64> {
    if left.count < 4 {
        return None;
    }
    let (n, trace) = (left.count as f64, |side: &Moments| side.covariance.trace());
    // Of the kernels X X^T and Z Z^T without their diagonals, in terms of centred sums.
    let part = |squares: f64, traces: f64, norms: f64| {
        n * n * squares - norms + n * n * traces / ((n - 1.0) * (n - 2.0)) - 2.0 / (n - 2.0) * norms
    };
    let own = |side: &Moments, norms: f64| {
        part(side.covariance.squares(), trace(side) * trace(side), norms)
    };
    let shared = part(cross.squares(), trace(left) * trace(right), norms[0]);
    let (x, z) = (own(left, norms[1]), own(right, norms[2]));
    (x > 0.0 && z > 0.0).then(|| shared / (x * z).sqrt())
}
