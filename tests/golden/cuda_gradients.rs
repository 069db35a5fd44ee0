//! Gradients on a GPU, fake or real, against PyTorch's autograd.
//! Oracle: the fixtures of `gradients.rs`. Bounds: in float32 those of the CPU; in bfloat16 twice the
//! error of PyTorch's own bfloat16 run (`bf16.json`), as relative norm.

use std::path::PathBuf;

use electrode::device::cuda::Element;

use super::cuda::{ROUNDING, theirs};
use super::fixture::check_all;
use super::forward::{all, dozen};
use super::gradients::{check, gradients};
use crate::cuda::device;

fn in_f32(folders: &[PathBuf]) {
    check_all(folders, |folder| {
        if let Some(device) = device(Element::F32) {
            check(&device, folder);
        }
    });
}

fn in_bf16(folders: &[PathBuf]) {
    let theirs = theirs();
    check_all(folders, |folder| {
        let name = folder.file_name().expect("a name").to_string_lossy();
        let (Some(theirs), Some(device)) = (theirs.get(&*name), device(Element::Bf16)) else {
            return;
        };
        let mut judged = 0;
        for tensor in gradients(device, folder) {
            let (Some(theirs), what) = (theirs.get(&tensor.name), &tensor.name) else { continue };
            let ours = tensor.relative();
            assert!(
                ours <= 2.0 * theirs + ROUNDING,
                "{name}: {what} off by {ours:.2e}, theirs {theirs:.2e}"
            );
            judged += 1;
        }
        assert!(judged >= 3, "{name}: only {judged} gradients judged");
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
    in_bf16(&dozen());
}

#[test]
fn all_gradients_agree_in_bfloat16() {
    in_bf16(&all());
}
