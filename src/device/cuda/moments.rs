//! A GPU's half of second moments.

use super::{CudaDevice, Moments, Tensor, Vector, rescale};
use crate::device::moment_ops::MomentOps;
use crate::error::Result;

impl MomentOps for CudaDevice {
    type Moments = Moments;

    fn moments(&self, left: usize, right: Option<usize>, classes: usize) -> Result<Moments> {
        Moments::new(&self.context, self.element, (left, right), classes)
    }

    fn add_moments(
        &self,
        moments: &mut Moments,
        x_and_z: (&Tensor, Option<&Tensor>),
        rows_and_classes: (&[u32], &[u32]),
    ) {
        moments.add(&self.context, x_and_z, rows_and_classes);
    }

    fn rescale(&self, shift: &Vector, scale: &Vector, x: &mut Tensor) {
        rescale::rescale(&self.context, (shift, scale), x);
    }

    fn take_moments(&self, moments: Moments) -> Result<Vec<Vec<f64>>> {
        moments.take(&self.context)
    }
}
