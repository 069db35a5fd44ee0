//! Experiments over questions, through the command line and the library.
//! Oracles: the completeness of integrated gradients; whole forward passes; an undisturbed run; on
//! the embedded model, random neurons of the same layers beside those a method names.

mod ascent;
mod column_gradients;
mod devices;
mod gpus;
mod judging;
mod masked;
mod maximize;
mod mediators;
mod memory;
mod methods;
mod probe_file;
mod probe_metric;
mod sparsity;
mod syntax;
mod toy;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use electrode::artifact::effects::{CurveRow, EffectRow, read_curves, read_effects};
use electrode::device::backward::Differentiable;
use electrode::device::cpu::CpuDevice;
use electrode::device::cuda::Element;
use electrode::device::forward::{Limits, SiteWork};
use electrode::device::gradient_ops::Metric;
use electrode::device::ops::{Edit, Write};
use electrode::device::site_view::Nobody;
use electrode::engine::fleet::Slot;
use electrode::id::SiteKind;
use electrode::model::Model;
use electrode::run::questions::{Experiment, ExperimentConfig, stimulate, stimulate_on};
use electrode::stimulate::integrated_gradients::{Quadrature, Settings, integrated_gradients};
use electrode::stimulate::neurons::site_of;
use electrode::stimulate::question::{Question, QuestionBatch};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn config(out: &Path, overrides: &[&str]) -> ExperimentConfig {
    let file = root().join("configs/experiments/agreement.toml");
    let mut all: Vec<String> = vec![
        format!("out={:?}", out.display().to_string()),
        format!("model.path={:?}", root().join("models/tiny-gpt2-en").display().to_string()),
        format!(
            "questions.files=[{:?}]",
            root().join("corpora/agreement/number_agreement.jsonl").display().to_string()
        ),
        "device.name=cpu".into(),
        "device.commit_seconds=0".into(),
    ];
    all.extend(overrides.iter().map(|text| (*text).to_owned()));
    ExperimentConfig::load(&file, &all).expect("a good file")
}

fn run(config: ExperimentConfig) -> (Vec<EffectRow>, Vec<CurveRow>) {
    let folder = config.out.clone();
    let experiment = Experiment::new(config).expect("opens");
    stimulate(&experiment, &AtomicBool::new(false), &mut |_, _, _| {}).expect("runs");
    tables(&folder)
}

fn tables(folder: &Path) -> (Vec<EffectRow>, Vec<CurveRow>) {
    let effects = read_effects(&folder.join("effects.parquet")).expect("effects");
    (effects, read_curves(&folder.join("curves.parquet")).expect("curves"))
}

fn folder() -> (tempfile::TempDir, PathBuf) {
    let temporary = tempfile::tempdir().expect("a folder");
    let path = temporary.path().join("out");
    (temporary, path)
}

/// Accuracy of an arm over all questions, random draws averaged.
fn accuracy(curves: &[CurveRow], chosen: impl Fn(&CurveRow) -> bool) -> f64 {
    let of: Vec<f64> = curves
        .iter()
        .filter(|row| row.concept == "*" && chosen(row))
        .map(|row| row.accuracy)
        .collect();
    assert!(!of.is_empty());
    of.iter().sum::<f64>() / of.len() as f64
}

#[test]
fn number_neurons_carry_agreement_and_random_ones_do_not() {
    let (_temporary, out) = folder();
    let overrides = [
        "questions.limit=120",
        "methods=[\"gradact\", \"kn:steps=10,metric=logit_difference\"]",
        "judge.sizes=[50]",
        "judge.steer=[4]",
        "judge.random=2",
    ];
    let (effects, curves) = run(config(&out, &overrides));
    let whole = accuracy(&curves, |row| row.method == "none");
    for method in ["gradact", "kn:steps=10,metric=logit_difference"] {
        let of = |order: &'static str, act: &'static str| {
            accuracy(&curves, |row| row.method == method && row.order == order && row.act == act)
        };
        let (top, random) = (of("top", "mean"), of("random", "mean"));
        assert!(whole - top > 0.08, "{method}: {whole:.3} to {top:.3}");
        assert!(whole - random < 0.5 * (whole - top), "{method}: random neurons {random:.3}");
        let (steered, at_random) = (of("top", "steer"), of("random", "steer"));
        assert!(
            at_random - steered > 0.15,
            "{method}: steering {steered:.3}, random {at_random:.3}"
        );
        let ranks = effects.iter().filter(|row| row.method == method && row.concept == "*");
        assert_eq!(ranks.count(), 4 * 1024);
    }
}

#[test]
fn an_experiment_that_was_stopped_ends_with_the_same_bits() {
    let overrides = [
        "questions.limit=12",
        "neurons.block=4",
        "neurons.layers=[3]",
        "methods=[\"gradact\", \"ablate:how=resample,where=answer\", \"diffmask:steps=3\"]",
        "judge.sizes=[5]",
        "judge.steer=[]",
    ];
    let (_one, undisturbed) = folder();
    let want = run(config(&undisturbed, &overrides));
    let (_two, out) = folder();
    let experiment = Experiment::new(config(&out, &overrides)).expect("opens");
    let mut stops = 0;
    loop {
        let stop = AtomicBool::new(false);
        // Stops before its second block, whichever that is.
        let mut blocks = 0;
        let ended = stimulate(&experiment, &stop, &mut |_, _, share| {
            blocks += u32::from(share < 1.0);
            if blocks == 1 {
                stop.store(true, std::sync::atomic::Ordering::Relaxed);
            }
        });
        match ended {
            Ok(_) => break,
            Err(error) => assert_eq!(error.exit_code(), 75, "{error}"),
        }
        stops += 1;
        assert!(stops < 20, "it does not come to an end");
    }
    assert!(stops >= 6, "stopped {stops} times");
    assert_eq!(tables(&out), want);
    let manifest = std::fs::read_to_string(out.join("manifest.json")).expect("a manifest");
    assert!(manifest.contains("gates-3.json"), "it lists every file that the experiment leaves");
    let gates = |folder: &Path| std::fs::read(folder.join("gates-3.json")).expect("gates");
    assert_eq!(gates(&out), gates(&undisturbed));
}

#[test]
fn a_gpu_finds_what_the_processor_finds() {
    let Some(gpu) = crate::cuda::device(Element::F32) else { return };
    let overrides = [
        "questions.limit=3",
        "neurons.layers=[3]",
        "neurons.batch_tokens=256",
        "methods=[\"gradact\", \"kn:steps=3\"]",
        "judge.sizes=[4]",
        "judge.random=0",
        "judge.steer=[]",
    ];
    let (_one, here) = folder();
    let (want, want_curves) = run(config(&here, &overrides));
    let (_two, there) = folder();
    let experiment = Experiment::new(config(&there, &overrides)).expect("opens");
    let slots = vec![Slot::new("gpu", || Ok(gpu.clone()))];
    stimulate_on(&experiment, slots, &AtomicBool::new(false), &mut |_, _, _| {}).expect("runs");
    let (got, curves) = tables(&there);
    let by_neuron = |rows: &[EffectRow]| -> BTreeMap<(String, String, i32), f64> {
        let key = |row: &EffectRow| (row.method.clone(), row.concept.clone(), row.neuron);
        rows.iter().map(|row| (key(row), row.effect)).collect()
    };
    let (got, want) = (by_neuron(&got), by_neuron(&want));
    assert_eq!(got.len(), want.len());
    for method in ["gradact", "kn:steps=3"] {
        let of = want.iter().filter(|((name, ..), _)| name == method);
        let largest = of.clone().fold(0.0_f64, |a, (_, b)| a.max(b.abs()));
        for (key, want) in of {
            let error = (got[key] - want).abs();
            assert!(error <= 1e-3 * largest, "{key:?}: {} for {want}", got[key]);
        }
    }
    for (a, b) in curves.iter().zip(&want_curves) {
        assert!((a.log_prob - b.log_prob).abs() <= 1e-3, "{a:?}, {b:?}");
    }
}

#[test]
fn integrated_gradients_are_complete() {
    let model =
        Model::open(root().join("models/tiny-gpt2-en").to_str().expect("UTF-8")).expect("opens");
    let questions: Vec<Question> = (0..5)
        .map(|at: u32| Question {
            tokens: (0..6 + at).map(|i| (i * 37 + at * 11) % 8000).collect(),
            at: 5 + at,
            target: 300 + at,
            foil: None,
            other: None,
        })
        .collect();
    let batch = QuestionBatch::new(&questions);
    let limits = Limits { tokens: 3000, sequence: 16 };
    let mut run = Differentiable::new(CpuDevice::F32, &model, limits, (&BTreeSet::new(), true))
        .expect("fits");
    for layer in 0..model.spec.layers {
        let held = run.hold(batch.input(), &[layer]).expect("runs");
        // The first layer bends sharply near 0: at 50 steps its sum is a fifth too large.
        let settings =
            Settings { steps: 1000, quadrature: Quadrature::Midpoint, metric: Metric::LogProb };
        let mut sums = Vec::new();
        integrated_gradients(&mut run, (&batch, &held), layer, (settings, None), |one| {
            sums.push(one.values.iter().map(|x| f64::from(*x)).sum::<f64>());
            Ok(())
        })
        .expect("attributes");
        let answers = |run: &mut Differentiable<CpuDevice>, edits: BTreeMap<_, _>| {
            let nothing = BTreeSet::new();
            let mut sites = SiteWork { wanted: &nothing, edits: &edits, visitor: &mut Nobody };
            run.run(batch.input(), &mut sites).expect("runs");
            let scores = run.score(&batch.starts, batch.scoring(), None).expect("scores");
            scores.iter().map(|score| f64::from(score.log_prob)).collect::<Vec<_>>()
        };
        let zero =
            Edit { columns: None, tokens: Some(batch.rows.clone()), write: Write::Set(vec![0.0]) };
        let with = answers(&mut run, BTreeMap::new());
        let without =
            answers(&mut run, BTreeMap::from([(site_of(SiteKind::MlpAct, layer), vec![zero])]));
        for ((sum, with), without) in sums.iter().zip(&with).zip(&without) {
            let change = with - without;
            let error = (sum - change).abs();
            assert!(error <= 0.02 * change.abs().max(0.1), "layer {layer}: {sum} for {change}");
        }
    }
}

#[test]
fn what_cannot_be_asked_is_refused() {
    let cases: [(&str, i32, &str); 25] = [
        ("neurons.layers=[4]", 2, "layers are 0 to 3"),
        ("questions.wrong=nothing", 65, "no key 'nothing'"),
        ("questions.only={ attractor = \"never\" }", 65, "no question is left"),
        ("questions.long_answers=maybe", 2, "one of \"refuse\""),
        ("questions.answr=1", 2, "did you mean 'answer'?"),
        ("methods=[\"probeless\"]", 2, "electrode run"),
        ("methods=[\"patch\"]", 2, "questions.counterfactual"),
        ("judge.sizes=[9999]", 2, "choose 1 to 4096"),
        ("questions.group=template", 2, "two values"),
        ("judge.random=1000", 2, "from 0 to 100"),
        ("methods=[\"kn:steps=900000\"]", 2, "choose at most 262144 steps"),
        ("methods=[\"diag-weights\"]", 2, "questions.quantity"),
        ("questions.quantity=prefix", 65, "'prefix' is no number"),
        ("probe.align=middle", 2, "one of \"start\", \"end\""),
        ("neurons.site=mlp_up", 2, "no 'mlp_up'"),
        ("neurons.site=logits", 2, "one of"),
        ("neurons.site=resid_mid", 2, "attributes to MLP neurons, not to resid_mid"),
        ("methods=[\"ablate:top=9,how=resample\"]", 2, "resample has many"),
        ("methods=[\"ablate:top=9,metric=accuracy\"]", 2, "accuracy has none"),
        ("methods=[\"ablate:where=answer,metric=cosine\"]", 2, "all tokens of a prompt"),
        ("methods=[\"ablate:top=9\"]", 2, "ranks 9 neurons only"),
        ("judge.sets={ a = [\"layers.9.mlp_act.1\"] }", 2, "not among the neurons asked"),
        ("judge.sets={ gradact = [\"layers.3.mlp_act.1\"] }", 2, "the name of another"),
        ("judge.sets={ a = [\"layers.3.mlp_act\"] }", 2, "layers.3.mlp_act.17"),
        ("judge.rankings=[{ run = \"/nowhere\", method = \"ap\" }]", 65, "rankings.parquet"),
    ];
    let (_temporary, out) = folder();
    for (change, code, part) in cases {
        let file = root().join("configs/experiments/agreement.toml");
        let (file, out) = (file.display().to_string(), format!("out={}", out.display()));
        let ran = crate::cli::run(&["stimulate", &file, &out, "--device", "cpu", change]);
        assert_eq!(ran.code, code, "{change}: {}", ran.stderr);
        assert!(ran.stderr.contains(part), "{change}: {}", ran.stderr);
    }
}

#[test]
fn an_answer_of_several_tokens_is_named_with_its_line() {
    let (temporary, out) = folder();
    let file = temporary.path().join("long.jsonl");
    std::fs::write(&file, "{\"prompt\": \"The\", \"answer\": \"antidisestablishmentarianism\"}\n")
        .expect("writes");
    let model = root().join("models/tiny-gpt2-en").display().to_string();
    let (file, out) = (file.display().to_string(), out.display().to_string());
    let args = ["attribute", "--model", &model, "--questions", &file, "--out", &out];
    let method = ["--method", "gradact:metric=log_prob", "--device", "cpu"];
    let ran = crate::cli::run(&[&args[..], &method].concat());
    assert_eq!(ran.code, 65, "{}", ran.stderr);
    assert!(
        ran.stderr.contains("line 1") && ran.stderr.contains("tokens, not one"),
        "{}",
        ran.stderr
    );
}
