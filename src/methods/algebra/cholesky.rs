//! Positive definite systems.

use rayon::prelude::*;

/// Systems up to this size are not worth a thread.
const SERIAL: usize = 96;

/// Cholesky's factor L `[n, n]` (row-major, its lower triangle) of a positive definite matrix,
/// `L L^T = A`; none if it is not that.
pub fn cholesky(mut a: Vec<f64>, n: usize) -> Option<Vec<f64>> {
    assert_eq!(a.len(), n * n, "a square of {n}");
    for j in 0..n {
        let (above, below) = a.split_at_mut(j * n + n);
        let row = &mut above[j * n..];
        let pivot = row[j] - row[..j].iter().map(|x| x * x).sum::<f64>();
        if pivot <= 0.0 || !pivot.is_finite() {
            return None;
        }
        let pivot = pivot.sqrt();
        row[j] = pivot;
        let row = &row[..j];
        let step = |other: &mut [f64]| {
            let dot: f64 = other[..j].iter().zip(row).map(|(a, b)| a * b).sum();
            other[j] = (other[j] - dot) / pivot;
        };
        match n <= SERIAL {
            true => below.chunks_exact_mut(n).for_each(step),
            false => below.par_chunks_exact_mut(n).for_each(step),
        }
    }
    Some(a)
}

/// Solves `L L^T x = b` in place, L `[n, n]` being of [`cholesky`].
pub fn solve(factor: &[f64], b: &mut [f64]) {
    let n = b.len();
    assert_eq!(factor.len(), n * n, "a factor of {n}");
    for i in 0..n {
        let dot: f64 = factor[i * n..i * n + i].iter().zip(&*b).map(|(l, x)| l * x).sum();
        b[i] = (b[i] - dot) / factor[i * n + i];
    }
    for i in (0..n).rev() {
        b[i] /= factor[i * n + i];
        let x = b[i];
        for (k, b) in b[..i].iter_mut().enumerate() {
            *b -= factor[i * n + k] * x;
        }
    }
}
