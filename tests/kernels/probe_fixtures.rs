//! Probes of activations of all-MiniLM-L6-v2, trained as NeuroX trains them and to the optimum.
//! Oracle: the fixture's `refs.py` and NeuroX itself, its README's tolerances. Skipped without it.

use electrode::device::cpu::CpuDevice;
use electrode::device::probe_ops::{BankPlan, Feed, Head, ProbeLoss, ProbeOps};
use electrode::device::probe_solve::{Stop, solve, step_length};

use super::probe_bank::{largest, trained};
use super::probe_reference::{Problem, head};
use crate::methods::fixture_file::File;
use crate::methods::support::shared;

const CLASSES: usize = 14;
const TRAIN: usize = 1151;
const ROWS: usize = 1514;
const ALL: usize = 2688;
const LAYER: usize = 384;

/// Labelled train rows, all columns or those of the last layer, and one softmax head.
fn train(folder: &std::path::Path, inputs: usize, softmax: Head) -> Problem {
    let file = File::open(folder, "inputs.safetensors");
    let x = file.f32("hidden_last");
    let x = x.chunks_exact(ALL).take(TRAIN).flat_map(|row| &row[ALL - inputs..]).copied();
    let labels = file.f64("label");
    assert_eq!(labels.len(), ROWS);
    let rows = (0..TRAIN as u32).filter(|row| labels[*row as usize] >= 0.0);
    let (rows, targets) = rows.map(|row| (row, labels[row as usize] as f32)).unzip();
    Problem {
        plan: BankPlan { inputs, tasks: 1, heads: vec![softmax], masks: None },
        rows: TRAIN,
        x: x.collect(),
        tasks: vec![(rows, targets)],
        weights: vec![0.0; CLASSES * inputs],
        biases: vec![0.0; CLASSES],
    }
}

#[test]
fn adam_is_that_of_neurox() {
    let Some(folder) = shared() else { return };
    let softmax = Head { l1: 1e-3, l2: 1e-2, norm: true, ..head(0, CLASSES, ProbeLoss::Softmax) };
    let mut problem = train(&folder, ALL, softmax);
    let want = File::open(&folder, "expected/probe_adam.safetensors");
    (problem.weights, problem.biases) = (want.f32("w0"), want.f32("b0"));
    let errors = |ours: &[f32], want: &[f64]| -> Vec<f64> {
        assert_eq!(ours.len(), want.len());
        let mut all: Vec<f64> =
            ours.iter().zip(want).map(|(a, b)| (f64::from(*a) - b).abs()).collect();
        all.sort_by(f64::total_cmp);
        all
    };
    let close = |ours: &[f32], want: &[f64], what: &str| {
        let errors = errors(ours, want);
        let (most, worst) = (errors[errors.len() * 99 / 100], errors[errors.len() - 1]);
        assert!(most <= 1e-4 && worst <= 5e-3, "{what}: {most} {worst}");
    };
    // The first step alone.
    let mut first = train(&folder, ALL, softmax);
    (first.weights, first.biases) = (want.f32("w0"), want.f32("b0"));
    first.tasks[0].0.truncate(128);
    first.tasks[0].1.truncate(128);
    let (w, b) = trained(&CpuDevice::F32, &first, (128, 1, 1000));
    let probe = first.probes().pop().expect("one");
    let (_, gradients, _) = probe.mean((&probe.w, &probe.b), 0..128);
    let norm = probe.w.iter().map(|w| w * w).sum::<f64>().sqrt();
    let penalised = |(g, w): (&f64, &f64)| g + 1e-3 * w.signum() + 1e-2 * w / norm;
    let gradients: Vec<f64> = gradients.iter().zip(&probe.w).map(penalised).collect();
    // The first step is the gradient over its own size: next to 0 it hangs on digits that f32 has not.
    let mut loose = 0;
    for ((ours, want), g) in w.iter().zip(&want.f64("w_step1")).zip(&gradients) {
        let error = (f64::from(*ours) - want).abs();
        let bound = 1e-6 + 1e-3 * 1e-8 * 3e-8 / (g.abs() + 1e-8).powi(2);
        loose += usize::from(error > 1e-6);
        assert!(error <= bound.min(2e-3), "{ours} {want}, gradient {g:e}");
    }
    assert!(loose <= w.len() / 5000, "{loose} of {}", w.len());
    assert!(errors(&b, &want.f64("b_step1")).last().is_some_and(|worst| *worst <= 1e-6));
    let (w, b) = trained(&CpuDevice::F32, &problem, (128, 1, 300));
    close(&w, &want.f64("w_epoch1"), "one epoch");
    close(&b, &want.f64("b_epoch1"), "one epoch");
    let (w, b) = trained(&CpuDevice::F32, &problem, (128, 10, 5000));
    for (w_name, b_name) in [("w", "b"), ("w_neurox", "b_neurox")] {
        close(&w, &want.f64(w_name), w_name);
        close(&b, &want.f64(b_name), b_name);
    }
    problem.plan.heads[0].norm = false;
    let (w, b) = trained(&CpuDevice::F32, &problem, (128, 10, 5000));
    close(&w, &want.f64("w_squared"), "squared norm");
    close(&b, &want.f64("b_squared"), "squared norm");
}

#[test]
fn optima_are_those_of_the_fixture() {
    let Some(folder) = shared() else { return };
    let text = std::fs::read_to_string(folder.join("expected/probe_converged.json"));
    let json: serde_json::Value =
        serde_json::from_str(&text.expect("the fixture is whole")).expect("JSON");
    let device = CpuDevice::F32;
    for (name, inputs) in [("layer_l2", LAYER), ("layer_enet", LAYER), ("all_enet", ALL)] {
        let number = |key: &str| json[name][key].as_f64().expect("a number");
        let (l1, l2) = (number("l1") as f32, number("l2") as f32);
        let softmax = Head { l1, l2, ..head(0, CLASSES, ProbeLoss::Softmax) };
        let problem = train(&folder, inputs, softmax);
        let (mut bank, x) = (problem.bank(&device), problem.tensor(&device));
        let step = step_length(&softmax, largest(&problem, 0));
        let stop = Stop { tolerance: 1e-5, passes: 6000, scales: None };
        let solved = solve(&device, &mut bank, &[step], &stop, |bank, what| {
            assert_eq!(what, Feed::Gradient);
            problem.feed(&device, bank, (&x, 5000), what);
            Ok(())
        });
        let solved = solved.expect("no download")[0];
        let (w, b) = device.read_bank(&bank).expect("no download");
        let mut probe = problem.probes().pop().expect("one");
        probe.w = w.iter().map(|&w| f64::from(w)).collect();
        probe.b = b.iter().map(|&b| f64::from(b)).collect();
        let (ours, want) = (probe.objective(), number("objective"));
        let above = (ours - want) / want;
        eprintln!(
            "{name}: {} passes, residual {:.2e}, above {above:.2e}",
            solved.passes, solved.residual
        );
        assert!((-1e-7..=1e-6).contains(&above), "{name}: {ours} {want}, {solved:?}");
        assert!(solved.converged, "{name}: {solved:?}");
    }
}
