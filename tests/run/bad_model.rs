//! Checkpoints that are missing, foreign or damaged. Oracle: the exit codes of the README.

use std::fs;

use serde_json::json;

use super::{Bench, assert_refused, tiny};

/// A bench whose model was changed; `code` and `words` are what the run says of it.
fn refuse(change: impl FnOnce(&Bench), code: i32, words: &[&str]) {
    let bench = Bench::new(60);
    change(&bench);
    assert_refused(&bench.run("out", &[]), code, words, &bench.path("out"));
}

fn write(bench: &Bench, name: &str, bytes: impl AsRef<[u8]>) {
    fs::write(bench.path("model").join(name), bytes).expect("written");
}

fn remove(bench: &Bench, name: &str) {
    fs::remove_file(bench.path("model").join(name)).expect("it was there");
}

#[test]
fn missing_models() {
    let bench = Bench::new(60);
    let out = bench.path("out");
    let nowhere = format!("model.path={}", bench.path("nowhere").display());
    assert_refused(&bench.run("out", &[&nowhere]), 2, &["nowhere", "remedy"], &out);
    let mut command = bench.command("out", &["model.path=some-org/some-model"]);
    command.env("HF_HUB_CACHE", bench.path("cache"));
    assert_refused(&super::finish(&mut command), 2, &["some-org/some-model", "remedy"], &out);
    refuse(|b| remove(b, "config.json"), 2, &["config.json"]);
    refuse(|b| remove(b, "model.safetensors"), 65, &["no weights", "model.safetensors"]);
}

#[test]
fn foreign_architectures() {
    let with = |key: &'static str, value: serde_json::Value| {
        move |bench: &Bench| {
            let mut config = tiny::config();
            config[key] = value;
            write(bench, "config.json", config.to_string());
        }
    };
    refuse(with("model_type", json!("mamba")), 2, &["mamba", "gpt2"]);
    refuse(with("activation_function", json!("cosine")), 2, &["cosine"]);
    refuse(with("n_embd", json!(24)), 65, &["shape", "24"]);
    refuse(|b| write(b, "config.json", "{"), 2, &["config.json"]);
}

#[test]
fn damaged_weights() {
    let whole = tiny::safetensors_bytes(&tiny::tensors());
    refuse(|b| write(b, "model.safetensors", &whole[..whole.len() - 9]), 65, &["truncated"]);
    refuse(|b| write(b, "model.safetensors", &whole[..100]), 65, &["truncated"]);
    refuse(|b| write(b, "model.safetensors", []), 65, &["model.safetensors"]);
    let mut terabyte = (1_u64 << 40).to_le_bytes().to_vec();
    terabyte.extend(&whole[8..]);
    refuse(|b| write(b, "model.safetensors", terabyte), 65, &["header of 1099511627776 bytes"]);
    refuse(
        |bench| {
            remove(bench, "model.safetensors");
            write(bench, "pytorch_model.bin", b"PK\x03\x04");
        },
        65,
        &["pytorch_model.bin", "safe_serialization=True"],
    );
    for bad in [f32::NAN, f32::INFINITY] {
        let mut tensors = tiny::tensors();
        let weights = tensors.iter_mut().find(|t| t.0.ends_with("h.1.mlp.c_fc.weight"));
        weights.expect("there").2[3] = bad;
        let bytes = tiny::safetensors_bytes(&tensors);
        let words = ["h.1.mlp.c_fc.weight", "1 value", "not finite"];
        refuse(|b| write(b, "model.safetensors", bytes), 65, &words);
    }
}

/// Finite weights whose products are not.
#[test]
fn activations_that_are_not_finite_end_the_run_or_are_counted() {
    let bench = Bench::new(60);
    let mut tensors = tiny::tensors();
    let weights = tensors.iter_mut().find(|t| t.0.ends_with("h.1.mlp.c_fc.weight"));
    let weights = weights.expect("there");
    weights.2.iter_mut().skip(3).step_by(32).for_each(|x| *x = 3e38);
    write(&bench, "model.safetensors", tiny::safetensors_bytes(&tensors));
    let done = bench.run("out", &[]);
    assert_eq!(done.code, Some(65), "{}", done.stderr);
    assert!(done.stderr.contains("finite"), "{}", done.stderr);
    assert!(!bench.path("out/rankings.parquet").exists());
    let sites = r#"capture.sites=["layers.1.mlp_act"]"#;
    bench.tables("tolerant", &["statistics.max_nan=1", sites]);
    let path = bench.path("tolerant/neurons.parquet");
    let neurons = electrode::artifact::tables::read_neurons(&path).expect("readable");
    assert!(neurons[3].non_finite > 0, "{:?}", neurons[3]);
    assert!(neurons.iter().all(|row| row.mean.is_finite() && row.sd.is_finite()));
}

#[test]
fn tokenizers_that_cannot_be_used() {
    refuse(|b| remove(b, "tokenizer.json"), 2, &["tokenizer.json"]);
    refuse(
        |bench| {
            remove(bench, "tokenizer.json");
            write(bench, "vocab.txt", "a\nb\n");
        },
        2,
        &["tokenizer.json is missing", "save_pretrained"],
    );
    refuse(|b| write(b, "tokenizer.json", "{}"), 65, &["tokenizer.json", "not a tokenizer"]);
    // Everything is replaced before it is cut: no token can say where it came from.
    refuse(
        |bench| {
            let mut tokenizer = tiny::tokenizer();
            tokenizer["normalizer"] =
                json!({"type": "Replace", "pattern": {"Regex": "(?s).+"}, "content": ""});
            write(bench, "tokenizer.json", tokenizer.to_string());
        },
        65,
        &["no offsets"],
    );
    // A vocabulary larger than the model's table.
    refuse(
        |bench| {
            let mut tokenizer = tiny::tokenizer();
            tokenizer["model"]["vocab"]["w5"] = json!(4000);
            write(bench, "tokenizer.json", tokenizer.to_string());
        },
        65,
        &["4000"],
    );
}
