//! edit.
use super::buffer::Tensor;
use super::context::Context;
use crate::device::ops::Edit;

pub(super) fn edit(_: &Context, _: &Edit, _: &mut Tensor) {
    panic!("no kernel yet");
}
