//! Integrated gradients and sweeps of single neurons from the middle of the model.
//! Oracles: `igJ.attr` of `interventions.safetensors` (PyTorch's autograd, right Riemann sum of 20
//! steps) within 3e-5 of its largest value; for sweeps, the same edit in a whole forward pass.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use electrode::device::backward::Differentiable;
use electrode::device::cpu::CpuDevice;
use electrode::device::cuda::Element;
use electrode::device::forward::{Limits, SiteWork};
use electrode::device::gradient_ops::Metric;
use electrode::device::ops::{Edit, Write};
use electrode::device::score::{Score, Scoring};
use electrode::device::site_view::Nobody;
use electrode::device::suffix_ops::SuffixOps;
use electrode::id::{Site, SiteKind};
use electrode::model::Model;
use electrode::stimulate::integrated_gradients::{Quadrature, Settings, integrated_gradients};
use electrode::stimulate::question::{Question, QuestionBatch};
use electrode::stimulate::sweep::{Asks, Becomes, How, Where, sweep};
use safetensors::SafeTensors;

use super::fixture::check_all;
use super::forward::{all, dozen};
use super::gradients::{Packed, floats};
use crate::cuda::device;

fn open(folder: &Path) -> Model {
    Model::open_with_config(folder, &folder.join("config.json")).expect("opens")
}

fn packed(folder: &Path) -> Packed {
    let bytes = std::fs::read(folder.join("expected.safetensors")).expect("fixture");
    Packed::of(&SafeTensors::deserialize(&bytes).expect("fixture"))
}

/// Each row of the fixture's batch as a question that its last token answers.
fn questions(folder: &Path) -> Vec<Question> {
    let packed = packed(folder);
    let row = |pair: &[u32]| packed.tokens[pair[0] as usize..pair[1] as usize].to_vec();
    packed
        .starts
        .windows(2)
        .map(|pair| Question {
            tokens: row(pair),
            at: pair[1] - pair[0] - 1,
            target: 5,
            foil: Some(9),
            other: None,
        })
        .collect()
}

fn attributions<O: SuffixOps>(ops: O, folder: &Path) {
    let Ok(bytes) = std::fs::read(folder.join("interventions.safetensors")) else { return };
    let file = SafeTensors::deserialize(&bytes).expect("fixture");
    let meta = std::fs::read_to_string(folder.join("meta.json")).expect("meta");
    let meta: serde_json::Value = serde_json::from_str(&meta).expect("meta");
    let rows = questions(folder);
    let number = |value: &serde_json::Value| {
        u32::try_from(value.as_u64().expect("a number")).expect("small")
    };
    let limits = Limits { tokens: 700, sequence: 64 };
    let mut run =
        Differentiable::new(ops, &open(folder), limits, (&BTreeSet::new(), true)).expect("fits");
    for case in meta["integrated_gradients"].as_array().expect("cases") {
        let name = case["name"].as_str().expect("a name");
        let question = Question {
            at: number(&case["position"]),
            target: number(&case["target"]),
            foil: None,
            ..rows[number(&case["row"]) as usize].clone()
        };
        // A neighbour in the batch, so that rows are told apart.
        let mut batch = QuestionBatch::new(&[Question { foil: None, ..rows[0].clone() }, question]);
        let all = packed(folder);
        batch.token_types = all.types.map(|types| {
            let of =
                |row: usize| types[all.starts[row] as usize..all.starts[row + 1] as usize].to_vec();
            [of(0), of(number(&case["row"]) as usize)].concat()
        });
        let layer = number(&case["layer"]) as usize;
        let held = run.hold(batch.input(), &[layer]).expect("runs");
        let settings = Settings {
            steps: number(&case["steps"]),
            quadrature: Quadrature::Right,
            metric: Metric::Prob,
        };
        let mut got = Vec::new();
        integrated_gradients(&mut run, (&batch, &held), layer, (settings, None), |one| {
            got = one.values;
            Ok(())
        })
        .expect("attributes");
        let want = floats(&file, &format!("{name}.attr")).expect("there");
        let largest = want.iter().fold(0.0_f32, |a, b| a.max(b.abs()));
        let error = got.iter().zip(&want).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(
            got.len() == want.len() && error <= 3e-5 * largest,
            "{}: {name}: {error:e} of {largest:e}",
            folder.display()
        );
    }
}

/// One neuron changed everywhere or at the answer, by the whole forward pass.
fn plainly<O: SuffixOps>(
    run: &mut Differentiable<O>,
    batch: &QuestionBatch,
    (layer, neuron, place): (usize, u32, Where),
) -> Vec<Score> {
    let site = Site::of_layer(u32::try_from(layer).expect("few"), SiteKind::MlpAct);
    let tokens = (place == Where::Answer).then(|| batch.rows.clone());
    let edit = |write| Edit { columns: Some(vec![neuron]), tokens: tokens.clone(), write };
    let edits = [edit(Write::Scale(-0.5)), edit(Write::Add(vec![0.25]))];
    let edits = BTreeMap::from([(site, edits.to_vec())]);
    let nothing = BTreeSet::new();
    let mut sites = SiteWork { wanted: &nothing, edits: &edits, visitor: &mut Nobody };
    run.run(batch.input(), &mut sites).expect("runs");
    let scoring = Scoring {
        rows: &batch.rows,
        targets: &batch.targets,
        foils: batch.foils.as_deref(),
        reference: None,
        keep: None,
    };
    run.score(&batch.starts, scoring, None).expect("scores")
}

fn sweeps<O: SuffixOps>(ops: O, folder: &Path) {
    let model = open(folder);
    if model.spec.classes().is_none_or(|classes| classes < 10) || model.spec.logits_per_sequence() {
        return;
    }
    let batch = QuestionBatch::new(&questions(folder));
    let limits = Limits { tokens: 150, sequence: 64 };
    let mut run = Differentiable::new(ops, &model, limits, (&BTreeSet::new(), true)).expect("fits");
    for layer in 0..model.spec.layers {
        for (place, differences) in
            [(Where::Everywhere, false), (Where::Answer, false), (Where::Answer, true)]
        {
            let neurons = [0, 3, 7];
            let held = run.hold(batch.input(), &[layer]).expect("runs");
            let mut got = Vec::new();
            let becomes = |_: u32, _: u32| Becomes { scale: -0.5, shift: 0.25 };
            let asks = if differences { Asks::Differences } else { Asks::Answers };
            sweep(
                &mut run,
                (&batch, &held),
                (layer, &neurons),
                How { place, asks, becomes: &becomes },
                |neuron, scores| {
                    got.push((neuron, scores.to_vec()));
                    Ok(())
                },
            )
            .expect("sweeps");
            assert_eq!(got.len(), neurons.len());
            for (neuron, scores) in got {
                let want = plainly(&mut run, &batch, (layer, neuron, place));
                for (a, b) in scores.iter().zip(&want) {
                    let near = |a: f32, b: f32| (a - b).abs() <= 3e-5 * b.abs().max(1.0);
                    let same = (differences || near(a.log_prob, b.log_prob))
                        && near(a.logit_difference, b.logit_difference);
                    assert!(
                        same,
                        "{}: layer {layer}, neuron {neuron}, {place:?}: {a:?}, {b:?}",
                        folder.display()
                    );
                }
            }
        }
    }
}

#[test]
fn integrated_gradients_agree_with_autograd() {
    check_all(&dozen(), |folder| attributions(CpuDevice::F32, folder));
    check_all(&all(), |folder| attributions(CpuDevice::F32, folder));
}

#[test]
fn a_sweep_from_the_middle_is_the_whole_forward_pass() {
    check_all(&dozen(), |folder| sweeps(CpuDevice::F32, folder));
    check_all(&all(), |folder| sweeps(CpuDevice::F32, folder));
}

/// Caps and windows, ALiBi, parallel branches with grouped heads, and what has interventions: the
/// rest is shown by the CPU, and that a GPU does the same operations by `kernels::cuda`.
const ON_GPU: [&str; 4] = ["gpt2-tied", "gemma2-softcap", "bloom-postln", "phi-qknorm-gqa"];

#[test]
fn both_agree_on_a_gpu() {
    let mut folders = dozen();
    folders.retain(|folder| ON_GPU.iter().any(|name| folder.ends_with(name)));
    assert_eq!(folders.len(), ON_GPU.len());
    check_all(&folders, |folder| {
        let Some(device) = device(Element::F32) else { return };
        attributions(device.clone(), folder);
        sweeps(device, folder);
    });
}
