//! A model in which four neurons alone reach the stream, and the methods that must find them.
//! Oracles: the wiring; loops in f64 over the model's own weights.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use electrode::device::backward::Differentiable;
use electrode::device::cpu::CpuDevice;
use electrode::device::forward::{Limits, SiteWork};
use electrode::device::gradient_ops::Metric;
use electrode::device::ops::{Edit, Write};
use electrode::device::score::Scoring;
use electrode::device::site_view::Nobody;
use electrode::id::SiteKind;
use electrode::model::{LayerParam, Model, Param};
use electrode::stimulate::diffmask::{Search, Settings};
use electrode::stimulate::gradients::{Over, Products, Times, gradient_products};
use electrode::stimulate::log_prob_increase::{FrozenNorm, log_prob_increases};
use electrode::stimulate::masks::{Gates, Holds, Slopes, gated, untouched};
use electrode::stimulate::neurons::{Neurons, activations, site_of};
use electrode::stimulate::plain_sweep::plain_sweep;
use electrode::stimulate::question::{Question, QuestionBatch, Where};
use electrode::stimulate::sweep::Asks;
use safetensors::SafeTensors;
use safetensors::tensor::TensorView;

use super::root;

const WIRED: [u32; 4] = [3, 50, 100, 150];

/// The embedded random GPT-2, whose first MLP writes through four neurons and the second not at all.
fn wired(folder: &Path) -> Model {
    let from = root().join("tests/golden/forward/gpt2-tied");
    std::fs::copy(from.join("config.json"), folder.join("config.json")).expect("copied");
    let bytes = std::fs::read(from.join("model.safetensors")).expect("the fixture");
    let read = SafeTensors::deserialize(&bytes).expect("safetensors");
    let mut tensors: BTreeMap<String, (Vec<usize>, Vec<u8>)> = read
        .tensors()
        .into_iter()
        .map(|(name, view)| (name, (view.shape().to_vec(), view.data().to_vec())))
        .collect();
    for layer in [0, 1] {
        let name = format!("transformer.h.{layer}.mlp.c_proj.weight");
        let (shape, data) = tensors.get_mut(&name).expect("it has one");
        let width = shape[1] * 4;
        for (neuron, row) in data.chunks_exact_mut(width).enumerate() {
            let wired = layer == 0 && WIRED.iter().any(|n| *n as usize == neuron);
            for bytes in row.chunks_exact_mut(4) {
                let value = f32::from_le_bytes(bytes.try_into().expect("four"));
                bytes.copy_from_slice(&(if wired { 40.0 * value } else { 0.0 }).to_le_bytes());
            }
        }
    }
    let views = tensors.iter().map(|(name, (shape, data))| {
        (name, TensorView::new(safetensors::Dtype::F32, shape.clone(), data).expect("fits"))
    });
    let file = safetensors::serialize(views, None).expect("serialized");
    std::fs::write(folder.join("model.safetensors"), file).expect("written");
    Model::open(folder.to_str().expect("UTF-8")).expect("opens")
}

fn questions() -> Vec<Question> {
    (0..6)
        .map(|at: u32| Question {
            tokens: (0..4 + at).map(|i| (i * 37 + at * 11) % 101).collect(),
            at: 3 + at,
            target: 30 + at,
            foil: Some(50 + at),
            other: None,
        })
        .collect()
}

fn differentiable(model: &Model) -> Differentiable<CpuDevice> {
    let limits = Limits { tokens: 256, sequence: 16 };
    Differentiable::new(CpuDevice::F32, model, limits, (&BTreeSet::new(), true)).expect("fits")
}

/// KL from the untouched answers, mean over questions, with these neurons of the first layer at 0.
fn missed(run: &mut Differentiable<CpuDevice>, batch: &QuestionBatch, columns: Vec<u32>) -> f64 {
    let reference = untouched(run, batch).expect("runs");
    let edit = Edit { columns: Some(columns), tokens: None, write: Write::Set(vec![0.0]) };
    let edits = BTreeMap::from([(site_of(SiteKind::MlpAct, 0), vec![edit])]);
    let nothing = BTreeSet::new();
    let mut sites = SiteWork { wanted: &nothing, edits: &edits, visitor: &mut Nobody };
    run.run(batch.input(), &mut sites).expect("runs");
    let scoring = Scoring { reference: Some(&reference), ..batch.scoring() };
    let scores = run.score(&batch.starts, scoring, None).expect("scores");
    scores.iter().map(|score| f64::from(score.kl)).sum::<f64>() / batch.len() as f64
}

fn largest(values: &[f64]) -> BTreeSet<u32> {
    let mut order: Vec<u32> = (0..).take(values.len()).collect();
    order.sort_by(|a, b| values[*b as usize].total_cmp(&values[*a as usize]));
    order.into_iter().take(WIRED.len()).collect()
}

#[test]
fn ablation_gradients_and_masks_find_the_four_neurons() {
    let folder = tempfile::tempdir().expect("a folder");
    let model = wired(folder.path());
    let (questions, mut run) = (questions(), differentiable(&model));
    let batch = QuestionBatch::new(&questions);
    let neurons = Neurons::of(run.spec(), SiteKind::MlpAct, vec![0]);
    let wired = BTreeSet::from(WIRED);
    // One by one.
    let clean = {
        activations(&mut run, &batch, &neurons.sites()).expect("runs");
        run.score(&batch.starts, batch.scoring(), None).expect("scores")
    };
    let mut ablated = vec![0.0; neurons.width];
    let all: Vec<u32> = (0..).take(neurons.width).collect();
    let zero = |_: u32, _: u32| 0.0_f32;
    let how = (Where::Everywhere, Asks::Answers, &zero as &dyn Fn(u32, u32) -> f32);
    plain_sweep(&mut run, &questions, (neurons.site(0), &all), how, |n, scores| {
        let change =
            |(a, b): (&electrode::device::score::Score, &electrode::device::score::Score)| {
                f64::from((a.logit_difference - b.logit_difference).abs())
            };
        ablated[n as usize] = scores.iter().zip(&clean).map(change).sum();
        Ok(())
    })
    .expect("sweeps");
    assert_eq!(largest(&ablated), wired);
    assert!(ablated.iter().enumerate().all(|(n, x)| wired.contains(&(n as u32)) || *x < 1e-5));
    // To first order.
    activations(&mut run, &batch, &neurons.sites()).expect("runs");
    let (metric, over) = (Metric::LogitDifference, Over::Sum(Where::Everywhere));
    let how = Products { metric, times: Times::Value, over, values: None, readout: None };
    let found = gradient_products(&mut run, (&batch, &neurons), &how).expect("runs");
    let mut first = vec![0.0; neurons.width];
    for row in found[&0].chunks_exact(neurons.width) {
        first.iter_mut().zip(row).for_each(|(sum, x)| *sum += f64::from(x.abs()));
    }
    assert_eq!(largest(&first), wired);
    // All together: no smaller set answers as before, none of the others is kept.
    let singles = WIRED.map(|n| missed(&mut run, &batch, vec![n]));
    let least = singles.iter().fold(f64::MAX, |a, b| a.min(*b));
    assert!(least > 1e-3, "each of the four matters: {singles:?}");
    let zeros = vec![vec![0.0; neurons.width]];
    let settings = Settings {
        holds: Holds::Same,
        tolerance: least / 4.0,
        steps: 400,
        rate: 0.05,
        learn: false,
        place: Where::Everywhere,
        seed: 1,
    };
    let reference = untouched(&mut run, &batch).expect("runs");
    let mut search = Search::new(settings, &neurons, &zeros);
    while !search.is_done() {
        // A state is the whole state.
        if search.steps() == 200 {
            let mut again = Search::new(settings, &neurons, &zeros);
            assert!(again.restore(&search.encode()) && again == search);
            search = again;
        }
        let (gates, mut slopes) = (search.drawn(), Slopes::new(&neurons));
        let place = (&neurons, Where::Everywhere);
        let how = (&gates, Holds::Same);
        gated(&mut run, (&batch, &reference), place, how, &mut slopes).expect("runs");
        search.descend(&slopes, batch.len());
    }
    let kept = |n: &u32| search.verdict(0, *n as usize).1;
    assert_eq!(all.iter().copied().filter(kept).collect::<BTreeSet<u32>>(), wired);
    let shut = all.iter().copied().filter(|n| !kept(n)).collect();
    assert!(missed(&mut run, &batch, shut) < 1e-6, "the others do nothing");
}

/// Slopes with respect to gates and to the values behind them, against central differences in f64 of
/// what f32 passes give.
#[test]
fn slopes_of_gates_are_slopes() {
    let (questions, model) = (questions(), {
        let folder = root().join("tests/golden/forward/gpt2-tied");
        Model::open(folder.to_str().expect("UTF-8")).expect("opens")
    });
    let mut run = differentiable(&model);
    let batch = QuestionBatch::new(&questions);
    let neurons = Neurons::of(run.spec(), SiteKind::MlpAct, vec![0, 1]);
    let reference = untouched(&mut run, &batch).expect("runs");
    let number = |layer: usize, n: usize, by: usize| ((layer * 31 + n * by) % 17) as f32 / 17.0;
    let table = |by: usize| -> Vec<Vec<f32>> {
        (0..2).map(|l| (0..neurons.width).map(|n| number(l, n, by)).collect()).collect()
    };
    let gates = Gates { gates: table(5), towards: table(7) };
    for (holds, place) in
        [(Holds::Same, Where::Everywhere), (Holds::Wrong { margin: 5.0 }, Where::Answer)]
    {
        let mut ask = |gates: &Gates| {
            let mut slopes = Slopes::new(&neurons);
            let place = (&neurons, place);
            gated(&mut run, (&batch, &reference), place, (gates, holds), &mut slopes)
                .expect("runs");
            slopes
        };
        let slopes = ask(&gates);
        for (layer, n) in [(0, 3), (0, 90), (1, 17), (1, 140)] {
            let step = 0.05_f32;
            let moved = |values: bool, by: f32| {
                let mut gates = gates.clone();
                let of = if values { &mut gates.towards } else { &mut gates.gates };
                of[layer][n] += by;
                gates
            };
            for (of, slope) in [(false, slopes.gates[layer][n]), (true, slopes.towards[layer][n])] {
                let difference = (ask(&moved(of, step)).sum - ask(&moved(of, -step)).sum)
                    / (2.0 * f64::from(step));
                let error = (difference - slope).abs();
                assert!(
                    error < 0.02 * slope.abs() + 2e-4,
                    "{holds:?} {layer}.{n}: {difference} {slope}"
                );
            }
        }
    }
}

/// log p(w | r + m v) - log p(w | r) by loops over the model's own weights.
#[test]
fn increases_of_log_p_are_those_of_a_plain_loop() {
    let model =
        Model::open(root().join("models/tiny-gpt2-en").to_str().expect("UTF-8")).expect("opens");
    let mut run = differentiable(&model);
    let questions: Vec<Question> = (0..2)
        .map(|at: u32| Question {
            tokens: (0..5 + at).map(|i| (i * 97 + at * 11) % 6000).collect(),
            at: 4 + at,
            target: 400 + at,
            foil: None,
            other: None,
        })
        .collect();
    let batch = QuestionBatch::new(&questions);
    let (layer, last) = (1, run.spec().layers - 1);
    let norm = FrozenNorm::of(&model).expect("it has one");
    let exact = log_prob_increases(&mut run, &batch, &[layer], (&norm, 60)).expect("runs");
    let first = log_prob_increases(&mut run, &batch, &[layer], (&norm, 0)).expect("runs");
    let sites =
        [(SiteKind::ResidMid, layer), (SiteKind::MlpAct, layer), (SiteKind::ResidPost, last)]
            .map(|(kind, layer)| site_of(kind, layer));
    let kept = activations(&mut run, &batch, &sites.into_iter().collect()).expect("runs");
    let [mid, act, post] = sites.map(|site| kept.read(&CpuDevice::F32, site).expect("kept"));
    let down = model.tensor(Param::Layer(layer, LayerParam::Down)).expect("it has one");
    let weight = model.tensor(Param::FinalNormWeight).expect("it has one").data;
    let head = model.tensor(Param::Tokens).expect("tied").data;
    let (width, neurons) = (run.spec().width, run.spec().mlp.width);
    assert_eq!(down.shape, [width, neurons]);
    let log_p = |row: &[f64], scale: f64, target: u32| {
        let mean = row.iter().sum::<f64>() / row.len() as f64;
        let h: Vec<f64> =
            row.iter().zip(&weight).map(|(x, w)| (x - mean) * scale * f64::from(*w)).collect();
        let logit = |of: &[f32]| of.iter().zip(&h).map(|(w, x)| f64::from(*w) * x).sum::<f64>();
        let logits: Vec<f64> = head.chunks_exact(width).map(logit).collect();
        let top = logits.iter().fold(f64::MIN, |a, b| a.max(*b));
        let sum = logits.iter().map(|x| (x - top).exp()).sum::<f64>();
        logits[target as usize] - top - sum.ln()
    };
    for (at, question) in questions.iter().enumerate() {
        let row = batch.rows[at] as usize;
        let stream: Vec<f64> = mid[row * width..][..width].iter().map(|x| f64::from(*x)).collect();
        let scale = norm.scale(&post[row * width..][..width]);
        let base = log_p(&stream, scale, question.target);
        let values = &exact[0][at * neurons..][..neurons];
        let linear = &first[0][at * neurons..][..neurons];
        let mut order: Vec<usize> = (0..neurons).collect();
        order.sort_by(|a, b| linear[*b].abs().total_cmp(&linear[*a].abs()));
        for &n in order[..60].iter().step_by(6) {
            let m = f64::from(act[row * neurons + n]);
            let with: Vec<f64> = stream
                .iter()
                .enumerate()
                .map(|(d, x)| x + m * f64::from(down.data[d * neurons + n]))
                .collect();
            let want = log_p(&with, scale, question.target) - base;
            assert!((f64::from(values[n]) - want).abs() < 2e-4, "{n}: {} {want}", values[n]);
            // To first order it is near, and where it is small the same.
            assert!((f64::from(linear[n]) - want).abs() < 0.1 + 0.7 * want.abs(), "{n}: {want}");
        }
        for &n in &order[60..] {
            assert_eq!(values[n], linear[n], "not among the exact");
        }
    }
}
