//! residual: sums and copies of whole tensors.

use super::buffer::Tensor;

/// `x += y`.
pub(super) fn add(x: &mut Tensor, y: &Tensor) {
    assert_eq!((x.rows(), x.cols()), (y.rows(), y.cols()));
    let (cols, y) = (x.cols(), y.values());
    x.par_rows(|first, rows| {
        for (x, y) in rows.iter_mut().zip(&y[first * cols..]) {
            *x += y;
        }
    });
}

/// `out = x`.
pub(super) fn copy(x: &Tensor, out: &mut Tensor) {
    assert_eq!((x.rows(), x.cols()), (out.rows(), out.cols()));
    let (cols, x) = (x.cols(), x.values());
    out.par_rows(|first, rows| rows.copy_from_slice(&x[first * cols..][..rows.len()]));
}
