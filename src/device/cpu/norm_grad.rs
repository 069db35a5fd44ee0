//! norm_grad: with n = (x - mean) / s and u = g (w + offset),
//! dx = (u - mean(u) - n mean(u n)) / s; the root-mean-square norm has neither mean.

use super::buffer::Tensor;
use super::dispatch::multiversion;
use super::norm::{Norm, moments, sum};
use crate::device::ops::{HeadRange, NormWeights};
use crate::model::NormKind;

/// The heads of `g` become the gradient of the heads of `x`.
pub(super) fn norm_grad(
    norm: &NormWeights<Vec<f32>>,
    heads: HeadRange,
    x: &Tensor,
    g: &mut Tensor,
) {
    assert_eq!((x.rows(), x.cols()), (g.rows(), g.cols()));
    assert_eq!(norm.weight.len(), heads.width);
    let (norm, cols, x) = (Norm::of(norm), x.cols(), x.values());
    let range = heads.first..heads.first + heads.heads * heads.width;
    g.par_rows(|first, rows| {
        let x = x[first * cols..].chunks_exact(cols);
        for (g, x) in rows.chunks_exact_mut(cols).zip(x) {
            gradient_rows(norm, &x[range.clone()], &mut g[range.clone()]);
        }
    });
}

multiversion! {
    /// Each run of `weight.len()` values.
    fn gradient_rows(norm: Norm<'_>, x: &[f32], g: &mut [f32]) {
        let width = norm.weight.len();
        #[expect(clippy::cast_precision_loss, reason = "widths are small")]
        let n = width as f32;
        for (x, g) in x.chunks_exact(width).zip(g.chunks_exact_mut(width)) {
            let (mean, inverse) = moments(norm, x);
            for (g, w) in g.iter_mut().zip(norm.weight) {
                *g *= w + norm.offset;
            }
            let flat = match norm.kind {
                NormKind::Layer => sum(g, |g| g) / n,
                NormKind::Rms => 0.0,
            };
            let mut along = [0.0_f32; 16];
            for (g, x) in g.chunks(16).zip(x.chunks(16)) {
                for ((sum, g), x) in along.iter_mut().zip(g).zip(x) {
                    *sum += g * (x - mean) * inverse;
                }
            }
            let along = sum(&along, |x| x) / n;
            for (g, x) in g.iter_mut().zip(x) {
                *g = (*g - flat - (x - mean) * inverse * along) * inverse;
            }
        }
    }
}
