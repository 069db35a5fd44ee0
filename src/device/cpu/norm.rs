//! norm: layer norm and root-mean-square norm, by row or by head. Two passes over a row that is
//! in cache: the one-pass variance cancels in f32.

use super::buffer::Tensor;
use super::dispatch::multiversion;
use crate::device::ops::{HeadRange, NormWeights};
use crate::model::NormKind;

/// A norm's weights as slices.
#[derive(Clone, Copy)]
pub(super) struct Norm<'a> {
    pub(super) kind: NormKind,
    eps: f32,
    pub(super) offset: f32,
    pub(super) weight: &'a [f32],
    bias: Option<&'a [f32]>,
}

impl<'a> Norm<'a> {
    pub(super) fn of(norm: &'a NormWeights<Vec<f32>>) -> Self {
        Self {
            kind: norm.spec.kind,
            eps: norm.spec.eps,
            offset: if norm.spec.plus_one { 1.0 } else { 0.0 },
            weight: &norm.weight,
            bias: norm.bias.as_deref(),
        }
    }
}

/// Each row of `x` normed into `out`.
pub(super) fn norm(norm: &NormWeights<Vec<f32>>, x: &Tensor, out: &mut Tensor) {
    assert_eq!((x.rows(), x.cols()), (out.rows(), out.cols()));
    assert_eq!(norm.weight.len(), x.cols());
    let (norm, cols) = (Norm::of(norm), x.cols());
    let x = x.values();
    out.par_rows(|first, rows| {
        norm_copies(norm, &x[first * cols..][..rows.len()], rows);
    });
}

/// `out = norm(x + y)`.
pub(super) fn add_norm(norm: &NormWeights<Vec<f32>>, x: &Tensor, y: &Tensor, out: &mut Tensor) {
    assert_eq!((x.rows(), x.cols()), (out.rows(), out.cols()));
    assert_eq!((y.rows(), y.cols()), (out.rows(), out.cols()));
    let (norm, cols) = (Norm::of(norm), x.cols());
    let (x, y) = (x.values(), y.values());
    out.par_rows(|first, rows| {
        let range = first * cols..first * cols + rows.len();
        norm_sums(norm, (&x[range.clone()], &y[range]), rows);
    });
}

/// Each head of each row normed in place.
pub(super) fn head_norm(norm: &NormWeights<Vec<f32>>, heads: HeadRange, x: &mut Tensor) {
    assert_eq!(norm.weight.len(), heads.width);
    let (norm, cols) = (Norm::of(norm), x.cols());
    x.par_rows(|_, rows| {
        for row in rows.chunks_exact_mut(cols) {
            norm_rows(norm, &mut row[heads.first..][..heads.heads * heads.width]);
        }
    });
}

multiversion! {
    /// Norms each run of `weight.len()` values in place.
    fn norm_rows(norm: Norm<'_>, rows: &mut [f32]) {
        for row in rows.chunks_exact_mut(norm.weight.len()) {
            norm_row(norm, row);
        }
    }

    /// The same of rows that are copied first.
    fn norm_copies(norm: Norm<'_>, x: &[f32], rows: &mut [f32]) {
        let width = norm.weight.len();
        for (row, x) in rows.chunks_exact_mut(width).zip(x.chunks_exact(width)) {
            row.copy_from_slice(x);
            norm_row(norm, row);
        }
    }

    /// The same of sums of rows.
    fn norm_sums(norm: Norm<'_>, sums: (&[f32], &[f32]), rows: &mut [f32]) {
        let width = norm.weight.len();
        let sums = sums.0.chunks_exact(width).zip(sums.1.chunks_exact(width));
        for (row, (x, y)) in rows.chunks_exact_mut(width).zip(sums) {
            for ((out, x), y) in row.iter_mut().zip(x).zip(y) {
                *out = x + y;
            }
            norm_row(norm, row);
        }
    }
}

#[inline(always)]
fn norm_row(norm: Norm<'_>, row: &mut [f32]) {
    let (mean, inverse) = moments(norm, row);
    for (x, w) in row.iter_mut().zip(norm.weight) {
        *x = (*x - mean) * inverse * (w + norm.offset);
    }
    if let Some(bias) = norm.bias {
        for (x, b) in row.iter_mut().zip(bias) {
            *x += b;
        }
    }
}

/// What is subtracted from a row, and what it is multiplied by.
#[inline(always)]
pub(super) fn moments(norm: Norm<'_>, row: &[f32]) -> (f32, f32) {
    #[expect(clippy::cast_precision_loss, reason = "widths are small")]
    let n = row.len() as f32;
    let mean = match norm.kind {
        NormKind::Layer => sum(row, |x| x) / n,
        NormKind::Rms => 0.0,
    };
    let variance = sum(row, |x| (x - mean) * (x - mean)) / n;
    (mean, 1.0 / (variance + norm.eps).sqrt())
}

/// Sum in 16 lanes, so that it vectorises and rounds less than one running sum.
#[inline(always)]
pub(super) fn sum(row: &[f32], f: impl Fn(f32) -> f32) -> f32 {
    let mut lanes = [0.0_f32; 16];
    let chunks = row.chunks_exact(16);
    let rest = chunks.remainder();
    for chunk in chunks {
        for (lane, x) in lanes.iter_mut().zip(chunk) {
            *lane += f(*x);
        }
    }
    for (lane, x) in lanes.iter_mut().zip(rest) {
        *lane += f(*x);
    }
    let mut width = 8;
    while width > 0 {
        for i in 0..width {
            lanes[i] += lanes[i + width];
        }
        width /= 2;
    }
    lanes[0]
}
