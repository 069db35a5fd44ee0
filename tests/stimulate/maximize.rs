//! Texts made to drive neurons.
//! Oracles: a search over all tokens; a planted neuron; what `extract` gives on the text; the best of
//! random texts; the same seed again.

use std::collections::BTreeSet;
use std::path::Path;

use electrode::device::backward::Differentiable;
use electrode::device::cpu::CpuDevice;
use electrode::device::cuda::Element;
use electrode::device::forward::Limits;
use electrode::device::gradient_ops::GradientOps;
use electrode::engine::array::Values;
use electrode::engine::ids::{IdsRequest, PaddedIds, extract_ids};
use electrode::id::{NeuronId, Site, SiteKind};
use electrode::model::Model;
use electrode::stimulate::maximize::ascent::{Ascent, At, Frame, Texts};
use electrode::stimulate::maximize::relax::Variant;
use electrode::stimulate::maximize::{Maximized, Outcome, Settings, maximize};

use safetensors::tensor::TensorView;

use crate::golden::fixture::embedded;
use crate::methods::support::Random;

fn tiny() -> Model {
    Model::open(&format!("{}/models/tiny-gpt2-en", env!("CARGO_MANIFEST_DIR"))).expect("opens")
}

fn neuron(layer: u32, index: u32) -> NeuronId {
    NeuronId { site: Site::of_layer(layer, SiteKind::MlpAct), index }
}

/// Texts of the tiny model for some neurons, without its special token.
fn texts(neurons: &[NeuronId], settings: &Settings) -> Vec<Vec<Maximized>> {
    let mut model = tiny();
    model.spec.layers = 2;
    texts_on(CpuDevice::F32, &model, neurons, settings)
}

fn texts_on<O: GradientOps>(
    ops: O,
    model: &Model,
    neurons: &[NeuronId],
    settings: &Settings,
) -> Vec<Vec<Maximized>> {
    let allowed: Vec<u32> = (1..u32::try_from(model.spec.vocab).expect("small")).collect();
    let asked = (neurons, &allowed[..], [&[0_u32][..], &[]]);
    let outcomes = maximize(ops, model, (settings, 512), asked, |_| {}).expect("climbs");
    outcomes
        .into_iter()
        .map(|outcome| match outcome {
            Outcome::Texts(texts) => texts,
            Outcome::Constant(neuron, value) => panic!("{neuron} is {value} everywhere"),
        })
        .collect()
}

/// What a text drives is what `extract` reads there.
#[test]
fn a_texts_value_is_that_of_extract() {
    let settings = Settings { steps: 20, restarts: 3, length: 4, refine: 2, ..Settings::default() };
    let neurons = [neuron(1, 17), neuron(0, 3)];
    for (found, neuron) in texts(&neurons, &settings).iter().zip(neurons) {
        for text in found {
            let ids: Vec<i64> =
                [0].into_iter().chain(text.tokens.iter().map(|&t| i64::from(t))).collect();
            let ids = PaddedIds {
                rows: 1,
                length: 5,
                attention_mask: vec![1; 5],
                input_ids: ids,
                ..PaddedIds::default()
            };
            let request = IdsRequest { sites: vec![neuron.site.to_string()], intervention: None };
            let arrays = extract_ids(CpuDevice::F32, &tiny(), &ids, &request).expect("extracts");
            let Values::F32(values) = &arrays[&neuron.site.to_string()].values else { panic!() };
            let want = values[4 * 1024 + neuron.index as usize];
            assert_eq!((text.neuron, text.at), (neuron, 3));
            assert!((text.discrete - want).abs() <= 1e-5, "{} for {want}", text.discrete);
        }
    }
}

/// The best single token of all is found: by refinement from the climbed one, whose value is
/// already among the highest.
#[test]
fn one_position_climbs_to_what_a_search_over_all_tokens_finds() {
    let model = tiny();
    let all: Vec<u32> = (1..6144).collect();
    for index in [5, 100, 640] {
        let one = neuron(0, index);
        let frame = Frame { before: vec![0], after: vec![], length: 1 };
        let limits = Limits { tokens: 2048, sequence: 2 };
        let run = Differentiable::new(
            CpuDevice::F32,
            &model,
            limits,
            (&BTreeSet::from([one.site]), false),
        );
        let mut search = Ascent::new(run.expect("fits"), &model, (frame, At::Last, 0.0), one.site)
            .expect("fits");
        let asked = vec![index; all.len()];
        let everything = Texts { neurons: &asked, tokens: &all, vectors: None };
        let mut values = search.ask(everything, false).expect("runs").values;
        values.sort_by(|a, b| b.total_cmp(a));
        assert!(values[0] > 0.1, "{index} is never above 0: choose another");
        let settings = Settings { length: 1, steps: 60, refine: 20, ..Settings::default() };
        let best = &texts(&[one], &settings)[0][0];
        assert!(best.discrete >= values[2], "{index}: {} of {:?}", best.discrete, &values[..5]);
        assert!(best.relaxed >= values[20], "{index}: {} of {:?}", best.relaxed, &values[..5]);
    }
}

#[test]
fn texts_beat_random_ones() {
    let neurons = [neuron(0, 1), neuron(0, 400), neuron(1, 7), neuron(1, 640)];
    for variant in [Variant::Embed, Variant::Softmax, Variant::Gumbel] {
        let steps = if variant == Variant::Embed { 60 } else { 40 };
        let rate = if variant == Variant::Embed { 0.1 } else { 0.5 };
        let settings = Settings {
            variant,
            steps,
            rate,
            restarts: 4,
            length: 4,
            refine: 3,
            ..Settings::default()
        };
        for found in texts(&neurons, &settings) {
            let random = found.iter().map(|text| text.random).fold(f32::NEG_INFINITY, f32::max);
            let best = &found[0];
            let values = (best.discrete, best.snapped, best.relaxed, random);
            assert!(best.discrete > 1.5 * random, "{variant:?} {}: {values:?}", best.neuron);
            assert!(best.relaxed > random, "{variant:?} {}: {values:?}", best.neuron);
            assert!(
                found.iter().all(|text| text.discrete >= text.snapped),
                "refined for the worse"
            );
            assert!(found.is_sorted_by(|a, b| a.climbed >= b.climbed), "best first");
        }
    }
}

/// Bits depend on the seed alone: not on the threads, nor on the neurons asked beside.
#[test]
fn the_same_seed_gives_the_same_texts() {
    let (one, other) = (neuron(1, 17), neuron(0, 3));
    for variant in [Variant::Embed, Variant::Gumbel] {
        let settings = Settings {
            variant,
            steps: 6,
            restarts: 3,
            length: 3,
            refine: 1,
            nearest: 2,
            ..Settings::default()
        };
        let pool = |threads| {
            rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads")
        };
        let alone = pool(1).install(|| texts(&[one], &settings));
        let beside = pool(3).install(|| texts(&[other, one], &settings));
        assert_eq!(alone[0], beside[1], "{variant:?}");
        let again = texts(&[one], &Settings { seed: 1, ..settings });
        assert_ne!(alone[0][0].tokens, again[0][0].tokens, "{variant:?}: seeds differ");
    }
}

#[test]
fn fluent_texts_are_likelier() {
    let settings = Settings {
        steps: 40,
        restarts: 4,
        length: 5,
        refine: 3,
        fluency: 1e-6,
        ..Settings::default()
    };
    let model = tiny();
    let mean = |settings: &Settings| {
        let found = texts_on(CpuDevice::F32, &model, &[neuron(1, 17)], settings);
        let fluency = |text: &Maximized| f64::from(text.fluency.expect("asked for"));
        found[0].iter().map(fluency).sum::<f64>() / found[0].len() as f64
    };
    let (without, with) = (mean(&settings), mean(&Settings { fluency: 2.0, ..settings }));
    assert!(with > without + 1.0, "{with} for {without}");
}

/// One block whose attention and positions do nothing: neuron 0 is the gelu of the standardised
/// vector of a token along that of token 23; neuron 1 reads nothing.
fn planted(folder: &Path) -> Model {
    let (vocab, width, neurons) = (40, 16, 3);
    let mut random = Random(77);
    let table: Vec<f32> = (0..vocab * width).map(|_| random.normal() as f32).collect();
    let mut up = vec![0.0; width * neurons];
    for column in 0..width {
        up[column * neurons] = table[23 * width + column];
        up[column * neurons + 2] = random.normal() as f32;
    }
    let zeros = |count: usize| vec![0.0_f32; count];
    let tensors: [(&str, Vec<usize>, Vec<f32>); 16] = [
        ("wte.weight", vec![vocab, width], table),
        ("wpe.weight", vec![8, width], zeros(8 * width)),
        ("h.0.ln_1.weight", vec![width], vec![1.0; width]),
        ("h.0.ln_1.bias", vec![width], zeros(width)),
        ("h.0.attn.c_attn.weight", vec![width, 3 * width], zeros(3 * width * width)),
        ("h.0.attn.c_attn.bias", vec![3 * width], zeros(3 * width)),
        ("h.0.attn.c_proj.weight", vec![width, width], zeros(width * width)),
        ("h.0.attn.c_proj.bias", vec![width], zeros(width)),
        ("h.0.ln_2.weight", vec![width], vec![1.0; width]),
        ("h.0.ln_2.bias", vec![width], zeros(width)),
        ("h.0.mlp.c_fc.weight", vec![width, neurons], up),
        ("h.0.mlp.c_fc.bias", vec![neurons], zeros(neurons)),
        ("h.0.mlp.c_proj.weight", vec![neurons, width], zeros(neurons * width)),
        ("h.0.mlp.c_proj.bias", vec![width], zeros(width)),
        ("ln_f.weight", vec![width], vec![1.0; width]),
        ("ln_f.bias", vec![width], zeros(width)),
    ];
    let bytes = |values: &[f32]| values.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>();
    let raw = tensors.map(|(name, shape, values)| (name, shape, bytes(&values)));
    let views = raw.iter().map(|(name, shape, data)| {
        let view = TensorView::new(safetensors::Dtype::F32, shape.clone(), data);
        (*name, view.expect("sizes agree"))
    });
    let file = safetensors::serialize(views, None).expect("it serialises");
    std::fs::write(folder.join("model.safetensors"), file).expect("written");
    let config = serde_json::json!({
        "model_type": "gpt2", "architectures": ["GPT2LMHeadModel"], "vocab_size": vocab,
        "n_embd": width, "n_head": 1, "n_layer": 1, "n_inner": neurons, "n_positions": 8,
    });
    std::fs::write(folder.join("config.json"), config.to_string()).expect("written");
    Model::open(&folder.display().to_string()).expect("opens")
}

#[test]
fn a_planted_neuron_is_driven_by_its_token_and_a_silent_one_is_left_out() {
    let folder = tempfile::tempdir().expect("a folder");
    let model = planted(folder.path());
    let neurons = [neuron(0, 0), neuron(0, 1), neuron(0, 2)];
    for (variant, at) in [
        (Variant::Embed, At::Last),
        (Variant::Embed, At::Any),
        (Variant::Softmax, At::Last),
        (Variant::Gumbel, At::Any),
    ] {
        let settings = Settings {
            variant,
            at,
            steps: 100,
            length: 3,
            restarts: 5,
            nearest: 4,
            ..Settings::default()
        };
        let allowed: Vec<u32> = (0..40).collect();
        let asked = (&neurons[..], &allowed[..], [&[][..], &[]]);
        let outcomes =
            maximize(CpuDevice::F32, &model, (&settings, 64), asked, |_| {}).expect("climbs");
        let Outcome::Texts(texts) = &outcomes[0] else { panic!("{variant:?}: left out") };
        assert_eq!(texts.len(), 5);
        for text in texts {
            assert_eq!(text.tokens[text.at], 23, "{variant:?} {at:?}: {text:?}");
            let (token, cosine) = text.nearest[text.at][0];
            assert!(token == 23 && cosine > 0.9, "{variant:?} {at:?}: {text:?}");
        }
        assert_eq!(outcomes[1], Outcome::Constant(neuron(0, 1), 0.0), "{variant:?}");
        assert!(matches!(outcomes[2], Outcome::Texts(_)), "{variant:?}");
    }
}

/// What a fake GPU finds is what the CPU reads on the same tokens.
#[test]
fn a_gpu_climbs_too() {
    let Some(device) = crate::cuda::device(Element::F32) else { return };
    let folder = embedded().join("gpt2-tied");
    let model = Model::open(&folder.display().to_string()).expect("opens");
    let settings = Settings {
        variant: Variant::Softmax,
        steps: 4,
        restarts: 2,
        length: 2,
        refine: 1,
        ..Settings::default()
    };
    let on_gpu = texts_on(device, &model, &[neuron(0, 3)], &settings);
    let on_cpu = texts_on(CpuDevice::F32, &model, &[neuron(0, 3)], &settings);
    for (a, b) in on_gpu[0].iter().zip(&on_cpu[0]) {
        assert!((a.relaxed - b.relaxed).abs() <= 1e-4 * b.relaxed.abs().max(0.1), "{a:?} {b:?}");
        assert_eq!(a.tokens, b.tokens);
        assert!((a.discrete - b.discrete).abs() <= 1e-5, "{a:?} {b:?}");
    }
}

#[test]
fn the_command_writes_texts_and_refuses_what_it_cannot_do() {
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().join("texts.jsonl").display().to_string();
    let args = ["maximize", "--model", "models/tiny-gpt2-en", "--out", &out, "--device", "cpu"];
    let neurons = "layers.0.mlp_act.5,layers.1.resid_post.7";
    let few = ["--neurons", neurons, "--steps", "3", "--restarts", "2", "--variant", "textualize"];
    let ran = crate::cli::run(&[&args[..], &few].concat());
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let text = std::fs::read_to_string(&out).expect("written");
    let lines: Vec<serde_json::Value> =
        text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(lines.len(), 4, "two texts of two neurons");
    for line in &lines {
        assert_eq!(line["variant"], "textualize");
        assert_eq!(line["tokens"].as_array().map(Vec::len), Some(1));
        assert_eq!(line["nearest"][0].as_array().map(Vec::len), Some(10));
        assert!(line["discrete"].is_f64() && line["text"].is_string(), "{line}");
    }
    assert_eq!(lines[0]["neuron"], "layers.0.mlp_act.5");
    for (wrong, part) in [
        ("layers.0.mlp_act.1024", "1024 neurons"),
        ("layers.9.mlp_act.1", "no gradient"),
        ("layers.0.attn_probs.1", "no gradient"),
        ("layers.0.mlp_act", "no neuron's name"),
        ("blocks.0.mlp_act.1", "no such site"),
    ] {
        let ran = crate::cli::run(&[&args[..], &["--neurons", wrong, "--steps", "1"]].concat());
        assert_eq!(ran.code, 2, "{wrong}: {}", ran.stderr);
        assert!(ran.stderr.contains(part), "{wrong}: {}", ran.stderr);
    }
    let long = ["--neurons", "layers.0.mlp_act.1", "--length", "300"];
    let ran = crate::cli::run(&[&args[..], &long].concat());
    assert!(ran.code == 2 && ran.stderr.contains("the model takes 256"), "{}", ran.stderr);
}
