//! gemm.
use super::buffer::{Matrix, Tensor};
use super::context::Context;
use crate::device::ops::Epilogue;

pub(super) fn linear(_: &Context, _: &Matrix, _: (&Tensor, Epilogue<'_, Tensor>), _: &mut Tensor) {
    panic!("no kernel yet");
}
