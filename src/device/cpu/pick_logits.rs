//! pick_logits: the difference of two logits of each row, without the others.

use std::borrow::Cow;

use super::buffer::{Matrix, Tensor};
use super::dispatch::multiversion;

/// See [`crate::device::suffix_ops::SuffixOps::pick_logits`].
pub(super) fn pick_logits(
    weight: &Matrix,
    (ids, others): (&[u32], &[u32]),
    x: &Tensor,
    out: &mut Tensor,
) {
    let cols = x.cols();
    assert_eq!((out.rows(), out.cols()), (x.rows(), 1));
    assert_eq!([ids.len(), others.len()], [x.rows(); 2]);
    assert!(
        ids.iter().chain(others).all(|&id| (id as usize) < weight.weight.outputs()),
        "beyond the logits"
    );
    let row = |id: u32| match &weight.rows {
        Some(rows) => Cow::Borrowed(&rows[id as usize * cols..][..cols]),
        None => (0..cols).map(|input| weight.weight.at(id as usize, input)).collect(),
    };
    let bias = |id: u32| weight.bias.as_ref().map_or(0.0, |bias| bias[id as usize]);
    out.par_rows(|first, rows| {
        for (at, out) in (first..).zip(rows) {
            let (id, other) = (ids[at], others[at]);
            let x = &x.values()[at * cols..][..cols];
            *out = difference(&row(id), &row(other), x) + bias(id) - bias(other);
        }
    });
}

multiversion! {
    /// (a - b) . x in 16 lanes.
    fn difference(a: &[f32], b: &[f32], x: &[f32]) -> f32 {
        let mut lanes = [0.0_f32; 16];
        for ((a, b), x) in a.chunks(16).zip(b.chunks(16)).zip(x.chunks(16)) {
            for (((lane, a), b), x) in lanes.iter_mut().zip(a).zip(b).zip(x) {
                *lane += (a - b) * x;
            }
        }
        lanes.iter().sum()
    }
}
