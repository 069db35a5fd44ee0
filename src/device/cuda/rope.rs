//! rope.
use super::buffer::{Table, Tensor};
use super::context::Context;
use crate::device::ops::HeadRange;

pub(super) fn rope(_: &Context, _: &Table, _: &[u32], _: (HeadRange, &mut Tensor)) {
    panic!("no kernel yet");
}
