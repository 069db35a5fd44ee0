//! Gradients on a GPU, fake or real, against PyTorch's autograd.
//! Oracle: the fixtures of `gradients.rs`. Bounds: in float32 those of the CPU; in bfloat16 those of `bf16.rs`.

use std::path::PathBuf;

use electrode::device::cuda::Element;

use super::bf16;
use super::fixture::check_all;
use super::forward::{all, dozen};
use super::gradients::check;
use crate::cuda::device;

fn in_f32(folders: &[PathBuf]) {
    check_all(folders, |folder| {
        if let Some(device) = device(Element::F32) {
            check(&device, folder);
        }
    });
}

#[test]
fn embedded_gradients_agree_in_float32() {
    in_f32(&dozen());
}

#[test]
fn all_gradients_agree_in_float32() {
    in_f32(&all());
}

#[test]
fn embedded_gradients_agree_in_bfloat16() {
    bf16::backward(&dozen(), || device(Element::Bf16), |_, _| 0.0);
}

#[test]
fn all_gradients_agree_in_bfloat16() {
    bf16::backward(&all(), || device(Element::Bf16), |_, _| 0.0);
}
