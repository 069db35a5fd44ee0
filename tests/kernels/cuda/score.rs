//! Scores of rows of logits, and their gradients.
//! Oracle: the definitions in f64.

use electrode::device::cuda::{CudaDevice, Element};
use electrode::device::gradient_ops::{Against, GradientOps, Metric, SCORES};
use electrode::device::ops::Ops;

use super::rows::{
    assert_bits, assert_near, assert_refused, indices, kept, poisoned, random, read, tensor,
};
use crate::cuda::{device, on_both};

const METRICS: [Metric; 5] =
    [Metric::Loss, Metric::LogProb, Metric::Prob, Metric::LogitDifference, Metric::Kl];

/// Classes: a yes-no question, few, around a pack, a block's packs and one more, a vocabulary.
const CLASSES: [usize; 9] = [1, 2, 7, 8, 9, 1024, 1025, 2049, 9001];

struct Problem {
    rows: usize,
    cols: usize,
    logits: Vec<f32>,
    reference: Vec<f32>,
    targets: Vec<u32>,
    foils: Vec<u32>,
    weights: Vec<f32>,
}

fn problem(rows: usize, cols: usize, element: Element) -> Problem {
    let spread = |seed| -> Vec<f32> {
        random(seed, rows * cols, element).iter().map(|x| kept(element, 4.0 * x)).collect()
    };
    let mut problem = Problem {
        rows,
        cols,
        logits: spread(1),
        reference: spread(2),
        targets: indices(3, rows, cols.max(2)),
        foils: indices(4, rows, cols.max(2)),
        weights: random(5, rows, Element::F32),
    };
    // A row whose target is the best, and one whose target is nearly certain.
    if cols > 1 {
        let place = |row: usize, targets: &[u32]| row * cols + targets[row] as usize;
        problem.logits[place(0, &problem.targets)] = 20.0;
        problem.logits[place(1, &problem.targets)] = 100.0;
    }
    problem
}

/// Log probabilities of all answers.
fn log_probs(row: &[f32]) -> Vec<f64> {
    let mut all: Vec<f64> = row.iter().map(|&x| f64::from(x)).collect();
    if all.len() == 1 {
        all.insert(0, 0.0);
    }
    let largest = all.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let total: f64 = all.iter().map(|x| (x - largest).exp()).sum();
    all.iter().map(|x| x - largest - total.ln()).collect()
}

/// The scores of a row, and the gradient of each metric.
fn by_definition(problem: &Problem, row: usize) -> ([f64; SCORES], Vec<Vec<f64>>) {
    let cols = problem.cols;
    let of = |values: &[f32]| log_probs(&values[row * cols..][..cols]);
    let (p, q) = (of(&problem.logits), of(&problem.reference));
    let (target, foil) = (problem.targets[row] as usize, problem.foils[row] as usize);
    let best = p.iter().all(|x| *x <= p[target]);
    let kl: f64 = p.iter().zip(&q).map(|(p, q)| q.exp() * (q - p)).sum();
    let scores = [p[target], p[target] - p[foil], f64::from(u8::from(best)), kl];
    let one = |i: usize, at: usize| if i == at { 1.0 } else { 0.0 };
    let weight = f64::from(problem.weights[row]);
    let gradients = METRICS.map(|metric| {
        let answers = (0..p.len()).map(|i| match metric {
            Metric::Loss => p[i].exp() - one(i, target),
            Metric::LogProb => one(i, target) - p[i].exp(),
            Metric::Prob => p[target].exp() * (one(i, target) - p[i].exp()),
            Metric::LogitDifference => one(i, target) - one(i, foil),
            Metric::Kl => p[i].exp() - q[i].exp(),
            Metric::Probe => unreachable!("it is not of the logits"),
        });
        // The answer 0 of a yes-no question has no logit of its own.
        answers.map(|g| weight * g).skip(usize::from(cols == 1)).collect()
    });
    (scores, gradients.to_vec())
}

/// Scores and gradients.
fn ours(gpu: &CudaDevice, problem: &Problem) -> (Vec<f32>, Vec<Vec<f32>>) {
    let Problem { rows, cols, .. } = *problem;
    let logits = tensor(gpu, cols, &problem.logits);
    let reference = tensor(gpu, cols, &problem.reference);
    let against = Against {
        targets: &problem.targets,
        foils: Some(&problem.foils),
        reference: Some(&reference),
    };
    // Behind two rows of others.
    let mut scores = gpu.exact_tensor(rows + 2, SCORES).unwrap();
    gpu.set_rows(&mut scores, rows + 2);
    gpu.write(&mut scores, &vec![7.0; (rows + 2) * SCORES]).unwrap();
    gpu.score(&against, &logits, (2, &mut scores));
    let mut values = Vec::new();
    gpu.read(&scores, &mut values).unwrap();
    let mine = values.split_off(2 * SCORES);
    assert_bits(&values, &[7.0; 2 * SCORES], "rows before the first");
    let gradients = METRICS.map(|metric| {
        let mut g = poisoned(gpu, rows, cols);
        gpu.score_grad((metric, &problem.weights), &against, &logits, &mut g);
        read(gpu, &mut g, rows)
    });
    (mine, gradients.to_vec())
}

#[test]
fn scores_and_gradients_are_those_of_the_definitions() {
    on_both(|gpu, element| {
        for cols in CLASSES {
            let problem = problem(5, cols, element);
            let (scores, gradients) = ours(gpu, &problem);
            for row in 0..problem.rows {
                let (want, slopes) = by_definition(&problem, row);
                let what = format!("{element:?} row {row} of {cols}");
                // Scores are f32 whatever the type of the tensors.
                let want = want.iter().map(|x| (*x, 2e-6 * x.abs().max(1.0)));
                assert_near(&scores[row * SCORES..][..SCORES], want, (Element::F32, &what));
                for ((g, want), metric) in gradients.iter().zip(slopes).zip(METRICS) {
                    let g = &g[row * cols..][..cols];
                    let weight = f64::from(problem.weights[row].abs());
                    let want = want.into_iter().map(|x| (x, 2e-6 * weight));
                    assert_near(g, want, (element, &format!("{what}: {metric:?}")));
                }
            }
        }
    });
}

#[test]
fn a_row_does_not_depend_on_the_others() {
    on_both(|gpu, element| {
        for cols in [1, 9, 1025] {
            let whole = problem(6, cols, element);
            let (scores, gradients) = ours(gpu, &whole);
            let row = 3;
            let cells = row * cols..(row + 1) * cols;
            let alone = Problem {
                rows: 1,
                cols,
                logits: whole.logits[cells.clone()].to_vec(),
                reference: whole.reference[cells.clone()].to_vec(),
                targets: vec![whole.targets[row]],
                foils: vec![whole.foils[row]],
                weights: vec![whole.weights[row]],
            };
            let (one, slopes) = ours(gpu, &alone);
            assert_bits(&one, &scores[row * SCORES..][..SCORES], "scores");
            for (slope, all) in slopes.iter().zip(&gradients) {
                assert_bits(slope, &all[cells.clone()], "gradient");
            }
        }
    });
}

#[test]
fn nan_and_what_is_missing_are_seen() {
    on_both(|gpu, _| {
        let logits = tensor(gpu, 3, &[1.0, f32::NAN, 0.0, f32::NEG_INFINITY, 0.0, 2.0]);
        let against = Against { targets: &[0, 2], foils: None, reference: None };
        let mut scores = gpu.exact_tensor(2, SCORES).unwrap();
        gpu.set_rows(&mut scores, 2);
        gpu.score(&against, &logits, (0, &mut scores));
        let mut values = Vec::new();
        gpu.read(&scores, &mut values).unwrap();
        assert!(values[0].is_nan() && values[2] == 0.0, "{values:?}");
        // What never happens takes nothing from the rest; without foils and reference there is 0.
        let log = -(1.0 + (-2.0_f64).exp()).ln();
        let want = [log, 0.0, 1.0, 0.0].map(|x| (x, 1e-6));
        assert_near(&values[SCORES..], want.into_iter(), (Element::F32, "minus infinity"));
    });
}

#[test]
fn answers_beyond_the_logits_never_reach_the_kernel() {
    let Some(gpu) = device(Element::F32) else { return };
    let logits = tensor(&gpu, 3, &[0.0; 3]);
    let mut scores = gpu.exact_tensor(1, SCORES).unwrap();
    gpu.set_rows(&mut scores, 1);
    let against = Against { targets: &[3], foils: None, reference: None };
    assert_refused("beyond", || gpu.score(&against, &logits, (0, &mut scores)));
    let mut g = poisoned(&gpu, 1, 3);
    let against = Against { targets: &[0], foils: None, reference: None };
    assert_refused("reference", || gpu.score_grad((Metric::Kl, &[1.0]), &against, &logits, &mut g));
}
