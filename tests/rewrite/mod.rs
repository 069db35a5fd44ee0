//! Tests of `electrode edit` and of the layer behind it.

mod columns;
mod command;
mod folder;
mod heads;
mod layers;
mod merge;
mod neurons;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use electrode::capture::intervention::Intervention;
use electrode::device::cpu::CpuDevice;
use electrode::device::gradient_ops::GradientOps;
use electrode::engine::array::{Array, Values};
use electrode::engine::ids::{IdsRequest, PaddedIds, extract_ids};
use electrode::model::Model;
use electrode::rewrite::{Rewrite, SHARD_BYTES, Written};
use safetensors::SafeTensors;
use serde_json::Value;
use tempfile::TempDir;

/// The forward fixtures that are part of the project: an architecture each.
const FIXTURES: [&str; 14] = [
    "bert-seqcls",
    "bert-tokcls",
    "bloom-postln",
    "distilbert-smallemb",
    "electra-gen",
    "gemma2-softcap",
    "gpt2-tied",
    "gpt_neox-serial",
    "llama-bias-bf16",
    "opt-postnorm-proj",
    "phi-qknorm-gqa",
    "qwen3-qknorm",
    "roberta-padinside",
    "t5-full-gated",
];

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/forward").join(name)
}

/// All fixtures here, and those beside the project where they are.
fn fixtures() -> Vec<PathBuf> {
    let mut all: Vec<PathBuf> = FIXTURES.iter().map(|name| golden(name)).collect();
    let shared = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/fixtures/forward");
    for name in ["gpt_neox-parallel", "gemma-mqa", "llama-gqa", "opt-prenorm", "bloom-6heads"] {
        match shared.join(name).join("model.safetensors").is_file() {
            true => all.push(shared.join(name)),
            false => eprintln!("passed over: {name} is not here"),
        }
    }
    all
}

fn open(folder: &Path) -> Model {
    let label = folder.display().to_string();
    Model::open(&label).unwrap_or_else(|error| panic!("{label}: {error}"))
}

/// A new folder and what was written there.
struct Made {
    _home: TempDir,
    folder: PathBuf,
    written: Written,
}

fn make(rewrite: Rewrite<'_>) -> Made {
    let home = TempDir::new().expect("a temporary folder");
    let folder = home.path().join("new");
    let written = rewrite.write(&folder, SHARD_BYTES).expect("it is written");
    Made { _home: home, folder, written }
}

/// Every site on the ids of a fixture, under an intervention.
fn run_on<O: GradientOps + Clone>(
    ops: O,
    model: &Path,
    ids: &Path,
    edits: Option<&Value>,
) -> BTreeMap<String, Array> {
    let ids = PaddedIds::load(&ids.join("expected.safetensors")).expect("ids");
    let intervention = edits.map(|edits| {
        Intervention::parse(&edits.to_string(), Path::new("/edits.json")).expect("parses")
    });
    let request = IdsRequest { sites: vec!["*".into()], intervention };
    extract_ids(ops, &open(model), &ids, &request).expect("runs")
}

fn run(model: &Path, ids: &Path, edits: Option<&Value>) -> BTreeMap<String, Array> {
    run_on(CpuDevice::F32, model, ids, edits)
}

fn floats(array: &Array) -> &[f32] {
    let Values::F32(values) = &array.values else { panic!("activations are f32") };
    values
}

/// The arrays that a model ends in, of those that it has.
const ENDS: [&str; 3] = ["logits", "final_norm", "pooled"];

/// Holds the ends of one run against those of another, and the last block's output.
fn assert_close(
    name: &str,
    (got, last): (&BTreeMap<String, Array>, usize),
    (want, want_last): (&BTreeMap<String, Array>, usize),
    bound: f32,
) {
    let ends = ENDS.iter().filter(|end| want.contains_key(**end));
    let mut pairs: Vec<(String, String)> =
        ends.map(|end| ((*end).to_owned(), (*end).to_owned())).collect();
    pairs.push((format!("layers.{last}.resid_post"), format!("layers.{want_last}.resid_post")));
    for (ours, theirs) in pairs {
        let (got, want) = (floats(&got[&ours]), floats(&want[&theirs]));
        assert_eq!(got.len(), want.len(), "{name}: {ours}");
        let largest = want.iter().fold(0.0_f32, |a, b| a.max(b.abs()));
        assert!(largest > 0.0, "{name}: {theirs} is 0");
        for (a, b) in got.iter().zip(want) {
            assert!((a - b).abs() <= bound * largest, "{name}: {ours}: {a} {b}, up to {largest}");
        }
    }
}

/// Whether two runs end in different numbers.
fn differ(a: &BTreeMap<String, Array>, b: &BTreeMap<String, Array>) -> bool {
    ENDS.iter().filter(|end| a.contains_key(**end)).any(|end| a[*end] != b[*end])
}

/// Type, shape and bytes of every tensor of a checkpoint, by the crate that defines the format.
type Raw = BTreeMap<String, (safetensors::Dtype, Vec<usize>, Vec<u8>)>;

fn raw(folder: &Path) -> Raw {
    let mut all = Raw::new();
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        if !name.starts_with("model") || !name.ends_with(".safetensors") {
            continue;
        }
        let bytes = std::fs::read(&path).expect("readable");
        let file = SafeTensors::deserialize(&bytes).expect("safetensors");
        for (name, view) in file.tensors() {
            all.insert(name, (view.dtype(), view.shape().to_vec(), view.data().to_vec()));
        }
    }
    all
}

/// Names of the tensors of `old` that are not in `new` as they were.
fn changed(old: &Raw, new: &Raw) -> Vec<String> {
    old.iter().filter(|(name, raw)| new.get(*name) != Some(raw)).map(|(n, _)| n.clone()).collect()
}

/// Half the distance of neighbours of 1 in the coarsest type of a checkpoint.
fn rounding(folder: &Path) -> f64 {
    let of = |(dtype, ..): &(safetensors::Dtype, Vec<usize>, Vec<u8>)| match dtype {
        safetensors::Dtype::BF16 => (-9.0_f64).exp2(),
        safetensors::Dtype::F16 => (-12.0_f64).exp2(),
        _ => (-25.0_f64).exp2(),
    };
    raw(folder).values().map(of).fold(0.0, f64::max)
}
