//! Texts made to drive neurons.
//! Oracles: the device's own embedding module; finite differences; a search over all tokens; what
//! `extract` gives on the text; the best of random texts; the same seed again.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use electrode::capture::collect::Collector;
use electrode::device::backward::Differentiable;
use electrode::device::cpu::CpuDevice;
use electrode::device::cuda::Element;
use electrode::device::forward::{Forward, ForwardInput, Limits, SiteWork};
use electrode::device::gradient_ops::GradientOps;
use electrode::device::position_rows;
use electrode::engine::array::Values;
use electrode::engine::ids::{IdsRequest, PaddedIds, extract_ids};
use electrode::id::{NeuronId, Site, SiteKind};
use electrode::model::{Model, Param};
use electrode::stimulate::maximize::ascent::{Ascent, At, Frame, Texts};
use electrode::stimulate::maximize::embedding::EmbeddingModule;
use electrode::stimulate::maximize::relax::Variant;
use electrode::stimulate::maximize::{Maximized, Outcome, Settings, maximize};

use safetensors::tensor::TensorView;

use crate::golden::fixture::{check_all, embedded, fixtures};
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
    texts_on(CpuDevice, &model, neurons, settings)
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

/// Random texts of so many tokens, not those of padding or the classifier.
fn random_tokens(random: &mut Random, model: &Model, count: usize) -> Vec<u32> {
    (0..count).map(|_| 5 + random.below(model.spec.vocab - 5) as u32).collect()
}

fn scaled_vectors(model: &Model, tokens: &[u32]) -> Vec<f32> {
    let (table, width) = (model.tensor(Param::Tokens).expect("there"), model.spec.embedding.width);
    let row = |&token: &u32| table.data[token as usize * width..][..width].to_vec();
    tokens.iter().flat_map(row).map(|x| x * model.spec.embedding.scale).collect()
}

/// In every architecture, the vectors of tokens become what the device makes of the tokens; the way
/// back is the derivative of the way forward.
#[test]
fn the_embedding_module_is_that_of_the_forward_pass() {
    check_all(&fixtures(&embedded()), |folder| {
        let model = Model::open(&folder.display().to_string()).expect("opens");
        let mut random = Random(3);
        let tokens = random_tokens(&mut random, &model, 7);
        let (starts, site) = ([0, 7], Site::global(SiteKind::Embeddings));
        let wanted = BTreeSet::from([site]);
        let limits = Limits { tokens: 7, sequence: 7 };
        let mut forward = Forward::new(CpuDevice, &model, limits, &wanted).expect("fits");
        let (mut collector, edits) = (Collector::default(), BTreeMap::new());
        let mut work = SiteWork { wanted: &wanted, edits: &edits, visitor: &mut collector };
        let input =
            ForwardInput { tokens: &tokens, starts: &starts, token_types: None, positions: None };
        forward.run(input, &mut work).expect("runs");
        let module = EmbeddingModule::new(&model).expect("reads");
        let rows = position_rows(&model.spec, &tokens, &starts, &(0..7).collect::<Vec<_>>());
        let vectors = scaled_vectors(&model, &tokens);
        let ours = module.forward(&vectors, rows.as_deref());
        let theirs = &collector.sites[&site];
        assert_eq!(ours.len(), theirs.len());
        let scale = theirs.iter().fold(0.0_f32, |a, b| a.max(b.abs()));
        for (a, b) in ours.iter().zip(theirs) {
            assert!((a - b).abs() <= 3e-6 * scale, "{}: {a} for {b}", folder.display());
        }
        let g: Vec<f32> = ours.iter().map(|_| random.normal() as f32).collect();
        let back = module.backward(&vectors, rows.as_deref(), &g);
        let along: Vec<f32> = vectors.iter().map(|_| random.normal() as f32).collect();
        let rms = (vectors.iter().map(|x| x * x).sum::<f32>() / vectors.len() as f32).sqrt();
        let at = |step: f32| {
            let moved: Vec<f32> = vectors.iter().zip(&along).map(|(x, d)| x + step * d).collect();
            let out = module.forward(&moved, rows.as_deref());
            out.iter().zip(&g).map(|(y, g)| f64::from(*y) * f64::from(*g)).sum::<f64>()
        };
        let step = 0.01 * rms;
        let slope = (at(step) - at(-step)) / f64::from(2.0 * step);
        let want: f64 = back.iter().zip(&along).map(|(g, d)| f64::from(*g) * f64::from(*d)).sum();
        let size = want.abs().max(f64::from(scale));
        assert!((slope - want).abs() <= 2e-3 * size, "{}: {slope}, {want}", folder.display());
    });
}

fn ascent<O: GradientOps>(ops: O, model: &Model, site: Site, at: At) -> Ascent<O> {
    let frame = Frame { before: vec![1], after: vec![2], length: 3 };
    let limits = Limits { tokens: 20, sequence: 5 };
    let run = Differentiable::new(ops, model, limits, (&BTreeSet::from([site]), false));
    Ascent::new(run.expect("fits"), model, (frame, at, 0.0), site).expect("fits")
}

fn gradient_is_the_slope<O: GradientOps + Clone>(ops: O, folder: &Path) {
    let model = Model::open(&folder.display().to_string()).expect("opens");
    let mut random = Random(11);
    for (kind, at) in [(SiteKind::MlpAct, At::Last), (SiteKind::ResidPost, At::Any)] {
        let site = Site::of_layer(u32::try_from(model.spec.layers - 1).expect("few"), kind);
        let mut ascent = ascent(ops.clone(), &model, site, at);
        // More texts than fit at once, of three neurons.
        let neurons = [3, 0, 3, 5, 0, 3];
        let tokens = random_tokens(&mut random, &model, 18);
        let vectors = scaled_vectors(&model, &tokens);
        let mut ask = |vectors: &[f32], gradient| {
            let texts = Texts { neurons: &neurons, tokens: &tokens, vectors: Some(vectors) };
            ascent.ask(texts, gradient).expect("runs")
        };
        let found = ask(&vectors, true);
        let rms = (vectors.iter().map(|x| x * x).sum::<f32>() / vectors.len() as f32).sqrt();
        let along: Vec<f32> = vectors.iter().map(|_| random.normal() as f32).collect();
        let moved = |step: f32| -> Vec<f32> {
            vectors.iter().zip(&along).map(|(x, d)| x + step * d).collect()
        };
        let step = 0.02 * rms;
        let (up, down) = (ask(&moved(step), false), ask(&moved(-step), false));
        let width = vectors.len() / neurons.len();
        for row in 0..neurons.len() {
            if up.at[row] != found.at[row] || down.at[row] != found.at[row] {
                continue; // The largest position changed: no slope there.
            }
            let slope = f64::from(up.climbs[row] - down.climbs[row]) / f64::from(2.0 * step);
            let cells = row * width..(row + 1) * width;
            let pairs = found.gradient[cells.clone()].iter().zip(&along[cells]);
            let want: f64 = pairs.map(|(g, d)| f64::from(*g) * f64::from(*d)).sum();
            let rounding = f64::from(found.climbs[row].abs().max(0.1)) * 1e-6 / f64::from(step);
            let bound = 0.02 * want.abs() + rounding;
            assert!((slope - want).abs() <= bound, "{} {site}: {slope}, {want}", folder.display());
        }
        assert!(found.gradient.iter().any(|g| *g != 0.0), "{}", folder.display());
    }
}

#[test]
fn gradients_of_free_vectors_are_slopes() {
    let some = ["bert-tokcls", "gpt2-tied", "opt-postnorm-proj", "roberta-padinside", "electra-gen"];
    let folders: Vec<_> = some.iter().map(|name| embedded().join(name)).collect();
    check_all(&folders, |folder| gradient_is_the_slope(CpuDevice, folder));
    if let Some(device) = crate::cuda::device(Element::F32) {
        gradient_is_the_slope(device, &folders[1]);
    }
}

/// What a text drives is what `extract` reads there.
#[test]
fn a_texts_value_is_that_of_extract() {
    let settings =
        Settings { steps: 20, restarts: 3, length: 4, refine: 2, ..Settings::default() };
    let neurons = [neuron(1, 17), neuron(0, 3)];
    for (found, neuron) in texts(&neurons, &settings).iter().zip(neurons) {
        for text in found {
            let ids: Vec<i64> = [0].into_iter().chain(text.tokens.iter().map(|&t| i64::from(t))).collect();
            let ids = PaddedIds {
                rows: 1,
                length: 5,
                attention_mask: vec![1; 5],
                input_ids: ids,
                ..PaddedIds::default()
            };
            let request = IdsRequest { sites: vec![neuron.site.to_string()], intervention: None };
            let arrays = extract_ids(CpuDevice, &tiny(), &ids, &request).expect("extracts");
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
    for index in [5, 100, 900] {
        let one = neuron(0, index);
        let frame = Frame { before: vec![0], after: vec![], length: 1 };
        let limits = Limits { tokens: 2048, sequence: 2 };
        let run = Differentiable::new(CpuDevice, &model, limits, (&BTreeSet::from([one.site]), false));
        let mut search =
            Ascent::new(run.expect("fits"), &model, (frame, At::Last, 0.0), one.site).expect("fits");
        let asked = vec![index; all.len()];
        let everything = Texts { neurons: &asked, tokens: &all, vectors: None };
        let mut values = search.ask(everything, false).expect("runs").values;
        values.sort_by(|a, b| b.total_cmp(a));
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
            assert!(found.iter().all(|text| text.discrete >= text.snapped), "refined for the worse");
            assert!(found.is_sorted_by(|a, b| a.discrete >= b.discrete), "best first");
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
    let settings =
        Settings { steps: 40, restarts: 4, length: 5, refine: 3, fluency: 1e-6, ..Settings::default() };
    let model = tiny();
    let mean = |settings: &Settings| {
        let found = texts_on(CpuDevice, &model, &[neuron(1, 17)], settings);
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
            maximize(CpuDevice, &model, (&settings, 64), asked, |_| {}).expect("climbs");
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
    let on_cpu = texts_on(CpuDevice, &model, &[neuron(0, 3)], &settings);
    for (a, b) in on_gpu[0].iter().zip(&on_cpu[0]) {
        assert!((a.relaxed - b.relaxed).abs() <= 1e-4 * b.relaxed.abs().max(0.1), "{a:?} {b:?}");
        assert_eq!(a.tokens, b.tokens);
        assert!((a.discrete - b.discrete).abs() <= 1e-5, "{a:?} {b:?}");
    }
}
