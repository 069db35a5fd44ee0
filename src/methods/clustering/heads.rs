//! Attention heads that say the same, for `p-prune` (Wang et al. 2024): heads of a layer are clustered by
//! the linear CKA of their outputs (Kornblith et al. 2019, equation 6), one of each cluster is kept, and
//! each of the others is read off it by least squares, `z_from ~ M z_to + b`.
//!
//! CKA sees rotations and scales of a head as the same head, as the output projection behind it can undo
//! them. It needs many more rows than a head has columns: with few, all heads look alike.

use crate::error::{Error, Result};
use crate::methods::algebra::Dense;
use crate::methods::similarity::canonical::{Basis, CUT, Keep};
use crate::methods::similarity::linear_cka;
use crate::methods::similarity::moments::Moments;
use crate::rewrite::activations::Matrix;
use crate::rewrite::cluster::{clusters, representative};
use crate::rewrite::heads::{HeadMerge, LayerHeads};

/// Which heads may speak for each other, and how.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct HeadPruning {
    /// Share of the heads that is kept, rounded up.
    pub keep: f64,
    /// Heads are clustered among those of the same key head, and as many kept of each.
    pub per_group: bool,
    /// What the others said is taken over by those that are kept.
    pub merge: bool,
    /// There is a bias to take b; else the fit goes through 0.
    pub bias: bool,
}

/// What is found of a layer.
#[derive(Clone, Debug, PartialEq)]
pub struct PrunedHeads {
    /// Who stays, and how the others are merged.
    pub heads: LayerHeads,
    /// The share of the variance of all head outputs that is not read off those kept.
    pub lost: f64,
}

/// The outputs of the heads of one layer.
pub struct HeadOutputs {
    moments: Moments,
    heads: usize,
    kv_heads: usize,
}

impl HeadOutputs {
    /// Takes the moments of `[rows, H * d]`. An error unless there are more rows than a head has
    /// columns and one: fewer can be fitted exactly by anything.
    pub fn new(matrix: &Matrix, heads: usize, kv_heads: usize) -> Result<Self> {
        assert_eq!(matrix.columns % heads, 0, "heads are as wide as each other");
        let d = matrix.columns / heads;
        if matrix.rows <= d + 1 {
            let what = format!("{} rows for heads of {d} columns: any would fit", matrix.rows);
            return Err(Error::config("--activations", what, "extract them from more text"));
        }
        Ok(Self { moments: moments(matrix), heads, kv_heads })
    }

    fn width(&self) -> usize {
        self.moments.neurons() / self.heads
    }

    /// Covariance of two heads, `[d, d]`.
    fn covariance(&self, a: usize, b: usize) -> Dense {
        let d = self.width();
        self.moments.covariance.block(a * d..(a + 1) * d, b * d..(b + 1) * d)
    }

    /// Linear CKA of every two heads, `[H, H]`, 1 with itself.
    pub fn similarities(&self) -> Vec<f64> {
        let own: Vec<Dense> = (0..self.heads).map(|head| self.covariance(head, head)).collect();
        let cka = |a: usize, b: usize| match a == b {
            true => 1.0,
            false => linear_cka(&own[a], &own[b], &self.covariance(a, b)),
        };
        Dense::symmetric(self.heads, cka).values().to_vec()
    }

    /// Least squares of the outputs of head `from` on those of head `to`, by the pseudo-inverse, and
    /// what is left of its variance (per row). Without `bias` the fit goes through 0.
    pub fn fit(&self, (from, to): (usize, usize), bias: bool) -> Result<(HeadMerge, f64)> {
        let d = self.width();
        let mean = |head: usize| &self.moments.mean[head * d..(head + 1) * d];
        // Moments about the mean, or about 0.
        let about = |a: usize, b: usize| {
            let (covariance, of_zero) = (self.covariance(a, b), if bias { 0.0 } else { 1.0 });
            Dense::from_fn(d, d, |i, j| covariance.at(i, j) + of_zero * mean(a)[i] * mean(b)[j])
        };
        let basis = Basis::of(&about(to, to), Keep::Above(CUT))?;
        let cross = about(from, to);
        let read = cross.product(&basis.whitening);
        let map = read.product(&basis.whitening.transposed());
        let intercept = match bias {
            true => map.apply(mean(to)).iter().zip(mean(from)).map(|(m, f)| f - m).collect(),
            false => vec![0.0; d],
        };
        let left = (about(from, from).trace() - read.squares()).max(0.0);
        Ok((HeadMerge { from, to, map: map.values().to_vec(), intercept }, left))
    }

    /// Which heads are kept, and how they speak for the others.
    pub fn prune(&self, how: &HeadPruning) -> Result<PrunedHeads> {
        let similarity = self.similarities();
        // Where each head has its own keys there is nothing to keep as many of.
        let shared = how.per_group && self.kv_heads < self.heads;
        let groups = if shared { self.kv_heads } else { 1 };
        let size = self.heads / groups;
        let count = share_of(how.keep, size)?;
        let (mut kept, mut merges, mut lost) = (Vec::new(), Vec::new(), 0.0);
        for first in (0..groups).map(|group| group * size) {
            let of = |a: usize, b: usize| similarity[(first + a) * self.heads + first + b];
            let within: Vec<f64> = (0..size * size).map(|at| of(at / size, at % size)).collect();
            for cluster in clusters(&within, size, count) {
                let to = representative(&cluster, of);
                kept.push(first + to);
                for from in cluster.into_iter().filter(|&from| from != to) {
                    let (merge, left) = self.fit((first + from, first + to), how.bias)?;
                    lost += if how.merge { left } else { self.covariance(from, from).trace() };
                    merges.extend(how.merge.then_some(merge));
                }
            }
        }
        kept.sort_unstable();
        let all = self.moments.covariance.trace();
        let lost = if all > 0.0 { lost / all } else { 0.0 };
        Ok(PrunedHeads { heads: LayerHeads { kept, merges }, lost })
    }
}

/// A share of `all`, rounded up.
fn share_of(share: f64, all: usize) -> Result<usize> {
    if !(share > 0.0 && share <= 1.0) {
        let what = format!("{share} is no share");
        return Err(Error::config("--keep", what, "above 0, and 1 at most"));
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a share of a number of heads is no larger than that"
    )]
    let count = (share * all as f64 - 1e-9).ceil() as usize;
    Ok(count.clamp(1, all))
}

/// Means and covariances of all columns, shifted by the first row.
fn moments(matrix: &Matrix) -> Moments {
    let n = matrix.columns;
    let shift = &matrix.values[..n];
    let rows = || matrix.values.chunks_exact(n);
    let mut sum = vec![0.0; n];
    for row in rows() {
        sum.iter_mut().zip(row).zip(shift).for_each(|((sum, x), s)| *sum += x - s);
    }
    let mut columns = Vec::with_capacity(matrix.values.len());
    for at in 0..n {
        columns.extend(rows().map(|row| row[at] - shift[at]));
    }
    let columns = Dense::new(n, matrix.rows, columns);
    let products = columns.product(&columns.transposed());
    Moments::from_sums(matrix.rows as u64, &sum, products, shift)
}
