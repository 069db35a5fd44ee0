//! The fixtures of the forward pass: where they are, and what is in them.

use std::path::{Path, PathBuf};

use electrode::device::gradient_ops::GradientOps;
use electrode::engine::array::{Array, Values};
use electrode::engine::ids::{IdsRequest, PaddedIds, extract_ids};
use electrode::model::Model;
use safetensors::{Dtype, SafeTensors};

pub(crate) fn embedded() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/forward")
}

pub(crate) fn shared() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/fixtures/forward")
}

/// Every folder below `root` with both files.
pub(crate) fn fixtures(root: &Path) -> Vec<PathBuf> {
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

/// One tensor: what PyTorch gives and what we give.
pub(crate) struct Compared {
    pub(crate) name: String,
    pub(crate) want: Vec<f64>,
    pub(crate) got: Vec<f64>,
}

impl Compared {
    /// Largest difference and largest expected magnitude; NaN anywhere is NaN.
    pub(crate) fn largest(&self) -> (f64, f64) {
        let largest = self.want.iter().fold(0.0_f64, |a, b| a.max(b.abs()));
        let pairs = self.got.iter().zip(&self.want).map(|(a, b)| (a - b).abs());
        (pairs.fold(0.0_f64, |a, b| if b.is_nan() { f64::NAN } else { a.max(b) }), largest)
    }

    /// ||got - want|| / ||want||.
    pub(crate) fn relative(&self) -> f64 {
        let square = |sum: f64, x: f64| sum + x * x;
        let error = self.got.iter().zip(&self.want).map(|(a, b)| a - b).fold(0.0, square);
        let norm = self.want.iter().copied().fold(0.0, square);
        (error / norm.max(f64::MIN_POSITIVE)).sqrt()
    }
}

/// Runs one model folder on the ids of a fixture; every tensor that both have.
pub(crate) fn run<O: GradientOps + Clone>(
    ops: O,
    (folder, config): (&Path, &Path),
    expected: &Path,
    trunk_only: bool,
) -> Vec<Compared> {
    let label = config.display().to_string();
    let model = Model::open_with_config(folder, config).unwrap_or_else(|e| panic!("{label}: {e}"));
    let ids = PaddedIds::load(expected).expect("fixture ids");
    let request = IdsRequest { sites: vec!["*".into()], intervention: None };
    let arrays = extract_ids(ops, &model, &ids, &request).expect("forward runs");
    let bytes = std::fs::read(expected).expect("fixture");
    let file = SafeTensors::deserialize(&bytes).expect("fixture");
    let head = ["logits", "loss", "head_hidden"];
    let t5 = model.spec.architecture == "t5";
    let mut compared = Vec::new();
    for (name, view) in file.tensors().into_iter().filter(|(name, _)| is_output(name)) {
        if (trunk_only && head.contains(&name.as_str())) || (t5 && name == "loss") {
            continue;
        }
        let got = arrays.get(&name).unwrap_or_else(|| panic!("{label}: no {name}"));
        assert_eq!(got.shape, view.shape(), "{label}: shape of {name}");
        compared.push(Compared { name, want: wide(&view), got: ours(got) });
    }
    assert!(compared.len() > 10, "{label}: only {} tensors compared", compared.len());
    compared
}

/// One fixture in all its forms: both configurations, and the same weights under other names.
/// `judge` gets the folder's name with its form, and each tensor.
pub(crate) fn check<O: GradientOps + Clone>(
    ops: &O,
    folder: &Path,
    judge: &dyn Fn(&str, &Compared),
) {
    let expected = folder.join("expected.safetensors");
    let one = |folder: &Path, config: &str, trunk_only: bool| {
        let config = folder.join(config);
        for tensor in run(ops.clone(), (folder, &config), &expected, trunk_only) {
            judge(&config.display().to_string(), &tensor);
        }
    };
    one(folder, "config.json", false);
    if folder.join("config.hub.json").is_file() {
        one(folder, "config.hub.json", false);
    }
    let Ok(text) = std::fs::read_to_string(folder.join("alts.json")) else { return };
    let alts: serde_json::Value = serde_json::from_str(&text).expect("alts.json");
    for (name, alt) in alts.as_object().expect("an object") {
        one(&folder.join(name), "config.json", alt["sites"] == "trunk");
    }
}

/// Checks every fixture of a folder, and tells all that failed.
pub(crate) fn check_all(folders: &[PathBuf], check: impl Fn(&Path) + std::panic::RefUnwindSafe) {
    let mut failures = Vec::new();
    for folder in folders {
        if let Err(panic) = std::panic::catch_unwind(|| check(folder)) {
            failures.push(panic.downcast_ref::<String>().cloned().unwrap_or_default());
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}
