//! The forward pass at every site, against PyTorch.
//! Oracle: `expected.safetensors` of each folder, made by transformers (float32, eager attention)
//! with a script kept beside the full set; a dozen folders are copied into `tests/golden/forward`.
//! Bound: |ours - theirs| <= 3e-5 times the tensor's largest magnitude. Their float32 noise against
//! float64 is below 3e-6 of it; erf against tanh GELU, the smallest usual mistake, is above 5e-4.

use std::path::{Path, PathBuf};

use electrode::device::cpu::CpuDevice;
use electrode::engine::array::{Array, Values};
use electrode::engine::ids::{IdsRequest, PaddedIds, extract_ids};
use electrode::model::Model;
use safetensors::{Dtype, SafeTensors};

const BOUND: f64 = 3e-5;

fn embedded() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/forward")
}

fn shared() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/fixtures/forward")
}

/// Every folder below `root` with both files.
fn fixtures(root: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(root) else { return Vec::new() };
    let mut folders: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|folder| folder.join("expected.safetensors").is_file())
        .filter(|folder| folder.join("config.json").is_file())
        .collect();
    folders.sort();
    folders
}

/// Whether a tensor of the fixture is something the forward pass gives.
fn is_output(name: &str) -> bool {
    let inputs = ["input_ids", "attention_mask", "token_type_ids", "position_ids", "labels"];
    let oracles = ["loss_mask", "probe"];
    !inputs.contains(&name)
        && !oracles.contains(&name)
        && !name.starts_with("grad.")
        && !name.ends_with("_f64")
}

fn wide(view: &safetensors::tensor::TensorView<'_>) -> Vec<f64> {
    match view.dtype() {
        Dtype::F32 => view
            .data()
            .chunks_exact(4)
            .map(|b| f64::from(f32::from_le_bytes(b.try_into().expect("four bytes"))))
            .collect(),
        Dtype::I64 => view
            .data()
            .chunks_exact(8)
            .map(|b| i64::from_le_bytes(b.try_into().expect("eight bytes")) as f64)
            .collect(),
        other => panic!("unexpected {other:?}"),
    }
}

fn ours(array: &Array) -> Vec<f64> {
    match &array.values {
        Values::F32(values) => values.iter().map(|&x| f64::from(x)).collect(),
        Values::I64(values) => values.iter().map(|&x| x as f64).collect(),
    }
}

/// Runs one model folder on the ids of a fixture and compares every tensor; gives the number
/// compared.
fn compare(folder: &Path, config: &Path, expected: &Path, trunk_only: bool) -> usize {
    let label = config.display().to_string();
    let model = Model::open_with_config(folder, config).unwrap_or_else(|e| panic!("{label}: {e}"));
    let ids = PaddedIds::load(expected).expect("fixture ids");
    let request = IdsRequest { sites: vec!["*".into()], intervention: None };
    let arrays = extract_ids(CpuDevice, &model, &ids, &request).expect("forward runs");
    let bytes = std::fs::read(expected).expect("fixture");
    let file = SafeTensors::deserialize(&bytes).expect("fixture");
    let head = ["logits", "loss", "head_hidden"];
    let t5 = model.spec.architecture == "t5";
    let mut compared = 0;
    for (name, view) in file.tensors().into_iter().filter(|(name, _)| is_output(name)) {
        if (trunk_only && head.contains(&name.as_str())) || (t5 && name == "loss") {
            continue;
        }
        let got = arrays.get(&name).unwrap_or_else(|| panic!("{label}: no {name}"));
        assert_eq!(got.shape, view.shape(), "{label}: shape of {name}");
        let want = wide(&view);
        let largest = want.iter().fold(0.0_f64, |a, b| a.max(b.abs()));
        let error = ours(got)
            .iter()
            .zip(&want)
            .map(|(a, b)| (a - b).abs())
            .fold(0.0_f64, |a, b| if b.is_nan() { f64::NAN } else { a.max(b) });
        assert!(error <= BOUND * largest, "{label}: {name} off by {error:.2e} of {largest:.2e}");
        compared += 1;
    }
    assert!(compared > 10, "{label}: only {compared} tensors compared");
    compared
}

/// One fixture in all its forms: both configurations, and the same weights under other names.
fn check(folder: &Path) -> usize {
    let expected = folder.join("expected.safetensors");
    let mut compared = compare(folder, &folder.join("config.json"), &expected, false);
    let hub = folder.join("config.hub.json");
    if hub.is_file() {
        compared += compare(folder, &hub, &expected, false);
    }
    let Ok(text) = std::fs::read_to_string(folder.join("alts.json")) else { return compared };
    let alts: serde_json::Value = serde_json::from_str(&text).expect("alts.json");
    for (name, alt) in alts.as_object().expect("an object") {
        let alt_folder = folder.join(name);
        let trunk = alt["sites"] == "trunk";
        compared += compare(&alt_folder, &alt_folder.join("config.json"), &expected, trunk);
    }
    compared
}

#[test]
fn embedded_fixtures_agree_with_pytorch() {
    let folders = fixtures(&embedded());
    assert!(folders.len() >= 12, "found {} embedded fixtures", folders.len());
    for folder in folders {
        check(&folder);
    }
}

#[test]
fn all_fixtures_agree_with_pytorch() {
    let folders = fixtures(&shared());
    if folders.is_empty() {
        eprintln!("skipped: {} is not there (the embedded dozen ran)", shared().display());
        return;
    }
    let mut failures = Vec::new();
    for folder in folders {
        if let Err(panic) = std::panic::catch_unwind(|| check(&folder)) {
            let message = panic.downcast_ref::<String>().cloned().unwrap_or_default();
            failures.push(message);
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}
