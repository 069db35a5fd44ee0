//! embed: rows of a table.
use super::buffer::{Table, Tensor};
use super::context::Context;

pub(super) fn embed(_: &Context, _: &Table, _: (&[u32], f32), _: &mut Tensor) {
    panic!("no kernel yet");
}

pub(super) fn embed_add(_: &Context, _: &Table, _: &[u32], _: &mut Tensor) {
    panic!("no kernel yet");
}
