//! Free vectors in the place of token vectors, and the gradients that come back to them.
//! Oracles: the device's own embedding module; finite differences.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use electrode::capture::collect::Collector;
use electrode::device::backward::Differentiable;
use electrode::device::cpu::CpuDevice;
use electrode::device::cuda::Element;
use electrode::device::forward::{Forward, ForwardInput, Limits, SiteWork};
use electrode::device::gradient_ops::GradientOps;
use electrode::device::position_rows;
use electrode::id::{Site, SiteKind};
use electrode::model::{Model, Param};
use electrode::stimulate::maximize::ascent::{Ascent, At, Frame, Texts};
use electrode::stimulate::maximize::embedding::EmbeddingModule;

use crate::golden::fixture::{check_all, embedded, fixtures};
use crate::methods::support::Random;

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
        let mut forward = Forward::new(CpuDevice::F32, &model, limits, &wanted).expect("fits");
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
        // Some of these models have kinks and all are bent: a slope of one of these steps agrees.
        let slopes: Vec<_> = [0.01_f32, 0.003, 0.001, 0.0003]
            .map(|part| part * rms)
            .into_iter()
            .map(|step| (step, ask(&moved(step), false), ask(&moved(-step), false)))
            .collect();
        let width = vectors.len() / neurons.len();
        for row in 0..neurons.len() {
            let cells = row * width..(row + 1) * width;
            let pairs = found.gradient[cells.clone()].iter().zip(&along[cells]);
            let want: f64 = pairs.map(|(g, d)| f64::from(*g) * f64::from(*d)).sum();
            let rounding = f64::from(found.climbs[row].abs().max(1.0)) * 1e-6;
            let excess = slopes.iter().map(|(step, up, down)| {
                if up.at[row] != found.at[row] || down.at[row] != found.at[row] {
                    return f64::INFINITY; // The largest position changed: no slope there.
                }
                let slope = f64::from(up.climbs[row] - down.climbs[row]) / f64::from(2.0 * step);
                (slope - want).abs() - 0.02 * want.abs() - rounding / f64::from(*step)
            });
            let excess = excess.fold(f64::INFINITY, f64::min);
            assert!(excess <= 0.0, "{} {site}: {want}, over by {excess}", folder.display());
        }
        assert!(found.gradient.iter().any(|g| *g != 0.0), "{}", folder.display());
    }
}

#[test]
fn gradients_of_free_vectors_are_slopes() {
    let some =
        ["bert-tokcls", "gpt2-tied", "opt-postnorm-proj", "roberta-padinside", "electra-gen"];
    let folders: Vec<_> = some.iter().map(|name| embedded().join(name)).collect();
    check_all(&folders, |folder| gradient_is_the_slope(CpuDevice::F32, folder));
    if let Some(device) = crate::cuda::device(Element::F32) {
        gradient_is_the_slope(device, &folders[1]);
    }
}
