//! Linear probes of few rows and many neurons, solved in the space of the rows: with weights
//! `w = Σ_i α_i x_i` nothing larger than the Gram matrix `[n, n]` of the rows is ever solved. All in f64.

use rayon::prelude::*;

/// Steps of Newton's method at most; it converges in about ten.
const STEPS: usize = 100;
/// Change of a logit below which it has converged.
const CLOSE: f64 = 1e-9;
/// Systems up to this size are not worth a thread.
const SERIAL: usize = 96;
/// Weights of rows are kept off 0, where a row has no say and the system no solution.
const LEAST: f64 = 1e-10;

/// `X X^T` of rows, `[n, n]`.
pub fn gram(rows: &[Vec<f64>]) -> Vec<f64> {
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    let row = |a: &Vec<f64>| rows.iter().map(|b| dot(a, b)).collect::<Vec<f64>>();
    rows.par_iter().flat_map_iter(row).collect()
}

/// `Σ_i α_i x_i`.
pub fn weights(rows: &[Vec<f64>], alpha: &[f64]) -> Vec<f64> {
    let mut sum = vec![0.0; rows.first().map_or(0, Vec::len)];
    for (row, alpha) in rows.iter().zip(alpha) {
        sum.iter_mut().zip(row).for_each(|(sum, x)| *sum += alpha * x);
    }
    sum
}

/// Cholesky's factor L of a positive definite matrix, `L L^T = A`; none if it is not that.
pub(super) fn cholesky(mut a: Vec<f64>, n: usize) -> Option<Vec<f64>> {
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

/// Solves `L L^T x = b` in place.
pub(super) fn solve(factor: &[f64], b: &mut [f64]) {
    let n = b.len();
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

fn with_diagonal(gram: &[f64], diagonal: impl Fn(usize) -> f64, n: usize) -> Vec<f64> {
    let mut a = gram.to_vec();
    (0..n).for_each(|i| a[i * n + i] += diagonal(i));
    a
}

/// A logistic probe: logit of a row x is `Σ_i α_i <x_i, x> + bias`.
#[derive(Clone, Debug, PartialEq)]
pub struct Logistic {
    /// Of each row it was trained on.
    pub alpha: Vec<f64>,
    /// Not penalised.
    pub bias: f64,
}

/// Minimises `Σ_i log(1 + exp(-y_i f_i)) + penalty / 2 |w|²` over w and bias, y being 1 or -1, by
/// iteratively reweighted least squares. None if it does not converge: one class alone, or a penalty
/// of 0 for classes that can be divided.
pub fn logistic(gram: &[f64], labels: &[bool], penalty: f64) -> Option<Logistic> {
    let n = labels.len();
    let mut f = vec![0.0; n];
    for _ in 0..STEPS {
        let p: Vec<f64> = f.iter().map(|f: &f64| 1.0 / (1.0 + (-f).exp())).collect();
        let w: Vec<f64> = p.iter().map(|p| (p * (1.0 - p)).max(LEAST)).collect();
        let mut z: Vec<f64> =
            (0..n).map(|i| f[i] + (f64::from(u8::from(labels[i])) - p[i]) / w[i]).collect();
        // (K + penalty W^-1) α + bias 1 = z, 1ᵀα = 0.
        let factor = cholesky(with_diagonal(gram, |i| penalty / w[i], n), n)?;
        let mut ones = vec![1.0; n];
        solve(&factor, &mut z);
        solve(&factor, &mut ones);
        let bias = z.iter().sum::<f64>() / ones.iter().sum::<f64>();
        let alpha: Vec<f64> = z.iter().zip(&ones).map(|(z, one)| z - bias * one).collect();
        let product = |row: &[f64]| row.iter().zip(&alpha).map(|(k, a)| k * a).sum::<f64>() + bias;
        let next: Vec<f64> = gram.chunks_exact(n).map(product).collect();
        let moved = next.iter().zip(&f).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
        f = next;
        if !moved.is_finite() {
            return None;
        }
        if moved < CLOSE * f.iter().fold(1.0, |a: f64, b| a.max(b.abs())) {
            return Some(Logistic { alpha, bias });
        }
    }
    None
}

/// Minimises `|y - X w|² + penalty |w|²`, the penalty being that of these with the smallest error of
/// rows left out one at a time: α and the penalty.
pub fn ridge(gram: &[f64], y: &[f64], penalties: &[f64]) -> Option<(Vec<f64>, f64)> {
    let n = y.len();
    let fit = |&penalty: &f64| {
        let factor = cholesky(with_diagonal(gram, |_| penalty, n), n)?;
        let mut alpha = y.to_vec();
        solve(&factor, &mut alpha);
        let left_out = |i: usize| {
            let mut unit = vec![0.0; n];
            unit[i] = 1.0;
            solve(&factor, &mut unit);
            (alpha[i] / unit[i]).powi(2)
        };
        let error: f64 = (0..n).into_par_iter().map(left_out).collect::<Vec<_>>().iter().sum();
        Some((error, alpha, penalty))
    };
    let fits = penalties.iter().filter_map(fit);
    fits.min_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, alpha, penalty)| (alpha, penalty))
}

/// The probability that a row of the first kind has the larger score, ties counted as halves; none
/// without rows of both kinds.
pub fn auc(scores: &[f64], labels: &[bool]) -> Option<f64> {
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_by(|&a, &b| scores[a].total_cmp(&scores[b]));
    let (mut below, mut sum, mut first) = (0.0, 0.0, 0);
    while first < order.len() {
        let same = order[first..].iter().take_while(|&&i| scores[i] == scores[order[first]]);
        let tied: Vec<usize> = same.copied().collect();
        let positive = tied.iter().filter(|&&i| labels[i]).count() as f64;
        let negative = tied.len() as f64 - positive;
        sum += positive * (below + negative / 2.0);
        below += negative;
        first += tied.len();
    }
    let pairs = below * (labels.len() as f64 - below);
    (pairs > 0.0).then(|| sum / pairs)
}
