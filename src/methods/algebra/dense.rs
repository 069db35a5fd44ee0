//! A matrix of f64, row by row, and its products.

use std::ops::Range;

/// Rows of the right factor that are read for each row of the left one: 64 rows of 768 numbers stay
/// in a cache of the second level.
const DEPTH: usize = 64;
/// Accumulators of a dot product.
const LANES: usize = 8;

/// A matrix, row-major.
#[derive(Clone, Debug, PartialEq)]
pub struct Dense {
    rows: usize,
    columns: usize,
    values: Vec<f64>,
}

impl Dense {
    /// `values` row by row; its length must be rows * columns.
    pub fn new(rows: usize, columns: usize, values: Vec<f64>) -> Self {
        assert_eq!(values.len(), rows * columns, "a matrix of {rows} x {columns}");
        Self { rows, columns, values }
    }

    /// All 0.
    pub fn zeros(rows: usize, columns: usize) -> Self {
        Self::new(rows, columns, vec![0.0; rows * columns])
    }

    /// 1 on the diagonal, 0 elsewhere.
    pub fn identity(n: usize) -> Self {
        Self::from_fn(n, n, |i, j| f64::from(u8::from(i == j)))
    }

    /// `at(row, column)` everywhere.
    pub fn from_fn(rows: usize, columns: usize, at: impl Fn(usize, usize) -> f64) -> Self {
        let at = &at;
        let values = (0..rows).flat_map(|i| (0..columns).map(move |j| at(i, j))).collect();
        Self::new(rows, columns, values)
    }

    /// `at(i, j)` at (i, j) and at (j, i); asked for i <= j.
    pub fn symmetric(n: usize, at: impl Fn(usize, usize) -> f64) -> Self {
        let mut out = Self::zeros(n, n);
        for i in 0..n {
            for j in i..n {
                let x = at(i, j);
                out.values[i * n + j] = x;
                out.values[j * n + i] = x;
            }
        }
        out
    }

    /// Its rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Its columns.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// Row by row.
    pub fn values(&self) -> &[f64] {
        &self.values
    }

    /// Row by row.
    pub fn values_mut(&mut self) -> &mut [f64] {
        &mut self.values
    }

    /// One row.
    pub fn row(&self, row: usize) -> &[f64] {
        &self.values[row * self.columns..(row + 1) * self.columns]
    }

    /// One row.
    pub fn row_mut(&mut self, row: usize) -> &mut [f64] {
        &mut self.values[row * self.columns..(row + 1) * self.columns]
    }

    /// One number.
    pub fn at(&self, row: usize, column: usize) -> f64 {
        self.row(row)[column]
    }

    /// The numbers at (i, i).
    pub fn diagonal(&self) -> Vec<f64> {
        (0..self.rows.min(self.columns)).map(|i| self.at(i, i)).collect()
    }

    /// A part of it, as the covariance of two layers is of that of all layers.
    pub fn block(&self, rows: Range<usize>, columns: Range<usize>) -> Self {
        let values = rows.clone().flat_map(|i| self.row(i)[columns.clone()].to_vec());
        Self::new(rows.len(), columns.len(), values.collect())
    }

    /// `A^T`.
    pub fn transposed(&self) -> Self {
        let mut out = Self::zeros(self.columns, self.rows);
        for (i, row) in self.values.chunks_exact(self.columns.max(1)).enumerate() {
            for (j, x) in row.iter().enumerate() {
                out.values[j * self.rows + i] = *x;
            }
        }
        out
    }

    /// `A B`.
    pub fn product(&self, right: &Self) -> Self {
        assert_eq!(self.columns, right.rows, "factors that fit");
        let n = right.columns;
        let mut out = Self::zeros(self.rows, n);
        for start in (0..self.columns).step_by(DEPTH) {
            let depth = start..(start + DEPTH).min(self.columns);
            let below = &right.values[depth.start * n..depth.end * n];
            for i in 0..self.rows {
                add_rows(&self.row(i)[depth.clone()], below, out.row_mut(i));
            }
        }
        out
    }

    /// `A x`.
    pub fn apply(&self, x: &[f64]) -> Vec<f64> {
        assert_eq!(self.columns, x.len(), "factors that fit");
        (0..self.rows).map(|i| dot(self.row(i), x)).collect()
    }

    /// The sum of squares of its numbers, `||A||_F^2`.
    pub fn squares(&self) -> f64 {
        dot(&self.values, &self.values)
    }

    /// The sum of its diagonal.
    pub fn trace(&self) -> f64 {
        self.diagonal().iter().sum()
    }
}

/// `out += Σ_k factors[k] rows[k]`, four rows at a time.
fn add_rows(factors: &[f64], rows: &[f64], out: &mut [f64]) {
    let n = out.len();
    if n == 0 {
        return;
    }
    let fours = factors.chunks_exact(4);
    let rest = fours.remainder();
    for (f, four) in fours.zip(rows.chunks_exact(4 * n)) {
        let (ab, cd) = four.split_at(2 * n);
        let ((a, b), (c, d)) = (ab.split_at(n), cd.split_at(n));
        for ((((out, a), b), c), d) in out.iter_mut().zip(a).zip(b).zip(c).zip(d) {
            *out += (f[0] * a + f[1] * b) + (f[2] * c + f[3] * d);
        }
    }
    let last = &rows[(factors.len() - rest.len()) * n..];
    for (f, row) in rest.iter().zip(last.chunks_exact(n)) {
        axpy(*f, row, out);
    }
}

/// `out += factor * x`.
pub(super) fn axpy(factor: f64, x: &[f64], out: &mut [f64]) {
    for (out, x) in out.iter_mut().zip(x) {
        *out += factor * x;
    }
}

/// `Σ_i a_i b_i`, in an order that depends on the length alone.
pub fn dot(a: &[f64], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len(), "vectors of one length");
    let (a, a_rest) = a.as_chunks::<LANES>();
    let (b, b_rest) = b.as_chunks::<LANES>();
    let mut sums = [0.0; LANES];
    for (a, b) in a.iter().zip(b) {
        for lane in 0..LANES {
            sums[lane] += a[lane] * b[lane];
        }
    }
    let rest: f64 = a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum();
    sums.iter().sum::<f64>() + rest
}
