//! The forward pass at every site, against PyTorch.
//! Oracle: `expected.safetensors` of each folder, made by transformers (float32, eager attention)
//! with a script kept beside the full set; a dozen folders are copied into `tests/golden/forward`.
//! Bound: |ours - theirs| <= 3e-5 times the tensor's largest magnitude. Their float32 noise against
//! float64 is below 3e-6 of it; erf against tanh GELU, the smallest usual mistake, is above 5e-4.

use std::path::PathBuf;

use electrode::device::cpu::CpuDevice;

use super::fixture::{Compared, check, check_all, embedded, fixtures, shared};

pub(super) const BOUND: f64 = 3e-5;

pub(super) fn judge(label: &str, tensor: &Compared) {
    let (error, largest) = tensor.largest();
    let name = &tensor.name;
    assert!(error <= BOUND * largest, "{label}: {name} off by {error:.2e} of {largest:.2e}");
}

/// The embedded dozen.
pub(super) fn dozen() -> Vec<PathBuf> {
    let folders = fixtures(&embedded());
    assert!(folders.len() >= 12, "found {} embedded fixtures", folders.len());
    folders
}

/// All of them, where the full set is there.
pub(super) fn all() -> Vec<PathBuf> {
    let folders = fixtures(&shared());
    if folders.is_empty() {
        eprintln!("skipped: {} is not there (the embedded dozen ran)", shared().display());
    }
    folders
}

#[test]
fn embedded_fixtures_agree_with_pytorch() {
    check_all(&dozen(), |folder| check(&CpuDevice::F32, folder, &judge));
}

#[test]
fn all_fixtures_agree_with_pytorch() {
    check_all(&all(), |folder| check(&CpuDevice::F32, folder, &judge));
}
