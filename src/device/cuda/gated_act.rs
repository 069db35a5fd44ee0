//! gated_act.
use super::buffer::Tensor;
use super::context::Context;
use crate::model::Activation;

pub(super) fn activate(_: &Context, _: Activation, _: &Tensor, _: &mut Tensor) {
    panic!("no kernel yet");
}

pub(super) fn multiply(_: &Context, _: (&Tensor, &Tensor), _: &mut Tensor) {
    panic!("no kernel yet");
}

pub(super) fn softcap(_: &Context, _: f32, _: &mut Tensor) {
    panic!("no kernel yet");
}
