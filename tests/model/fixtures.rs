//! Oracle: what HuggingFace transformers 5.23 saved and computed (../shared/fixtures/forward), the
//! safetensors crate's own reader, and `meta.json` for shapes.

use std::fs;
use std::path::Path;

use electrode::id::SiteKind;
use electrode::model::{LayerParam, Model, Param, PositionSpec};
use serde_json::Value;

use super::support::{forward, models, read_f32};

fn json(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).expect("readable")).expect("JSON")
}

fn open(folder: &Path) -> Model {
    Model::open(folder.to_str().expect("a path")).unwrap_or_else(|e| panic!("{e}"))
}

/// All weights, in order.
fn weights(model: &Model) -> Vec<(Param, Vec<f32>)> {
    let read = |(param, shape): (Param, Vec<usize>)| {
        let tensor = model.tensor(param).unwrap_or_else(|e| panic!("{param:?}: {e}"));
        assert_eq!(tensor.shape, shape, "{param:?}");
        assert_eq!(tensor.data.len(), shape.iter().product::<usize>(), "{param:?}");
        (param, tensor.data)
    };
    model.spec.params().map(read).collect()
}

#[test]
fn old_configurations_describe_the_same_model() {
    let Some(forward) = forward() else { return };
    for folder in models(&forward) {
        let new = open(&folder);
        let old = Model::open_with_config(&folder, &folder.join("config.hub.json"))
            .unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(new.spec, old.spec, "{}", folder.display());
        assert_eq!(weights(&new), weights(&old), "{}", folder.display());
    }
}

#[test]
fn other_files_hold_the_same_tensors() {
    let Some(forward) = forward() else { return };
    let mut alternatives = 0;
    for folder in models(&forward).iter().filter(|f| f.join("alts.json").is_file()) {
        let main = open(folder);
        for (name, about) in json(&folder.join("alts.json")).as_object().expect("an object") {
            let other = open(&folder.join(name));
            let trunk_only = about["sites"] == "trunk";
            let has_logits = |m: &Model| m.spec.sites().iter().any(|s| s.kind == SiteKind::Logits);
            assert!(has_logits(&main));
            assert_eq!(has_logits(&other), !trunk_only, "{name} of {}", folder.display());
            let (mut spec, mut compared) = (other.spec.clone(), 0);
            spec.pooler = main.spec.pooler;
            spec.head = main.spec.head;
            assert_eq!(spec, main.spec, "{name} of {}", folder.display());
            for (param, data) in weights(&other) {
                if main.has(param) {
                    assert_eq!(main.tensor(param).expect("there").data, data, "{param:?}");
                    compared += 1;
                }
            }
            let missing = main.spec.params().filter(|(param, _)| !other.has(*param)).count();
            assert!(trunk_only || missing == 0, "{name} lacks {missing} weights");
            assert!(compared > 10);
            alternatives += 1;
        }
    }
    assert!(alternatives >= 8, "{alternatives} alternatives are too few");
}

/// Bit for bit: the powers are rounded once, from a float64 one.
fn assert_same(ours: &[f32], theirs: &[f32], what: &str) {
    let bits = |values: &[f32]| values.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
    assert_eq!(bits(ours), bits(theirs), "{what}: {ours:?} is not {theirs:?}");
}

#[test]
fn positions_are_those_of_the_reference() {
    let Some(forward) = forward() else { return };
    let (mut rotary, mut alibi, mut tables) = (0, 0, 0);
    for folder in models(&forward) {
        let spec = open(&folder).spec;
        let name = folder.display().to_string();
        let expected = |tensor: &str| read_f32(&folder.join("expected.safetensors"), tensor);
        match &spec.positions {
            PositionSpec::Rotary { inv_freq } => {
                let (_, theirs) = expected("rope_inv_freq").expect("rotary models have it");
                assert_same(inv_freq, &theirs, &name);
                rotary += 1;
            }
            PositionSpec::Alibi { slopes } => {
                let (_, theirs) = expected("alibi_slopes").expect("BLOOM has it");
                assert_same(slopes, &theirs, &name);
                alibi += 1;
            }
            PositionSpec::Learned { rows, .. } | PositionSpec::LearnedFromIds { rows, .. } => {
                assert!(spec.max_tokens.is_some_and(|limit| limit <= *rows), "{name}");
                tables += 1;
            }
            PositionSpec::Relative { .. } => assert!(expected("position_bias").is_some()),
        }
    }
    assert!(rotary >= 12 && alibi >= 2 && tables >= 14, "{rotary} {alibi} {tables}");
}

#[test]
fn sites_are_those_of_the_reference_with_their_widths() {
    let Some(forward) = forward() else { return };
    for folder in models(&forward) {
        let model = open(&folder);
        let expected = fs::read(folder.join("expected.safetensors")).expect("readable");
        let expected = safetensors::SafeTensors::deserialize(&expected).expect("safetensors");
        let mut ours: Vec<String> = Vec::new();
        for site in model.spec.sites() {
            let name = site.to_string();
            // The only site the fixtures do not store: act(mlp_pre).
            if site.kind == SiteKind::MlpGate {
                continue;
            }
            let shape =
                expected.tensor(&name).unwrap_or_else(|_| panic!("{name}")).shape().to_vec();
            let width = match site.kind {
                SiteKind::AttnProbs => shape[1],
                SiteKind::HeadOut => shape[2] * shape[3],
                SiteKind::Logits if shape.len() == 2 && model.spec.pooler => shape[1],
                SiteKind::Logits if shape.len() == 2 => 1,
                _ => shape[shape.len() - 1],
            };
            assert_eq!(model.spec.site_width(site), width, "{name} of {}", folder.display());
            ours.push(name);
        }
        let names = expected.names();
        let theirs = names.iter().filter(|name| name.parse::<electrode::id::Site>().is_ok());
        for name in theirs {
            assert!(ours.iter().any(|o| o == name), "{name} of {} lacks", folder.display());
        }
    }
}

#[test]
fn fused_matrices_come_apart_as_the_reference_takes_them_apart() {
    let Some(forward) = forward() else { return };
    // GPT-2: the columns of [D, 3D] are queries, keys, values.
    let model = open(&forward.join("gpt2-tied"));
    let (shape, stored) = read_f32(
        &forward.join("gpt2-tied/model.safetensors"),
        "transformer.h.1.attn.c_attn.weight",
    )
    .expect("there");
    let ours = model.tensor(Param::Layer(1, LayerParam::Qkv)).expect("there");
    assert_eq!(ours.shape, [shape[1], shape[0]]);
    for row in 0..shape[1] {
        for column in 0..shape[0] {
            let theirs = stored[column * shape[1] + row];
            assert_eq!(ours.data[row * shape[0] + column].to_bits(), theirs.to_bits());
        }
    }
    // GPT-NeoX and BLOOM: the rows of [3D, D] are head by head query, key, value.
    for (folder, key) in [
        ("gpt_neox-serial", "gpt_neox.layers.1.attention.query_key_value.weight"),
        ("bloom-6heads", "transformer.h.1.self_attention.query_key_value.weight"),
    ] {
        let model = open(&forward.join(folder));
        let path = forward.join(folder).join("model.safetensors");
        let (shape, stored) = read_f32(&path, key).expect("there");
        let ours = model.tensor(Param::Layer(1, LayerParam::Qkv)).expect("there");
        let (heads, d) = (model.spec.attention.heads, model.spec.attention.head_width);
        for part in 0..3 {
            for head in 0..heads {
                for row in 0..d {
                    let from = ((head * 3 + part) * d + row) * shape[1];
                    let to = ((part * heads + head) * d + row) * shape[1];
                    let (a, b) = (&ours.data[to..to + shape[1]], &stored[from..from + shape[1]]);
                    assert_eq!(a, b, "{folder} part {part} head {head} row {row}");
                }
            }
        }
    }
}

#[test]
fn narrow_weights_are_widened_exactly() {
    let Some(forward) = forward() else { return };
    for (folder, key) in [
        ("gpt_neox-parallel", "gpt_neox.embed_in.weight"),
        ("llama-bias-bf16", "model.embed_tokens.weight"),
    ] {
        let path = forward.join(folder);
        let (shape, theirs) = read_f32(&path.join("model.safetensors"), key).expect("there");
        let ours = open(&path).tensor(Param::Tokens).expect("there");
        assert_eq!((ours.shape, ours.data), (shape, theirs), "{folder}");
    }
}

#[test]
fn trained_models_open() {
    let Some(forward) = forward() else { return };
    let models = forward.join("../../models");
    for (name, vocab, layers) in [("tiny-gpt2-en", 6144, 4), ("tiny-bert-multi", 8192, 4)] {
        let model = open(&models.join(name));
        assert_eq!((model.spec.vocab, model.spec.layers), (vocab, layers));
        assert!(model.tokenizer_path().expect("there").ends_with("tokenizer.json"));
        let hashes = model.hashes().expect("readable");
        assert_eq!(hashes[0].0, "config.json");
        assert!(hashes.iter().any(|(name, ..)| name == "tokenizer.json"));
        assert!(hashes.iter().any(|(name, ..)| name == "model.safetensors"));
        model.check_unchanged().expect("nobody wrote to it");
    }
}
