//! Eigenvalues and eigenvectors of symmetric matrices, and what is made of them.

use super::dense::Dense;
use super::tridiagonal::reduce;

/// `A = V^T diag(values) V`.
#[derive(Clone, Debug, PartialEq)]
pub struct Eigen {
    /// Descending.
    pub values: Vec<f64>,
    /// `[n, n]`: row i is the eigenvector of `values[i]`, of length 1, its largest number positive.
    pub vectors: Dense,
}

/// Eigenvalues and eigenvectors of a symmetric matrix, of which the lower triangle is read; about
/// 5 n^3 multiplications. None if it holds NaN or an infinity. Errors are those of a matrix whose
/// numbers differ by a few epsilons of its largest one.
pub fn eigen(matrix: &Dense) -> Option<Eigen> {
    let n = matrix.rows();
    assert_eq!(n, matrix.columns(), "a square");
    let largest = matrix.values().iter().fold(0.0, |most: f64, x| most.max(x.abs()));
    if !matrix.values().iter().all(|x| x.is_finite()) {
        return None;
    }
    let mut scaled = matrix.clone();
    let scale = if largest > 0.0 { largest } else { 1.0 };
    scaled.values_mut().iter_mut().for_each(|x| *x /= scale);
    let mut system = reduce(scaled);
    if !system.diagonalise() {
        return None;
    }
    let mut order: Vec<usize> = (0..n).collect();
    order.sort_by(|&a, &b| system.diagonal[b].total_cmp(&system.diagonal[a]));
    let mut vectors = Dense::zeros(n, n);
    for (i, &from) in order.iter().enumerate() {
        let row = system.rows.row(from);
        let longest = row.iter().copied().reduce(|a, b| if b.abs() > a.abs() { b } else { a });
        let sign = longest.unwrap_or(1.0).signum();
        vectors.row_mut(i).iter_mut().zip(row).for_each(|(out, x)| *out = sign * x);
    }
    Some(Eigen { values: order.iter().map(|&i| system.diagonal[i] * scale).collect(), vectors })
}

impl Eigen {
    /// How many eigenvalues are larger than `cut`.
    pub fn above(&self, cut: f64) -> usize {
        self.values.iter().take_while(|&&value| value > cut).count()
    }

    /// `[n, dims]`: the leading eigenvectors as columns, each divided by the root of its eigenvalue.
    /// With W of a covariance C, `W^T C W` is the identity. The eigenvalues must be positive.
    pub fn whitening(&self, dims: usize) -> Dense {
        let n = self.values.len();
        assert!(dims <= self.above(0.0), "{dims} directions with variance");
        Dense::from_fn(n, dims, |i, j| self.vectors.at(j, i) / self.values[j].sqrt())
    }

    /// The pseudo-inverse: eigenvalues of at most `cut` count as 0.
    pub fn pseudo_inverse(&self, cut: f64) -> Dense {
        let half = self.whitening(self.above(cut.max(0.0)));
        half.product(&half.transposed())
    }
}
