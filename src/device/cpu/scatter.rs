//! scatter: rows added to chosen rows of a tensor.

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
