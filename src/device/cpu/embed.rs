//! embed: rows of a table, looked up and added.

use super::buffer::{Table, Tensor};

/// `out[t] = scale * table[ids[t]]`.
pub(super) fn embed(table: &Table, ids: &[u32], scale: f32, out: &mut Tensor) {
    assert_eq!((out.rows(), out.cols()), (ids.len(), table.cols));
    let cols = table.cols;
    out.par_rows(|first, rows| {
        for (row, id) in rows.chunks_exact_mut(cols).zip(&ids[first..]) {
            for (y, x) in row.iter_mut().zip(table.row(*id)) {
                *y = scale * x;
            }
        }
    });
}

/// `x[t] += table[ids[t]]`.
pub(super) fn embed_add(table: &Table, ids: &[u32], x: &mut Tensor) {
    assert_eq!((x.rows(), x.cols()), (ids.len(), table.cols));
    let cols = table.cols;
    x.par_rows(|first, rows| {
        for (row, id) in rows.chunks_exact_mut(cols).zip(&ids[first..]) {
            for (y, x) in row.iter_mut().zip(table.row(*id)) {
                *y += x;
            }
        }
    });
}
