//! What is known of sites together: rows of a sample, or second moments of the whole corpus.

use super::side::Side;
use crate::accumulate::gram::GramState;
use crate::methods::algebra::Dense;
use crate::methods::algebra::dense::dot;
use crate::methods::similarity::moments::cross_covariance;
use crate::methods::similarity::{Moments, NormSums, RbfKernel};

/// Rows that are multiplied at once: f64 copies of all would be twice the sample.
const ROWS: usize = 512;

/// See the module. Sites stand in the order of their places.
pub(super) enum Known {
    /// Of each site.
    Sample(Vec<SampledRows>),
    /// Of all sites, and of their norms behind the last.
    Whole(GramState),
}

/// The rows of a site that all models have.
pub(super) struct SampledRows {
    /// `[rows, N]`.
    values: Vec<f32>,
    /// `|x - mean|^2` of each row.
    norms: Vec<f64>,
    /// Where it is asked for.
    kernel: Option<RbfKernel>,
}

impl SampledRows {
    /// Values `[rows, N]` with their moments, and a kernel of this bandwidth; 0: without one.
    pub(super) fn new(neurons: usize, values: Vec<f32>, bandwidth: f64) -> (Self, Moments) {
        let count = (values.len() / neurons.max(1)) as u64;
        let mut mean = vec![0.0; neurons];
        for row in values.chunks_exact(neurons) {
            mean.iter_mut().zip(row).for_each(|(sum, x)| *sum += f64::from(*x));
        }
        mean.iter_mut().for_each(|sum| *sum /= count as f64);
        let norm = |row: &[f32]| -> f64 {
            row.iter().zip(&mean).map(|(x, mean)| (f64::from(*x) - mean).powi(2)).sum()
        };
        let norms = values.chunks_exact(neurons).map(norm).collect();
        let covariance = products((&values, &mean), (&values, &mean));
        let moments = Moments::from_sums(count, &vec![0.0; neurons], covariance, &mean);
        let kernel = (bandwidth > 0.0).then(|| RbfKernel::new(&values, neurons, bandwidth));
        (Self { values, norms, kernel }, moments)
    }
}

impl Known {
    /// Covariances of the neurons of two sites, `[N, other N]`.
    pub(super) fn cross(&self, sides: &[Side], (left, right): (usize, usize)) -> Dense {
        match self {
            Self::Sample(rows) => {
                let mean = |at: usize| &sides[at].moments.mean[..];
                let zeros = |at: usize| vec![0.0; sides[at].moments.neurons()];
                let (x, z) = (&rows[left].values, &rows[right].values);
                let products = products((x, mean(left)), (z, mean(right)));
                let count = sides[left].moments.count;
                cross_covariance(count, (&zeros(left), &zeros(right)), products)
            }
            Self::Whole(state) => {
                let products = products_of(state, (left, right));
                let sums = |at: usize| &state.sums[at][0][..];
                cross_covariance(state.rows[0], (sums(left), sums(right)), products)
            }
        }
    }

    /// CKA of two sites with Gaussian kernels, where there are any.
    pub(super) fn rbf_cka(&self, (left, right): (usize, usize)) -> Option<f64> {
        let Self::Sample(rows) = self else { return None };
        let (a, b) = (rows[left].kernel.as_ref()?, rows[right].kernel.as_ref()?);
        Some(a.cka(b))
    }

    /// `Σ |x - mean|^2 |z - mean|^2`, as the debiased CKA asks for it; `cross` as [`Self::cross`].
    pub(super) fn norms(
        &self,
        sides: &[Side],
        (left, right): (usize, usize),
        cross: &Dense,
    ) -> f64 {
        let state = match self {
            Self::Sample(rows) => return dot(&rows[left].norms, &rows[right].norms),
            Self::Whole(state) => state,
        };
        let all = state.plan.sites().len() - 1;
        let column = |site: usize, norms_of: usize| -> Vec<f64> {
            let products = products_of(state, (site, all));
            (0..products.rows()).map(|neuron| products.at(neuron, norms_of)).collect()
        };
        let sums = NormSums {
            products: products_of(state, (all, all)).at(left, right),
            left: column(left, right),
            right: column(right, left),
        };
        let shift = |at: usize| shift_of(state, at);
        let moments = (&sides[left].moments, &sides[right].moments);
        sums.centred(moments, cross, (&shift(left), &shift(right)))
    }
}

/// The moments of a site over the whole corpus.
pub(super) fn moments_of(state: &GramState, site: usize) -> Moments {
    let products = products_of(state, (site, site));
    Moments::from_sums(state.rows[0], &state.sums[site][0], products, &shift_of(state, site))
}

fn shift_of(state: &GramState, site: usize) -> Vec<f64> {
    state.plan.sites()[site].shift.iter().map(|shift| f64::from(*shift)).collect()
}

/// Sums of the products of two sites, `[left, right]`.
fn products_of(state: &GramState, (left, right): (usize, usize)) -> Dense {
    let (pair, turned) = state.plan.pair(left, right).expect("the pair was asked for");
    let (rows, columns) = state.plan.widths(state.plan.pairs()[pair]);
    let products = Dense::new(rows, columns, state.products[pair][0].clone());
    if turned { products.transposed() } else { products }
}

/// `Σ (x - mean) (z - mean)^T` over rows, `[N, other N]`, some rows at a time.
fn products((x, mean): (&[f32], &[f64]), (z, other): (&[f32], &[f64])) -> Dense {
    let (n, m) = (mean.len(), other.len());
    let mut out = Dense::zeros(n, m);
    for (x, z) in x.chunks(ROWS * n).zip(z.chunks(ROWS * m)) {
        let rows = x.len() / n;
        let left = Dense::from_fn(n, rows, |j, i| f64::from(x[i * n + j]) - mean[j]);
        let right = Dense::from_fn(rows, m, |i, j| f64::from(z[i * m + j]) - other[j]);
        let part = left.product(&right);
        out.values_mut().iter_mut().zip(part.values()).for_each(|(sum, x)| *sum += x);
    }
    out
}
