//! pool: runs of tokens put together into rows.

use super::buffer::Tensor;
use crate::device::ops::{Pooling, RowRuns};

/// See [`crate::device::ops::Ops::pool`].
pub(super) fn pool(how: Pooling, runs: RowRuns<'_>, x: &Tensor, out: &mut Tensor) {
    assert_eq!((out.rows(), out.cols()), (runs.first.len(), x.cols()));
    let (cols, x) = (x.cols(), x.values());
    out.par_rows(|first_row, rows| {
        let runs = runs.first[first_row..].iter().zip(&runs.len[first_row..]);
        for (row, (&first, &len)) in rows.chunks_exact_mut(cols).zip(runs) {
            let tokens = &x[first as usize * cols..][..len as usize * cols];
            pool_row(how, tokens, row);
        }
    });
}

fn pool_row(how: Pooling, tokens: &[f32], row: &mut [f32]) {
    let cols = row.len();
    match how {
        Pooling::First => row.copy_from_slice(&tokens[..cols]),
        Pooling::Last => row.copy_from_slice(&tokens[tokens.len() - cols..]),
        Pooling::Mean => {
            row.copy_from_slice(&tokens[..cols]);
            for token in tokens.chunks_exact(cols).skip(1) {
                for (sum, x) in row.iter_mut().zip(token) {
                    *sum += x;
                }
            }
            #[expect(clippy::cast_precision_loss, reason = "words are short")]
            let count = (tokens.len() / cols) as f32;
            row.iter_mut().for_each(|sum| *sum /= count);
        }
        Pooling::Max => {
            row.copy_from_slice(&tokens[..cols]);
            for token in tokens.chunks_exact(cols).skip(1) {
                for (best, x) in row.iter_mut().zip(token) {
                    // A NaN must stay visible to the statistics.
                    *best = if *x > *best || x.is_nan() { *x } else { *best };
                }
            }
        }
    }
}
