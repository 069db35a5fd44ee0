//! The new folder: what is in it, and when there is none. Oracles: the original's bytes, and what
//! the file system holds afterwards.

use std::fs;
use std::path::Path;

use electrode::rewrite::layers::drop_layers;
use electrode::rewrite::neurons::{Neurons, Removal, remove};
use electrode::rewrite::{HISTORY, SHARD_BYTES};
use serde_json::Value;

use super::{golden, make, open, raw};

fn trained() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/models/tiny-gpt2-en"))
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).expect("a folder");
    let mut names: Vec<String> =
        entries.map(|e| e.expect("an entry").file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

#[test]
fn the_tokenizer_goes_along_and_the_card_does_not() {
    let model = open(trained());
    let made = make(drop_layers(&model, &[2]).expect("it may go"));
    let want = [
        "config.json",
        HISTORY,
        "generation_config.json",
        "model.safetensors",
        "special_tokens_map.json",
        "tokenizer.json",
        "tokenizer_config.json",
    ];
    assert_eq!(names(&made.folder), want);
    for name in ["tokenizer.json", "special_tokens_map.json"] {
        let bytes = |folder: &Path| fs::read(folder.join(name)).expect("there");
        assert_eq!(bytes(&made.folder), bytes(trained()));
    }
    // Only the number of layers differs.
    let config = |folder: &Path| -> Value {
        serde_json::from_slice(&fs::read(folder.join("config.json")).expect("there")).expect("JSON")
    };
    let (mut old, new) = (config(trained()), config(&made.folder));
    assert_ne!(old, new);
    old["n_layer"] = 3.into();
    assert_eq!(old, new);
    let history: Value =
        serde_json::from_slice(&fs::read(made.folder.join(HISTORY)).expect("there")).expect("JSON");
    assert_eq!(history["format"], "electrode.edit/1");
    let files = history["edits"][0]["files"].as_array().expect("a list");
    let hashes = model.hashes().expect("readable");
    assert_eq!(files.len(), hashes.len());
    assert!(files.iter().zip(hashes).all(|(file, hash)| file["sha256"] == hash.2));
}

#[test]
fn a_large_checkpoint_is_cut_and_a_cut_one_is_put_together() {
    let model = open(&golden("qwen3-qknorm"));
    let neurons = Neurons::from([(0, [1, 2].into())]);
    let whole = make(remove(&model, &neurons, Removal::Zero, None).expect("they may go"));
    let home = tempfile::tempdir().expect("a temporary folder");
    let cut = home.path().join("cut");
    let rewrite = remove(&model, &neurons, Removal::Zero, None).expect("they may go");
    let limit = whole.written.bytes / 3;
    let written = rewrite.write(&cut, limit).expect("written");
    assert!(written.files >= 3, "{written:?}");
    assert_eq!(raw(&cut), raw(&whole.folder));
    let weights: Vec<String> =
        names(&cut).into_iter().filter(|name| name.starts_with("model-")).collect();
    assert_eq!(weights.len(), written.files);
    let largest = raw(&cut).values().map(|(.., bytes)| bytes.len() as u64).max().expect("some");
    for name in &weights {
        let size = fs::metadata(cut.join(name)).expect("there").len();
        assert!(size <= limit.max(largest) + 8192, "{name} has {size} bytes");
    }
    let index = fs::read(cut.join("model.safetensors.index.json")).expect("there");
    let index: Value = serde_json::from_slice(&index).expect("JSON");
    assert_eq!(index["metadata"]["total_size"], written.bytes);
    // From several files to one.
    let model = open(&cut);
    let again = make(drop_layers(&model, &[0]).expect("it may go"));
    assert_eq!(again.written.files, 1);
    let direct = open(&whole.folder);
    assert_eq!(raw(&again.folder), raw(&make(drop_layers(&direct, &[0]).expect("so")).folder));
}

#[test]
fn nothing_is_written_over_and_nothing_is_left_behind() {
    let model = open(&golden("gpt2-tied"));
    let before = raw(&golden("gpt2-tied"));
    let home = tempfile::tempdir().expect("a temporary folder");
    let write = |out: &Path| drop_layers(&model, &[0]).expect("it may go").write(out, SHARD_BYTES);
    let there = home.path().join("there");
    fs::create_dir(&there).expect("made");
    let error = write(&there).expect_err("it is there");
    assert_eq!(error.exit_code(), 2);
    assert!(error.to_string().contains("exists already"), "{error}");
    assert_eq!(names(&there), [""; 0]);
    let error = write(&home.path().join("no/folder")).expect_err("no parent");
    assert_eq!(error.exit_code(), 74);
    let error = write(&golden("gpt2-tied").join("new")).expect_err("inside the original");
    assert!(error.to_string().contains("never touched"), "{error}");
    assert_eq!(names(home.path()), ["there"]);
    assert_eq!(raw(&golden("gpt2-tied")), before);
    assert!(!golden("gpt2-tied").join("new").exists());
}

/// A checkpoint that cannot be changed as asked leaves no part of a new one.
#[test]
fn an_edit_that_fails_half_way_leaves_nothing() {
    let home = tempfile::tempdir().expect("a temporary folder");
    let folder = home.path().join("huge");
    fs::create_dir(&folder).expect("made");
    fs::copy(golden("gpt2-tied").join("config.json"), folder.join("config.json")).expect("copied");
    let tensors = raw(&golden("gpt2-tied"));
    // Sums of two of these values are too large for f32; the matrix is found so only when written.
    let huge = f32::MAX.to_le_bytes();
    let tensors: Vec<(String, Vec<usize>, Vec<u8>)> = tensors
        .into_iter()
        .map(|(name, (_, shape, bytes))| {
            let bias = name.ends_with("mlp.c_proj.bias") || name.ends_with("mlp.c_proj.weight");
            (name, shape, if bias { huge.repeat(bytes.len() / 4) } else { bytes })
        })
        .collect();
    let views = tensors.iter().map(|(name, shape, bytes)| {
        let view =
            safetensors::tensor::TensorView::new(safetensors::Dtype::F32, shape.clone(), bytes);
        (name.as_str(), view.expect("fits"))
    });
    let bytes = safetensors::serialize(views, None).expect("serialises");
    fs::write(folder.join("model.safetensors"), bytes).expect("written");
    let model = open(&folder);
    let means = (0..2).map(|layer| (layer, vec![1.0; model.spec.mlp.width])).collect();
    let neurons = Neurons::from([(1, [1, 2].into())]);
    let rewrite = remove(&model, &neurons, Removal::Zero, Some(&means)).expect("they may go");
    let error = rewrite.write(&home.path().join("new"), SHARD_BYTES).expect_err("too large");
    assert!(error.to_string().contains("would not be finite"), "{error}");
    assert_eq!(names(home.path()), ["huge"]);
}
