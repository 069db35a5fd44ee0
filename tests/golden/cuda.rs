//! The forward pass on a GPU, fake or real, against PyTorch at every site.
//! Oracle: the fixtures of `forward.rs`. Bounds: in float32 those of the CPU; in bfloat16 twice the
//! error of PyTorch's own bfloat16 run (`bf16.json`, made by `make_bf16.py`), as relative norm.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use electrode::device::cuda::Element;

use super::fixture::{check, check_all, run};
use super::forward::{all, dozen, judge};
use crate::cuda::device;

/// Where PyTorch rounds once more or less than we do: an element or two of a small tensor.
pub(super) const ROUNDING: f64 = 1e-6;

fn in_f32(folders: &[PathBuf]) {
    check_all(folders, |folder| {
        if let Some(device) = device(Element::F32) {
            check(&device, folder, &judge);
        }
    });
}

/// Error of PyTorch's bf16 run by fixture and tensor.
pub(super) fn theirs() -> BTreeMap<String, BTreeMap<String, f64>> {
    let text = include_str!("bf16.json");
    let all: serde_json::Value = serde_json::from_str(text).expect("bf16.json");
    serde_json::from_value(all["errors"].clone()).expect("errors by fixture and tensor")
}

fn in_bf16(folders: &[PathBuf]) {
    let theirs = theirs();
    check_all(folders, |folder| {
        let name = folder.file_name().expect("a name").to_string_lossy();
        let (Some(theirs), Some(device)) = (theirs.get(&*name), device(Element::Bf16)) else {
            return;
        };
        bf16_of(folder, theirs, &device);
    });
}

fn bf16_of(
    folder: &Path,
    theirs: &BTreeMap<String, f64>,
    device: &electrode::device::cuda::CudaDevice,
) {
    let expected = folder.join("expected.safetensors");
    let mut judged = 0;
    for tensor in run(device.clone(), (folder, &folder.join("config.json")), &expected, false) {
        let Some(theirs) = theirs.get(&tensor.name) else { continue };
        let ours = tensor.relative();
        let label = folder.display();
        let name = &tensor.name;
        assert!(
            ours <= 2.0 * theirs + ROUNDING,
            "{label}: {name} off by {ours:.2e}, theirs {theirs:.2e}"
        );
        judged += 1;
    }
    assert!(judged > 8, "{}: only {judged} tensors judged", folder.display());
}

#[test]
fn embedded_fixtures_agree_in_float32() {
    in_f32(&dozen());
}

#[test]
fn all_fixtures_agree_in_float32() {
    in_f32(&all());
}

#[test]
fn embedded_fixtures_agree_in_bfloat16() {
    in_bf16(&dozen());
}

#[test]
fn all_fixtures_agree_in_bfloat16() {
    in_bf16(&all());
}
