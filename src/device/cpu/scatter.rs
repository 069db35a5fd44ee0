//! scatter: rows added to, or put in the place of, chosen rows of a tensor.

use super::buffer::Tensor;

/// See [`crate::device::gradient_ops::GradientOps::scatter`].
pub(super) fn scatter(rows: &[u32], g: &Tensor, out: &mut Tensor) {
    assert_eq!((rows.len(), out.cols()), (g.rows(), g.cols()));
    let cols = out.cols();
    if cols == 0 {
        return;
    }
    let out = out.values_mut();
    for (&row, g) in rows.iter().zip(g.values().chunks_exact(cols)) {
        for (out, g) in out[row as usize * cols..][..cols].iter_mut().zip(g) {
            *out += g;
        }
    }
}

/// See [`crate::device::suffix_ops::SuffixOps::put_rows`].
pub(super) fn put_rows(rows: &[u32], x: &Tensor, out: &mut Tensor) {
    assert_eq!((rows.len(), out.cols()), (x.rows(), x.cols()));
    let cols = out.cols();
    for (place, &row) in rows.iter().enumerate() {
        let from = &x.values()[place * cols..][..cols];
        out.values_mut()[row as usize * cols..][..cols].copy_from_slice(from);
    }
}
