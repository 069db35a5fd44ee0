//! A symmetric matrix as `Q T Q^T` with T tridiagonal (Householder 1958), and the eigenvalues of T by
//! implicit shifts (Bowdler, Martin, Reinsch and Wilkinson 1968). Both as in Golub and Van Loan,
//! Matrix Computations, 8.3.

use super::dense::{Dense, axpy, dot};

/// Columns of Q that are turned together: one copy of them, `[n, PANEL]`, stays in a cache.
const PANEL: usize = 32;
/// Turns that are collected before Q is.
const BATCH: usize = 1 << 15;
/// Steps for one eigenvalue at most; two are usual.
const STEPS: usize = 60;

/// `A = Q T Q^T`.
pub(super) struct Tridiagonal {
    /// Of T.
    pub(super) diagonal: Vec<f64>,
    /// Of T; one more number than it has, the last 0.
    pub(super) beside: Vec<f64>,
    /// `Q^T`: row i belongs to `diagonal[i]`.
    pub(super) rows: Dense,
}

/// Reads the lower triangle alone.
pub(super) fn reduce(mut a: Dense) -> Tridiagonal {
    let n = a.rows();
    let mut beside = vec![0.0; n];
    let mut factors = vec![0.0; n];
    for k in 0..n.saturating_sub(2) {
        let x: Vec<f64> = (k + 1..n).map(|i| a.at(i, k)).collect();
        let (v, factor, left) = reflector(x);
        beside[k] = left;
        factors[k] = factor;
        if factor != 0.0 {
            reflect_both(&mut a, k + 1, &v, factor);
        }
        // The upper triangle is free: it keeps the reflectors.
        a.row_mut(k)[k + 1..].copy_from_slice(&v);
    }
    if n > 1 {
        beside[n - 2] = a.at(n - 1, n - 2);
    }
    Tridiagonal { diagonal: a.diagonal(), beside, rows: rotation(&a, &factors).transposed() }
}

/// `H = I - factor v v^T` with `H x = (left, 0, ...)`, and `v[0] = 1`.
fn reflector(mut x: Vec<f64>) -> (Vec<f64>, f64, f64) {
    let first = x[0];
    let tail = dot(&x[1..], &x[1..]);
    if tail == 0.0 {
        x[0] = 1.0;
        return (x, 0.0, first);
    }
    let left = -(first * first + tail).sqrt().copysign(first);
    let scale = 1.0 / (first - left);
    x.iter_mut().for_each(|x| *x *= scale);
    x[0] = 1.0;
    (x, (left - first) / left, left)
}

/// `H A H` on the lower triangle of the rows and columns from `start`.
fn reflect_both(a: &mut Dense, start: usize, v: &[f64], factor: f64) {
    let m = v.len();
    let mut p = vec![0.0; m];
    for i in 0..m {
        let row = &a.row(start + i)[start..=start + i];
        p[i] += dot(row, &v[..=i]);
        axpy(v[i], &row[..i], &mut p[..i]);
    }
    p.iter_mut().for_each(|p| *p *= factor);
    let half = 0.5 * factor * dot(&p, v);
    let w: Vec<f64> = p.iter().zip(v).map(|(p, v)| p - half * v).collect();
    for i in 0..m {
        let row = &mut a.row_mut(start + i)[start..=start + i];
        for ((x, v_j), w_j) in row.iter_mut().zip(v).zip(&w) {
            *x -= v[i] * w_j + w[i] * v_j;
        }
    }
}

/// Q, the product of the reflectors in the upper triangle of `a`.
fn rotation(a: &Dense, factors: &[f64]) -> Dense {
    let n = a.rows();
    let mut q = Dense::identity(n);
    for k in (0..n.saturating_sub(2)).rev().filter(|&k| factors[k] != 0.0) {
        let v = &a.row(k)[k + 1..];
        let mut sum = vec![0.0; n - k - 1];
        for (i, v) in v.iter().enumerate() {
            axpy(*v, &q.row(k + 1 + i)[k + 1..], &mut sum);
        }
        for (i, v) in v.iter().enumerate() {
            axpy(-factors[k] * v, &sum, &mut q.row_mut(k + 1 + i)[k + 1..]);
        }
    }
    q
}

/// Rows `row` and `row + 1` turned by an angle.
struct Turn {
    row: usize,
    cos: f64,
    sin: f64,
}

impl Tridiagonal {
    /// Makes T diagonal: `diagonal` are its eigenvalues then, in no order, and `rows` the
    /// eigenvectors. False if that does not converge, which finite numbers do.
    pub(super) fn diagonalise(&mut self) -> bool {
        let mut turns = Vec::with_capacity(2 * BATCH);
        // Less than the reduction to T has lost already. Measured against its neighbours alone, the noise
        // of a matrix of low rank would never be small.
        let nothing = f64::EPSILON * self.scale();
        for l in 0..self.diagonal.len() {
            let mut steps = 0;
            while let Some(end) = self.coupled(l, nothing) {
                if steps == STEPS {
                    return false;
                }
                steps += 1;
                self.step(l, end, &mut turns);
                if turns.len() >= BATCH {
                    turn(&mut self.rows, &turns);
                    turns.clear();
                }
            }
        }
        turn(&mut self.rows, &turns);
        true
    }

    /// The largest sum of a number on the diagonal of T and the one beside it.
    fn scale(&self) -> f64 {
        let sums = self.diagonal.iter().zip(&self.beside).map(|(d, e)| d.abs() + e.abs());
        sums.fold(0.0, f64::max)
    }

    /// The last row that is coupled with row l through rows in between; none if l stands alone. What
    /// is beside the diagonal and at most `nothing` couples no rows.
    fn coupled(&self, l: usize, nothing: f64) -> Option<usize> {
        let last = self.diagonal.len() - 1;
        let end = (l..last).find(|&m| self.beside[m].abs() <= nothing).unwrap_or(last);
        (end > l).then_some(end)
    }

    /// One step of the QL algorithm with implicit shifts on rows l..=end.
    fn step(&mut self, l: usize, end: usize, turns: &mut Vec<Turn>) {
        let (d, e) = (&mut self.diagonal, &mut self.beside);
        let shift = (d[l + 1] - d[l]) / (2.0 * e[l]);
        let mut g = d[end] - d[l] + e[l] / (shift + shift.hypot(1.0).copysign(shift));
        let (mut sin, mut cos, mut p) = (1.0, 1.0, 0.0);
        for i in (l..end).rev() {
            let (f, b) = (sin * e[i], cos * e[i]);
            let r = f64::hypot(f, g);
            e[i + 1] = r;
            if r == 0.0 {
                d[i + 1] -= p;
                e[end] = 0.0;
                return;
            }
            (sin, cos) = (f / r, g / r);
            g = d[i + 1] - p;
            let r = (d[i] - g) * sin + 2.0 * cos * b;
            p = sin * r;
            d[i + 1] = g + p;
            g = cos * r - b;
            turns.push(Turn { row: i, cos, sin });
        }
        d[l] -= p;
        e[l] = g;
        e[end] = 0.0;
    }
}

/// Applies turns in their order, to a few columns at a time.
fn turn(rows: &mut Dense, turns: &[Turn]) {
    let n = rows.rows();
    let mut panel = vec![[0.0; PANEL]; n];
    for start in (0..n).step_by(PANEL) {
        let width = PANEL.min(n - start);
        for (i, part) in panel.iter_mut().enumerate() {
            part[..width].copy_from_slice(&rows.row(i)[start..start + width]);
        }
        for &Turn { row, cos, sin } in turns {
            let (above, below) = panel.split_at_mut(row + 1);
            for (x, y) in above[row].iter_mut().zip(&mut below[0]) {
                (*x, *y) = (cos * *x - sin * *y, sin * *x + cos * *y);
            }
        }
        for (i, part) in panel.iter().enumerate() {
            rows.row_mut(i)[start..start + width].copy_from_slice(&part[..width]);
        }
    }
}
