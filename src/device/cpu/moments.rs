//! The CPU device's half of second moments.

use super::{CpuDevice, Moments, Tensor, rescale};
use crate::device::moment_ops::MomentOps;
use crate::error::Result;

impl MomentOps for CpuDevice {
    type Moments = Moments;

    fn moments(&self, left: usize, right: Option<usize>, classes: usize) -> Result<Moments> {
        Ok(Moments::new((left, right), classes))
    }

    fn add_moments(
        &self,
        moments: &mut Moments,
        x_and_z: (&Tensor, Option<&Tensor>),
        rows_and_classes: (&[u32], &[u32]),
    ) {
        moments.add(x_and_z, rows_and_classes);
    }

    fn rescale(&self, shift: &Vec<f32>, scale: &Vec<f32>, x: &mut Tensor) {
        rescale::rescale(shift, scale, x);
    }

    fn take_moments(&self, moments: Moments) -> Result<Vec<Vec<f64>>> {
        Ok(moments.take())
    }
}
