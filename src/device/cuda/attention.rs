//! attention.
use super::buffer::{Tensor, Vector};
use super::context::Context;
use crate::device::ops::AttentionArgs;

pub(super) fn attention(
    _: &Context,
    _: &AttentionArgs<'_, Vector>,
    _: (&Tensor, &mut Tensor),
    _: Option<&mut Tensor>,
) {
    panic!("no kernel yet");
}
