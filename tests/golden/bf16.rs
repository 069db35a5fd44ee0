//! Forward passes and gradients in bfloat16, against PyTorch at every site.
//! Oracle: the fixtures of `forward.rs`. Bound: twice the error of PyTorch's own bfloat16 run
//! (`bf16.json`, made by `make_bf16.py`), as relative norm.

use std::collections::BTreeMap;
use std::panic::RefUnwindSafe;
use std::path::{Path, PathBuf};

use electrode::device::cpu::CpuDevice;
use electrode::device::gradient_ops::GradientOps;

use super::fixture::{Compared, check_all, run};
use super::forward::{all, dozen};
use super::gradients::gradients;

/// Where PyTorch rounds once more or less than we do: an element or two of a small tensor.
const ROUNDING: f64 = 1e-6;

/// Error of PyTorch's bf16 run by fixture and tensor.
fn theirs() -> BTreeMap<String, BTreeMap<String, f64>> {
    let text = include_str!("bf16.json");
    let all: serde_json::Value = serde_json::from_str(text).expect("bf16.json");
    serde_json::from_value(all["errors"].clone()).expect("errors by fixture and tensor")
}

/// Holds the tensors of a fixture to the bound and `more`; at least so many have one.
fn within(
    name: &str,
    theirs: &BTreeMap<String, f64>,
    tensors: Vec<Compared>,
    (least, more): (usize, f64),
) {
    let mut judged = 0;
    for tensor in tensors {
        let (Some(theirs), what) = (theirs.get(&tensor.name), &tensor.name) else { continue };
        let ours = tensor.relative();
        assert!(
            ours <= 2.0 * theirs + ROUNDING + more,
            "{name}: {what} off by {ours:.2e}, theirs {theirs:.2e}, {more:.2e} for gates"
        );
        judged += 1;
    }
    assert!(judged >= least, "{name}: only {judged} tensors judged");
}

/// Judges each fixture on a device, if there is one.
fn judge<O: GradientOps>(
    folders: &[PathBuf],
    device: impl Fn() -> Option<O> + RefUnwindSafe,
    judge: impl Fn(&str, &BTreeMap<String, f64>, O, &Path) + RefUnwindSafe,
) {
    let theirs = theirs();
    check_all(folders, |folder| {
        let name = folder.file_name().expect("a name").to_string_lossy();
        if let (Some(theirs), Some(device)) = (theirs.get(&*name), device()) {
            judge(&name, theirs, device, folder);
        }
    });
}

/// Every site of the fixtures.
pub(super) fn forward<O: GradientOps + Clone>(
    folders: &[PathBuf],
    device: impl Fn() -> Option<O> + RefUnwindSafe,
) {
    judge(folders, device, |name, theirs, device, folder| {
        within(name, theirs, sites(device, folder), (9, 0.0));
    });
}

/// The same of gradients, with what `more` allows a fixture.
pub(super) fn backward<O: GradientOps + Clone>(
    folders: &[PathBuf],
    device: impl Fn() -> Option<O> + RefUnwindSafe,
    more: impl Fn(O, &Path) -> f64 + RefUnwindSafe,
) {
    judge(folders, device, |name, theirs, device, folder| {
        let more = more(device.clone(), folder);
        within(name, theirs, gradients(device, folder), (3, more));
    });
}

fn sites<O: GradientOps + Clone>(device: O, folder: &Path) -> Vec<Compared> {
    let expected = folder.join("expected.safetensors");
    run(device, (folder, &folder.join("config.json")), &expected, false)
}

/// What gates of a ReLU that rounding opens or shuts may do to a gradient, whose terms they take away or
/// add whole: the root of their share of those that are open. PyTorch's own run has other such gates.
fn gates(device: CpuDevice, folder: &Path) -> f64 {
    let config = std::fs::read_to_string(folder.join("config.json")).expect("a configuration");
    let config: serde_json::Value = serde_json::from_str(&config).expect("JSON");
    if !["hidden_act", "activation_function"].iter().any(|key| config[key] == "relu") {
        return 0.0;
    }
    let tensors = sites(device, folder);
    let (mut open, mut other) = (0, 0);
    for tensor in tensors.iter().filter(|tensor| tensor.name.ends_with("mlp_pre")) {
        for (want, got) in tensor.want.iter().zip(&tensor.got) {
            open += u32::from(*want > 0.0);
            other += u32::from((*want > 0.0) != (*got > 0.0));
        }
    }
    assert!(open > 100 && 20 * other < open, "{other} of {open} gates: no mere rounding");
    (f64::from(other) / f64::from(open)).sqrt()
}

#[test]
fn embedded_fixtures_agree_on_the_processor() {
    forward(&dozen(), || Some(CpuDevice::Bf16));
    backward(&dozen(), || Some(CpuDevice::Bf16), gates);
}

#[test]
fn all_fixtures_agree_on_the_processor() {
    forward(&all(), || Some(CpuDevice::Bf16));
    backward(&all(), || Some(CpuDevice::Bf16), gates);
}
