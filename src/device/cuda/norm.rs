//! norm.
use super::buffer::{Tensor, Vector};
use super::context::Context;
use crate::device::ops::{HeadRange, NormWeights};

pub(super) fn norm(_: &Context, _: &NormWeights<Vector>, _: &Tensor, _: &mut Tensor) {
    panic!("no kernel yet");
}

pub(super) fn add_norm(
    _: &Context,
    _: &NormWeights<Vector>,
    _: (&Tensor, &Tensor),
    _: &mut Tensor,
) {
    panic!("no kernel yet");
}

pub(super) fn head_norm(_: &Context, _: &NormWeights<Vector>, _: HeadRange, _: &mut Tensor) {
    panic!("no kernel yet");
}
