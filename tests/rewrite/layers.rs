//! Dropping layers. Oracles: the original with the layer's output overwritten by its input while it
//! runs, for every architecture; the examples of Sajjad et al. 2023 by hand; cosines by hand.

use electrode::corpus::config::CorpusConfig;
use electrode::device::cpu::CpuDevice;
use electrode::device::cuda::Element;
use electrode::device::gradient_ops::GradientOps;
use electrode::device::ops::Ops;
use electrode::model::{LayerParam, Model, Param};
use electrode::rewrite::layers::{Measure, Strategy, drop_layers, lowest, weigh};
use electrode::run::contribution::contributions;
use serde_json::{Value, json};

use super::{
    assert_close, changed, differ, fixtures, floats, golden, make, open, raw, run, run_on,
};
use crate::cuda::device;

/// The intervention that makes a layer do nothing: its input, of a run without edits, is its output.
fn identity(ids: &std::path::Path, home: &std::path::Path, layer: usize) -> Value {
    let clean = run(ids, ids, None);
    let name = format!("layers.{layer}.resid_pre");
    let file = home.join("clean.safetensors");
    let bytes = safetensors::serialize([(name.as_str(), &clean[&name])], None).expect("written");
    std::fs::write(&file, bytes).expect("written");
    json!({"kind": "patch", "edits": [{"site": format!("layers.{layer}.resid_post"),
        "neurons": "all", "from": {"file": file, "tensor": name}}]})
}

#[test]
fn a_model_without_a_layer_is_one_whose_layer_does_nothing() {
    for fixture in fixtures() {
        let name = fixture.display().to_string();
        let model = open(&fixture);
        let home = tempfile::tempdir().expect("a temporary folder");
        // The only layer of a model stays.
        for layer in (0..model.spec.layers).filter(|_| model.spec.layers > 1) {
            let made = make(drop_layers(&model, &[layer]).expect("it may go"));
            let want = run(&fixture, &fixture, Some(&identity(&fixture, home.path(), layer)));
            let got = run(&made.folder, &fixture, None);
            let (last, kept) = (model.spec.layers - 1, model.spec.layers - 2);
            assert_close(&format!("{name} {layer}"), (&got, kept), (&want, last), 3e-5);
            assert!(differ(&got, &run(&fixture, &fixture, None)), "{name}: the layer did nothing");
            let (old, new) = (raw(&fixture), raw(&made.folder));
            assert_eq!(made.written.changed, 0, "{name}");
            assert!(new.len() < old.len(), "{name}");
            // What is outside the blocks keeps its name, and no value changes at all.
            let prefix = model.block_prefix();
            let outside = changed(&old, &new);
            assert!(
                outside.iter().all(|tensor| tensor.starts_with(&prefix)),
                "{name}: {outside:?}"
            );
            assert!(new.values().all(|raw| old.values().any(|other| other == raw)), "{name}");
        }
    }
}

fn several_at_once<O: GradientOps + Clone>(ops: O) {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("models/tiny-gpt2-en");
    let model = open(&folder);
    let two = make(drop_layers(&model, &[3, 1]).expect("they may go"));
    let one = make(drop_layers(&model, &[3]).expect("it may go"));
    let after = open(&one.folder);
    let then = make(drop_layers(&after, &[1]).expect("it may go"));
    assert_eq!(raw(&two.folder), raw(&then.folder));
    let ids = golden("gpt2-tied");
    let got = run_on(ops, &two.folder, &ids, None);
    assert_eq!(open(&two.folder).spec.layers, 2);
    assert!(floats(&got["logits"]).iter().all(|x| x.is_finite()));
    let history = std::fs::read_to_string(then.folder.join("electrode-edit.json")).expect("there");
    let history: Value = serde_json::from_str(&history).expect("JSON");
    assert_eq!(history["edits"].as_array().map(Vec::len), Some(2));
    assert_eq!(history["edits"][1]["edit"], json!({"drop_layers": [1]}));
}

#[test]
fn layers_are_dropped_together_as_one_after_the_other() {
    several_at_once(CpuDevice::F32);
    if let Some(gpu) = device(Element::F32) {
        several_at_once(gpu);
    }
}

#[test]
fn strategies_choose_the_layers_of_the_paper() {
    let choose = |strategy: Strategy, drop| strategy.choose(12, drop).expect("there are as many");
    assert_eq!(choose(Strategy::Top, 4), [8, 9, 10, 11]);
    assert_eq!(choose(Strategy::Bottom, 4), [0, 1, 2, 3]);
    assert_eq!(choose(Strategy::Symmetric, 6), [3, 4, 5, 6, 7, 8]);
    // Layers 5, 7, 9, 11 and 6, 8, 10, 12 of the paper, which counts from 1.
    assert_eq!(choose(Strategy::OddAlternate, 4), [4, 6, 8, 10]);
    assert_eq!(choose(Strategy::EvenAlternate, 4), [5, 7, 9, 11]);
    assert_eq!(Strategy::Symmetric.choose(5, 2).expect("fits"), [2, 3]);
    assert_eq!(Strategy::OddAlternate.choose(5, 3).expect("fits"), [0, 2, 4]);
    for (strategy, layers, drop) in [
        (Strategy::Top, 4, 4),
        (Strategy::Top, 4, 0),
        (Strategy::Bottom, 4, 9),
        (Strategy::EvenAlternate, 5, 3),
    ] {
        assert_eq!(strategy.choose(layers, drop).expect_err("too many").exit_code(), 2);
    }
    assert_eq!(lowest(&[3.0, 1.0, 2.0, 1.0], 2).expect("fits"), [1, 3]);
    assert_eq!(lowest(&[3.0, 1.0, 2.0, 1.0], 1).expect("fits"), [3], "of equal ones the higher");
}

#[test]
fn layers_are_weighed_by_all_their_weights() {
    for name in ["gpt2-tied", "llama-bias-bf16", "bert-tokcls"] {
        let model = open(&golden(name));
        for layer in 0..model.spec.layers {
            let params = LayerParam::ALL.map(|param| Param::Layer(layer, param));
            let all: Vec<f64> = params
                .into_iter()
                .filter(|param| model.has(*param))
                .flat_map(|param| model.tensor(param).expect("there").data)
                .map(f64::from)
                .collect();
            let count = all.len() as f64;
            let mean = all.iter().sum::<f64>() / count;
            let variance = all.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / count;
            let magnitude: f64 = all.iter().map(|x| x.abs()).sum();
            for (measure, want) in [(Measure::Magnitude, magnitude), (Measure::Variance, variance)]
            {
                let got = weigh(&model, measure).expect("readable")[layer];
                assert!((got - want).abs() <= 1e-9 * want, "{name} {layer}: {got} {want}");
            }
        }
    }
}

/// Cosines of every token, by hand from the sites of each sentence.
fn cosines<O: Ops + Clone>(ops: &O, bound: f64) {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("models/tiny-gpt2-en");
    let model = open(&folder);
    let home = tempfile::tempdir().expect("a temporary folder");
    let text = home.path().join("text.txt");
    let lines = ["The dog runs home.", "Nobody knows what it costs, and nobody asks.", "Yes!"];
    std::fs::write(&text, lines.join("\n")).expect("written");
    let got = contributions(ops.clone(), &model, &CorpusConfig::of_file(&text)).expect("runs");
    let tokenizer = electrode::engine::tokenizer::open_tokenizer(&model, false).expect("opens");
    let (mut sums, mut count) = (vec![0.0; 4], 0.0);
    for line in lines {
        let mut tokens = tokenizer.before().to_vec();
        tokens.extend(tokenizer.encode(line).expect("encodes").tokens);
        tokens.extend(tokenizer.after());
        let sites = sites_of(&model, &tokens);
        count += tokens.len() as f64;
        for (layer, sum) in sums.iter_mut().enumerate() {
            let site = |what: &str| &sites[&format!("layers.{layer}.{what}")];
            let width = model.spec.width;
            let pairs = site("resid_pre").chunks(width).zip(site("resid_post").chunks(width));
            for (a, b) in pairs {
                let dot = |a: &[f32], b: &[f32]| -> f64 {
                    a.iter().zip(b).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum()
                };
                *sum += dot(a, b) / dot(a, a).sqrt() / dot(b, b).sqrt();
            }
        }
    }
    for (got, sum) in got.iter().zip(sums) {
        let want: f64 = sum / count;
        assert!((got - want).abs() <= bound, "{got} {want}");
    }
    assert!(got.iter().any(|cosine| *cosine < 0.99), "{got:?}");
}

fn sites_of(model: &Model, tokens: &[u32]) -> std::collections::BTreeMap<String, Vec<f32>> {
    use electrode::capture::collect::Collector;
    use electrode::device::forward::{Forward, ForwardInput, Limits, SiteWork};
    let limits = Limits { tokens: tokens.len(), sequence: tokens.len() };
    let wanted = model.spec.sites().into_iter().filter(|site| site.layer.is_some()).collect();
    let mut forward = Forward::new(CpuDevice::F32, model, limits, &wanted).expect("fits");
    let mut collector = Collector::default();
    let starts = [0, tokens.len() as u32];
    let input = ForwardInput { tokens, starts: &starts, token_types: None, positions: None };
    let edits = std::collections::BTreeMap::new();
    let mut work = SiteWork { wanted: &wanted, edits: &edits, visitor: &mut collector };
    forward.run(input, &mut work).expect("runs");
    collector.sites.into_iter().map(|(site, values)| (site.to_string(), values)).collect()
}

#[test]
fn contributions_are_mean_cosines() {
    cosines(&CpuDevice::F32, 1e-6);
}

#[test]
fn contributions_are_mean_cosines_on_a_gpu() {
    if let Some(gpu) = device(Element::F32) {
        cosines(&gpu, 1e-5);
    }
}

#[test]
fn what_goes_by_the_number_of_a_layer_is_kept_or_refused() {
    // Gemma 2 says which layers slide only by their numbers unless it lists them.
    let home = tempfile::tempdir().expect("a temporary folder");
    let folder = home.path().join("gemma2");
    copy(&golden("gemma2-softcap"), &folder, |config| {
        config.as_object_mut().expect("an object").remove("layer_types");
    });
    let model = open(&folder);
    assert_ne!(model.spec.attention.windows[0], model.spec.attention.windows[1]);
    let made = make(drop_layers(&model, &[0]).expect("it may go"));
    assert_eq!(open(&made.folder).spec.attention.windows, model.spec.attention.windows[1..]);
    // The scale of scores cannot be kept.
    let folder = home.path().join("gpt2");
    copy(&golden("gpt2-tied"), &folder, |config| {
        config["scale_attn_by_inverse_layer_idx"] = json!(true);
    });
    let model = open(&folder);
    let error = drop_layers(&model, &[0]).err().expect("refused");
    assert!(error.to_string().contains("number of their layer"), "{error}");
    drop_layers(&model, &[1]).expect("the first layer stays the first");
    // A decoder that counted as many layers still does.
    let folder = home.path().join("t5");
    copy(&golden("t5-full-gated"), &folder, |config| {
        config.as_object_mut().expect("an object").remove("num_decoder_layers");
    });
    let model = open(&folder);
    let made = make(drop_layers(&model, &[0]).expect("it may go"));
    let config = std::fs::read_to_string(made.folder.join("config.json")).expect("there");
    let config: Value = serde_json::from_str(&config).expect("JSON");
    assert_eq!(config["num_layers"], json!(model.spec.layers - 1));
    assert_eq!(config["num_decoder_layers"], json!(model.spec.layers));
    let decoder = |folder: &std::path::Path| -> Vec<_> {
        raw(folder).into_iter().filter(|(name, _)| name.starts_with("decoder.")).collect()
    };
    assert_eq!(decoder(&made.folder), decoder(&folder));
}

/// A fixture with another configuration.
fn copy(from: &std::path::Path, to: &std::path::Path, change: impl FnOnce(&mut Value)) {
    std::fs::create_dir(to).expect("made");
    std::fs::copy(from.join("model.safetensors"), to.join("model.safetensors")).expect("copied");
    let text = std::fs::read_to_string(from.join("config.json")).expect("there");
    let mut config: Value = serde_json::from_str(&text).expect("JSON");
    change(&mut config);
    std::fs::write(to.join("config.json"), config.to_string()).expect("written");
}

#[test]
fn impossible_layers_are_refused() {
    let model = open(&golden("gpt2-tied"));
    for (drop, word) in [
        (&[7][..], "no layer 7"),
        (&[0, 1], "all 2 layers"),
        (&[0, 0], "named twice"),
        (&[], "no layer would be dropped"),
    ] {
        let error = drop_layers(&model, drop).err().expect(word);
        assert_eq!(error.exit_code(), 2);
        assert!(error.to_string().contains(word), "{error}");
    }
}
