//! rope: rotates pairs (j, j + r) of each head's first 2 r columns by its position's angles.

use super::buffer::{Table, Tensor};
use crate::device::ops::HeadRange;

/// See [`crate::device::ops::Ops::rope`].
pub(super) fn rope(angles: &Table, positions: &[u32], range: HeadRange, x: &mut Tensor) {
    turn(angles, positions, (range, 1.0), x);
}

/// The other way round: a rotation's transpose is its inverse.
pub(super) fn rope_grad(angles: &Table, positions: &[u32], range: HeadRange, g: &mut Tensor) {
    turn(angles, positions, (range, -1.0), g);
}

fn turn(angles: &Table, positions: &[u32], (range, sense): (HeadRange, f32), x: &mut Tensor) {
    assert_eq!(positions.len(), x.rows());
    let (cols, r) = (x.cols(), angles.cols / 2);
    assert!(2 * r <= range.width);
    x.par_rows(|first, rows| {
        for (row, position) in rows.chunks_exact_mut(cols).zip(&positions[first..]) {
            let (cos, sin) = angles.row(*position).split_at(r);
            let heads = &mut row[range.first..][..range.heads * range.width];
            for head in heads.chunks_exact_mut(range.width) {
                rotate(&mut head[..2 * r], (cos, sin, sense));
            }
        }
    });
}

fn rotate(pairs: &mut [f32], (cos, sin, sense): (&[f32], &[f32], f32)) {
    let (low, high) = pairs.split_at_mut(cos.len());
    for (((a, b), cos), sin) in low.iter_mut().zip(high).zip(cos).zip(sin) {
        let (x, y, sin) = (*a, *b, sense * sin);
        *a = x * cos - y * sin;
        *b = y * cos + x * sin;
    }
}
