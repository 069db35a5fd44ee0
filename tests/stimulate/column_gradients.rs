//! Gradients with respect to chosen columns of down projections, and facts edited by them.
//! Oracles: differences of the metric between checkpoints whose columns were moved, of fourth order in
//! the step; the law `<dm/dv_n, v_n> = sum_t x_tn dm/dx_tn`, summed in f64; the processor for the GPU; the
//! bytes of the original checkpoint.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use electrode::device::backward::Differentiable;
use electrode::device::cpu::CpuDevice;
use electrode::device::cuda::Element;
use electrode::device::forward::{Limits, SiteWork};
use electrode::device::gradient_ops::{GradientOps, Metric};
use electrode::device::site_view::Nobody;
use electrode::id::SiteKind;
use electrode::methods::clustering::facts::{fact_clusters, fact_neurons};
use electrode::model::{LayerParam, Model, Param};
use electrode::rewrite::SHARD_BYTES;
use electrode::rewrite::knowledge::{relative_step, shift};
use electrode::rewrite::neurons::{ColumnValues, Neurons as Chosen};
use electrode::stimulate::column_gradients::column_gradients;
use electrode::stimulate::facts::answers;
use electrode::stimulate::gradients::{Over, Products, Times, gradient_products};
use electrode::stimulate::neurons::Neurons;
use electrode::stimulate::question::{Question, QuestionBatch, Where};
use safetensors::SafeTensors;
use serde_json::{Value, json};

use super::root;
use crate::laws::data::Random;
use crate::run::{Finished, electrode, finish};

/// Causal fixtures of every kind of block, gated and not, with a norm behind the MLP and without.
const FIXTURES: [&str; 5] =
    ["gpt2-tied", "qwen3-qknorm", "gemma2-softcap", "phi-qknorm-gqa", "bloom-postln"];
/// Of the largest slope there is.
const BOUND: f64 = 1e-3;

fn open(name: &str) -> Model {
    let folder = root().join("tests/golden/forward").join(name);
    Model::open(&folder.display().to_string()).expect("a fixture")
}

fn questions() -> Vec<Question> {
    let question = |at: u32| Question {
        tokens: (0..4 + at).map(|i| (i * 37 + at * 11 + 3) % 101).collect(),
        at: 3 + at,
        target: 20 + at,
        foil: Some(50 + at),
        other: None,
    };
    (0..4).map(question).collect()
}

fn chosen() -> Chosen {
    Chosen::from([(0, BTreeSet::from([2, 5, 31])), (1, BTreeSet::from([0, 7]))])
}

fn differentiable<O: GradientOps>(ops: O, model: &Model) -> Differentiable<O> {
    let limits = Limits { tokens: 64, sequence: 16 };
    Differentiable::new(ops, model, limits, (&BTreeSet::new(), true)).expect("fits")
}

fn gradients<O: GradientOps>(ops: O, model: &Model, metric: Metric) -> ColumnValues {
    let (batch, mut run) = (QuestionBatch::new(&questions()), differentiable(ops, model));
    let weights: Vec<f32> = (1..).take(batch.len()).map(|n: u8| 0.5 * f32::from(n)).collect();
    let how = (metric, &weights[..]);
    let (scores, found) =
        column_gradients(&mut run, (batch.input(), &chosen()), batch.scoring(), how).expect("runs");
    assert_eq!(scores.len(), batch.len());
    let asked: BTreeMap<usize, BTreeSet<usize>> =
        found.iter().map(|(layer, of)| (*layer, of.keys().copied().collect())).collect();
    assert_eq!(asked, chosen());
    found
}

/// The weighted sum of the metric of a model with moved columns.
fn value(model: &Model, shifts: &ColumnValues, metric: Metric) -> f64 {
    let home = tempfile::tempdir().expect("a temporary folder");
    let out = home.path().join("moved");
    let (rewrite, _) = shift(model, shifts, Value::Null).expect("moves");
    rewrite.write(&out, SHARD_BYTES).expect("written");
    let moved = Model::open(&out.display().to_string()).expect("opens");
    let scores =
        answers(&mut differentiable(CpuDevice::F32, &moved), &questions()).expect("answers");
    (1..).zip(scores).map(|(n, score)| 0.5 * f64::from(n) * f64::from(score.value(metric))).sum()
}

fn scaled(columns: &ColumnValues, by: f64) -> ColumnValues {
    let mut scaled = columns.clone();
    scaled.values_mut().flat_map(|of| of.values_mut()).flatten().for_each(|x| *x *= by);
    scaled
}

fn flat(columns: &ColumnValues) -> Vec<f64> {
    columns.values().flat_map(|of| of.values()).flatten().copied().collect()
}

fn dot(a: &ColumnValues, b: &ColumnValues) -> f64 {
    flat(a).iter().zip(flat(b)).map(|(a, b)| a * b).sum()
}

#[test]
fn column_gradients_are_slopes_of_the_metric() {
    let mut random = Random(5);
    for name in FIXTURES {
        let model = open(name);
        for metric in [Metric::LogProb, Metric::LogitDifference] {
            let found = gradients(CpuDevice::F32, &model, metric);
            let size = dot(&found, &found).sqrt();
            assert!(size > 0.0, "{name}");
            // Along the gradient, somewhere else, and along one number.
            let mut noise = found.clone();
            noise
                .values_mut()
                .flat_map(|of| of.values_mut())
                .flatten()
                .for_each(|x| *x = f64::from(random.normal()));
            let mut one = scaled(&found, 0.0);
            one.get_mut(&1).and_then(|of| of.get_mut(&7)).expect("chosen")[3] = 1.0;
            for direction in [found.clone(), noise, one] {
                let unit = scaled(&direction, 1.0 / dot(&direction, &direction).sqrt());
                let step = 0.02 / size;
                let at = |k: f64| value(&model, &scaled(&unit, k * step), metric);
                let slope = (at(-2.0) - 8.0 * at(-1.0) + 8.0 * at(1.0) - at(2.0)) / (12.0 * step);
                let (want, error) = (dot(&found, &unit), (slope - dot(&found, &unit)).abs());
                assert!(error <= BOUND * size, "{name} {metric:?}: {want} by differences {slope}");
            }
        }
    }
}

/// What a column's own direction does is what scaling the activation does.
#[test]
fn a_gradient_along_its_column_is_that_of_the_activation() {
    for name in FIXTURES {
        let model = open(name);
        let (batch, mut run) =
            (QuestionBatch::new(&questions()), differentiable(CpuDevice::F32, &model));
        let how = (Metric::LogProb, &vec![1.0; batch.len()][..]);
        let (_, found) =
            column_gradients(&mut run, (batch.input(), &chosen()), batch.scoring(), how)
                .expect("runs");
        let neurons = Neurons::of(&model.spec, SiteKind::MlpAct, vec![0, 1]);
        let (nothing, edits) = (BTreeSet::new(), BTreeMap::new());
        let mut sites = SiteWork { wanted: &nothing, edits: &edits, visitor: &mut Nobody };
        run.run(batch.input(), &mut sites).expect("runs");
        let over = Over::Sum(Where::Everywhere);
        let how = Products {
            metric: Metric::LogProb,
            times: Times::Value,
            over,
            values: None,
            readout: None,
        };
        let products = gradient_products(&mut run, (&batch, &neurons), &how).expect("runs");
        let width = neurons.width;
        for (layer, of) in &found {
            let down = model.tensor(Param::Layer(*layer, LayerParam::Down)).expect("there").data;
            let sum = |n: usize| -> f64 {
                products[layer].iter().skip(n).step_by(width).map(|x| f64::from(*x)).sum()
            };
            let largest = (0..width).map(|n| sum(n).abs()).fold(0.0, f64::max);
            for (n, gradient) in of {
                let column = down.iter().skip(*n).step_by(width).map(|x| f64::from(*x));
                let got: f64 = gradient.iter().zip(column).map(|(g, v)| g * v).sum();
                let error = (got - sum(*n)).abs();
                assert!(error <= 1e-5 * largest, "{name} {layer} {n}: {got} {}", sum(*n));
            }
        }
    }
}

#[test]
fn a_gpu_finds_the_columns_gradients_of_the_processor() {
    let Some(gpu) = crate::cuda::device(Element::F32) else { return };
    for name in ["gpt2-tied", "gemma2-softcap"] {
        let model = open(name);
        let want = gradients(CpuDevice::F32, &model, Metric::LogProb);
        let got = gradients(gpu.clone(), &model, Metric::LogProb);
        let largest = flat(&want).iter().fold(0.0_f64, |a, b| a.max(b.abs()));
        for (got, want) in flat(&got).iter().zip(flat(&want)) {
            assert!((got - want).abs() <= 1e-4 * largest, "{name}: {got} {want}");
        }
    }
}

#[test]
fn a_step_is_as_long_as_asked() {
    let model = open("gpt2-tied");
    let found = gradients(CpuDevice::F32, &model, Metric::LogProb);
    let step = relative_step(&model, found.clone(), 0.25).expect("a step");
    let mut squares = 0.0;
    for (layer, set) in chosen() {
        let down = model.tensor(Param::Layer(layer, LayerParam::Down)).expect("there").data;
        let width = model.spec.mlp.width;
        let of = |n: &usize| down.iter().skip(*n).step_by(width).map(|x| f64::from(*x).powi(2));
        squares += set.iter().flat_map(of).sum::<f64>();
    }
    let (length, cosine) = (dot(&step, &step).sqrt(), dot(&step, &found));
    assert!((length - 0.25 * squares.sqrt()).abs() <= 1e-9 * length, "{length}");
    assert!((cosine - length * dot(&found, &found).sqrt()).abs() <= 1e-9 * cosine);
    let nothing = relative_step(&model, scaled(&found, 0.0), 0.25).expect("no step");
    assert!(flat(&nothing).iter().all(|x| *x == 0.0));
}

#[test]
fn facts_are_clustered_by_direction_and_have_their_largest_neurons() {
    let of = |a: f32, b: f32, c: f32| vec![a, b, c, 0.0];
    let facts = [of(1.0, 0.1, 0.0), of(9.0, 1.0, 0.2), of(0.0, 0.1, 2.0), of(0.0, 0.0, 0.0)];
    assert_eq!(fact_clusters(&facts, 0.5), [vec![0, 1], vec![2], vec![3]]);
    assert_eq!(fact_clusters(&facts[..3], 2.0), [vec![0, 1, 2]]);
    // A cosine of 1/2 is a distance of 1/2; a mirror image is as far as can be.
    let turned = [of(1.0, 0.0, 0.0), of(1.0, 3.0_f32.sqrt(), 0.0), of(-1.0, 0.0, 0.0)];
    assert_eq!(fact_clusters(&turned, 0.5001), [vec![0, 1], vec![2]]);
    assert_eq!(fact_clusters(&turned, 0.4999), [vec![0], vec![1], vec![2]]);
    let values = [0.1, 1.0, -5.0, 0.2, 1.0, 0.19];
    let neurons = |t: f32, most: usize| fact_neurons(&values, 3, (t, most));
    assert_eq!(neurons(0.2, 9), Chosen::from([(0, [1].into()), (1, [0, 1].into())]));
    assert_eq!(neurons(0.2, 1), Chosen::from([(0, [1].into())]), "of equals the first");
    assert!(fact_neurons(&[-1.0, 0.0], 2, (0.2, 3)).is_empty());
}

/// A folder, and the real program in it.
struct Bench(tempfile::TempDir);

impl Bench {
    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn edit(&self, what: &str, model: &Path, more: &[(&str, &str)]) -> Finished {
        let mut command = electrode();
        command.arg("edit").arg(what).arg("--model").arg(model).current_dir(self.0.path());
        command.args(more.iter().flat_map(|(name, value)| [*name, *value]));
        finish(command.env("NO_COLOR", "1"))
    }
}

fn facts() -> Bench {
    let bench = Bench(tempfile::tempdir().expect("a temporary folder"));
    let lines = [
        ("door", "The door", "has", "have"),
        ("door", "The old door", "has", "have"),
        ("boy", "The boy", "goes", "go"),
        ("lady", "The lady", "knows", "know"),
    ];
    let line = |(fact, prompt, old, new): &(&str, &str, &str, &str)| {
        format!("{}\n", json!({"prompt": prompt, "old": old, "new": new, "fact": fact}))
    };
    fs::write(bench.path("facts.jsonl"), lines.iter().map(line).collect::<String>()).expect("w");
    let other = "{\"prompt\": \"He was in the\", \"answer\": \"house\"}\n";
    fs::write(bench.path("others.jsonl"), other).expect("written");
    bench
}

type Raw = BTreeMap<String, Vec<u8>>;

fn raw(folder: &Path) -> Raw {
    let bytes = fs::read(folder.join("model.safetensors")).expect("readable");
    let file = SafeTensors::deserialize(&bytes).expect("safetensors");
    file.tensors().into_iter().map(|(name, view)| (name, view.data().to_vec())).collect()
}

#[test]
fn edited_facts_get_their_new_answers_and_nothing_else_is_touched() {
    let (bench, model) = (facts(), root().join("models/tiny-gpt2-en"));
    let more = [
        ("--questions", "facts.jsonl"),
        ("--fact", "fact"),
        ("--inside", "others.jsonl"),
        ("--outside", "others.jsonl"),
        ("--undo-file", "undo.safetensors"),
        ("--report", "report.json"),
        ("--device", "cpu"),
        ("--out", "new"),
    ];
    let done = bench.edit("ece", &model, &more);
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    eprintln!("{}", done.stdout);
    for word in ["3 facts in", "columns moved", "success:", "perplexity inside:", "outside:"] {
        assert!(done.stdout.contains(word), "{word}: {}", done.stdout);
    }
    let report: Value =
        serde_json::from_slice(&fs::read(bench.path("report.json")).expect("there")).expect("JSON");
    let pair = |key: &str| -> [f64; 2] {
        serde_json::from_value(report["outcome"][key].clone()).expect("two numbers")
    };
    let [before, after] = pair("new_log_prob");
    assert!(after > before + 0.5, "{before} {after}");
    let [before, after] = pair("preferred");
    assert!(after > before, "{before} {after}");
    // Only columns of the neurons named, and all of these.
    let mut named: BTreeMap<usize, BTreeSet<usize>> = BTreeMap::new();
    for fact in report["facts"].as_array().expect("a list") {
        let of: Chosen = serde_json::from_value(fact["neurons"].clone()).expect("neurons");
        of.into_iter().for_each(|(layer, set)| named.entry(layer).or_default().extend(set));
    }
    let (old, new) = (raw(&model), raw(&bench.path("new")));
    let width = open_model(&model).spec.mlp.width;
    for (name, bytes) in &old {
        let layer = (0..4).find(|l| *name == format!("transformer.h.{l}.mlp.c_proj.weight"));
        let Some(layer) = layer else {
            assert_eq!(new[name], *bytes, "{name}");
            continue;
        };
        let length = bytes.len() / width;
        let pairs = bytes.chunks_exact(length).zip(new[name].chunks_exact(length));
        let moved: BTreeSet<usize> =
            pairs.enumerate().filter(|(_, (a, b))| a != b).map(|(n, _)| n).collect();
        assert_eq!(moved, named.remove(&layer).unwrap_or_default(), "layer {layer}");
    }
    let back = [("--undo", "undo.safetensors"), ("--out", "back")];
    let done = bench.edit("undo", &bench.path("new"), &back);
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    assert_eq!(raw(&bench.path("back")), old);
}

fn open_model(folder: &Path) -> Model {
    Model::open(&folder.display().to_string()).expect("opens")
}

#[test]
fn what_is_no_edit_of_facts_is_refused() {
    let (bench, model) = (facts(), root().join("models/tiny-gpt2-en"));
    for (name, value, code, word) in [
        ("--rate", "0", 2, "no step"),
        ("--rate", "inf", 2, "no step"),
        ("--threshold", "1.5", 2, "no share"),
        ("--most", "0", 2, "no neuron"),
        ("--distance", "3", 2, "cosine distance"),
        ("--steps", "0", 2, "steps of a path"),
        ("--old", "nothing", 65, "no key 'nothing'"),
        ("--old", "new", 65, "the same token"),
    ] {
        let more = [("--questions", "facts.jsonl"), ("--out", "no"), (name, value)];
        let done = bench.edit("ece", &model, &[&more[..], &[("--device", "cpu")]].concat());
        assert_eq!(done.code, Some(code), "{name} {value}: {}", done.stderr);
        assert!(done.stderr.contains(word), "{name} {value}: {}", done.stderr);
        assert!(!bench.path("no").exists());
    }
}
