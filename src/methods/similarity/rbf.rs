//! Centred kernel alignment with a Gaussian kernel (Kornblith et al. 2019, section 4): sees likeness
//! of neighbourhoods that no linear map makes. Of rows at hand: a kernel of all pairs is not streamed.

use crate::methods::algebra::Dense;

/// Rows whose products with all others are taken at once.
const ROWS: usize = 256;

/// `exp(-|x_i - x_j|^2 / 2σ^2)` of all pairs of rows, less the means of its rows and columns.
#[derive(Clone, Debug)]
pub struct RbfKernel {
    /// `[rows, rows]`, in f32 after centring: memory is what limits the rows.
    centred: Vec<f32>,
    /// Root of the sum of its squares.
    norm: f64,
}

impl RbfKernel {
    /// Of values `[rows, N]`. `bandwidth` is σ as a share of the median distance between rows that
    /// differ; a set whose rows are all the same has a kernel of zeros.
    pub fn new(values: &[f32], neurons: usize, bandwidth: f64) -> Self {
        let mut kernel = distances(values, neurons);
        let n = kernel.rows();
        let sigma2 = bandwidth * bandwidth * median(&kernel);
        if sigma2 <= 0.0 {
            return Self { centred: vec![0.0; n * n], norm: 0.0 };
        }
        kernel.values_mut().iter_mut().for_each(|d2| *d2 = (-*d2 / (2.0 * sigma2)).exp());
        // It is symmetric, so its rows have the means of its columns.
        let means: Vec<f64> =
            (0..n).map(|i| kernel.row(i).iter().sum::<f64>() / n as f64).collect();
        let all = means.iter().sum::<f64>() / n as f64;
        let mut centred = Vec::with_capacity(n * n);
        let mut squares = 0.0;
        for (i, mean) in means.iter().enumerate() {
            let row = kernel.row(i).iter().zip(&means);
            let own = row.map(|(k, other)| (k - mean - other + all) as f32);
            let first = centred.len();
            centred.extend(own);
            squares += inner(&centred[first..], &centred[first..]);
        }
        Self { centred, norm: squares.sqrt() }
    }

    /// CKA with the kernel of another set over the same rows, in 0..=1; 0 where a side is constant.
    pub fn cka(&self, other: &Self) -> f64 {
        assert_eq!(self.centred.len(), other.centred.len(), "kernels of the same rows");
        let scale = self.norm * other.norm;
        match scale > 0.0 {
            true => (inner(&self.centred, &other.centred) / scale).clamp(0.0, 1.0),
            false => 0.0,
        }
    }
}

/// Squared distances of all pairs of rows, from products of what is left without the mean.
fn distances(values: &[f32], neurons: usize) -> Dense {
    let n = values.len() / neurons.max(1);
    let mut mean = vec![0.0; neurons];
    for row in values.chunks_exact(neurons) {
        mean.iter_mut().zip(row).for_each(|(sum, x)| *sum += f64::from(*x) / n as f64);
    }
    let at = |i: usize, j: usize| f64::from(values[i * neurons + j]) - mean[j];
    let turned = Dense::from_fn(neurons, n, |j, i| at(i, j));
    let norms: Vec<f64> =
        (0..n).map(|i| (0..neurons).map(|j| at(i, j).powi(2)).sum::<f64>()).collect();
    let mut out = Dense::zeros(n, n);
    for first in (0..n).step_by(ROWS) {
        let rows = ROWS.min(n - first);
        let products = Dense::from_fn(rows, neurons, |i, j| at(first + i, j)).product(&turned);
        for i in 0..rows {
            let own = norms[first + i];
            let found = products.row(i).iter().zip(&norms).map(|(x, other)| own + other - 2.0 * x);
            out.row_mut(first + i).iter_mut().zip(found).for_each(|(d2, x)| *d2 = x.max(0.0));
        }
        // What rounding leaves of a row's distance to itself is none.
        (first..first + rows).for_each(|i| out.row_mut(i)[i] = 0.0);
    }
    out
}

/// The median of the squared distances of rows that differ; 0 if none do.
fn median(distances: &Dense) -> f64 {
    let n = distances.rows();
    let largest = distances.values().iter().copied().fold(0.0, f64::max);
    let pairs = (0..n).flat_map(|i| distances.row(i)[i + 1..].iter().copied());
    // Equal rows are as far apart as rounding makes them.
    let mut apart: Vec<f64> = pairs.filter(|d2| *d2 > 1e-12 * largest).collect();
    let middle = apart.len() / 2;
    match apart.is_empty() {
        true => 0.0,
        false => *apart.select_nth_unstable_by(middle, f64::total_cmp).1,
    }
}

fn inner(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum()
}
