//! rescale: `x = (x - shift) * scale`, column by column.

use super::buffer::Tensor;
use super::dispatch::multiversion;

/// See [`crate::device::moment_ops::MomentOps::rescale`].
pub(super) fn rescale(shift: &[f32], scale: &[f32], x: &mut Tensor) {
    assert_eq!((shift.len(), scale.len()), (x.cols(), x.cols()), "one of each for a column");
    x.par_rows(|_, rows| rescale_rows(shift, scale, rows));
}

multiversion! {
    fn rescale_rows(shift: &[f32], scale: &[f32], rows: &mut [f32]) {
        for row in rows.chunks_exact_mut(shift.len().max(1)) {
            for ((x, shift), scale) in row.iter_mut().zip(shift).zip(scale) {
                *x = (*x - shift) * scale;
            }
        }
    }
}
