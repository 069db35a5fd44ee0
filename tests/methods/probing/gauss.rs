//! The Gaussian probe. Oracles: a selection with a matrix inverse for each candidate (plain loops), the
//! fixture's `gaussian` (numpy and scipy; passed over when absent), hand-made matrices.

use std::f64::consts::{LN_2, TAU};

use electrode::methods::probing::gauss::{Covariance, Gaussian};
use electrode::methods::probing::greedy::{Criterion, select};
use electrode::methods::probing::information::judge;
use electrode::methods::probing::{Block, ClassMoments, Rows, class_moments};

use super::support::{Hidden, LAYER, UNITS, eliminate, jacobi, json, noise};
use crate::methods::fixture_file::File;
use crate::methods::support::{Random, largest_error, relative_error, shared};

const D: usize = 12;
const G: usize = 3;

/// Correlated rows with classes that differ in mean and covariance.
fn rows(seed: u64, n: usize) -> (Vec<f32>, Vec<u32>) {
    let mut random = Random(seed);
    let labels: Vec<u32> = (0..n).map(|_| random.below(G) as u32).collect();
    let mut values = noise(&mut random, n * D);
    for (row, &label) in values.chunks_exact_mut(D).zip(&labels) {
        for i in 1..D {
            row[i] += 0.6 * row[i - 1];
        }
        row[label as usize] += 1.5;
        row[5] *= 1.0 + label as f32;
    }
    (values, labels)
}

fn some(labels: &[u32]) -> Vec<Option<u32>> {
    labels.iter().map(|&label| Some(label)).collect()
}

/// ln N(x; mean, covariance) of chosen neurons, by elimination and not by a factor.
fn log_density(x: &[f64], class: (&[f64], &[f64]), subset: &[u32]) -> f64 {
    let (mean, covariance) = class;
    let k = subset.len();
    let d = mean.len();
    let marginal: Vec<f64> = subset
        .iter()
        .flat_map(|&i| subset.iter().map(move |&j| covariance[i as usize * d + j as usize]))
        .collect();
    let z: Vec<f64> = subset.iter().map(|&i| x[i as usize] - mean[i as usize]).collect();
    let solved = eliminate(marginal.clone(), z.clone());
    let distance: f64 = z.iter().zip(&solved).map(|(a, b)| a * b).sum();
    let log_det: f64 = jacobi(&marginal, k).0.iter().map(|x| x.ln()).sum();
    -0.5 * (distance + log_det + k as f64 * TAU.ln())
}

/// Mean -log2 p(label | x) on chosen neurons and right answers.
fn plain_score(probe: &Gaussian, rows: &Block, labels: &[u32], subset: &[u32]) -> (f64, f64) {
    let (mut nats, mut right) = (0.0, 0.0);
    for (x, &label) in rows.rows().zip(labels) {
        let joint: Vec<f64> = probe
            .classes
            .iter()
            .map(|c| c.log_prior + log_density(x, (&c.mean, &c.covariance), subset))
            .collect();
        let top = joint.iter().copied().fold(f64::MIN, f64::max);
        nats -=
            joint[label as usize] - top - joint.iter().map(|j| (j - top).exp()).sum::<f64>().ln();
        right += f64::from(u8::from(joint[label as usize] == top));
    }
    let n = labels.len() as f64;
    (nats / n / LN_2, right / n)
}

#[test]
fn residual_updates_select_what_a_solve_for_each_candidate_selects() {
    let (values, labels) = rows(1, 150);
    let (other, dev) = rows(2, 60);
    let moments = class_moments(Rows::new(&values, D), &some(&labels), G).expect("labelled");
    let dev_rows = Rows::new(&other, D).all();
    for (kind, diagonal, criterion) in [
        (Covariance::Map, false, Criterion::MutualInformation),
        (Covariance::Mle, false, Criterion::LogLikelihood),
        (Covariance::Map, true, Criterion::Accuracy),
    ] {
        let probe = Gaussian::fit(&moments, kind, diagonal).expect("there are rows");
        let found = select(&mut probe.selection(&dev_rows), (&dev, G), (criterion, 6));
        let mut chosen: Vec<u32> = Vec::new();
        for step in &found {
            let score = |n: u32| {
                let subset = [chosen.as_slice(), &[n]].concat();
                plain_score(&probe, &dev_rows, &dev, &subset)
            };
            let rank = |n: u32| match criterion {
                Criterion::Accuracy => score(n).1,
                _ => -score(n).0,
            };
            let best = (0..D as u32).filter(|n| !chosen.contains(n)).map(rank);
            let best = best.fold(f64::MIN, f64::max);
            assert!((rank(step.neuron) - best).abs() < 1e-9, "{criterion:?}: {}", step.neuron);
            let (bits, accuracy) = score(step.neuron);
            assert!((step.information.cross_entropy - bits).abs() < 1e-9, "{criterion:?}");
            assert_eq!(step.accuracy, accuracy);
            chosen.push(step.neuron);
        }
        assert_eq!(found.len(), 6);
        // The posteriors of the whole subset are those of the selection.
        let posteriors = probe.log_posteriors(&dev_rows, &chosen).expect("definite");
        let judged = judge(&posteriors, &dev, &[true; G]);
        let last = found.last().expect("six steps");
        assert!((judged.information.mutual() - last.information.mutual()).abs() < 1e-9);
        assert!(judged.information.normalised() <= 1.0);
    }
}

#[test]
fn the_map_estimate_by_hand() {
    // Two rows a class of one neuron: mean 2, scatter 2, cov 2; (2 + 2) / (2 + 2 + 4) = 0.5.
    let moments = class_moments(
        Rows::new(&[1.0, 3.0, -1.0, 1.0], 1),
        &[Some(0), Some(0), Some(1), Some(1)],
        2,
    )
    .expect("labelled");
    assert_eq!(moments[0], ClassMoments { rows: 2, mean: vec![2.0], scatter: vec![2.0] });
    let map = Gaussian::fit(&moments, Covariance::Map, false).expect("rows");
    assert_eq!(map.classes[0].covariance, [0.5]);
    let mle = Gaussian::fit(&moments, Covariance::Mle, false).expect("rows");
    assert_eq!(mle.classes[0].covariance, [2.0]);
    // Halfway between the means nothing is known.
    let posterior = map.log_posteriors(&Block::new(vec![1.0], 1), &[0]).expect("definite");
    assert!(largest_error(posterior.row(0), &[0.5_f64.ln(); 2]) < 1e-12);
    assert!(Gaussian::fit(&moments[..1], Covariance::Map, false).is_err(), "one class");
    let lone = ClassMoments { rows: 1, ..moments[0].clone() };
    assert!(Gaussian::fit(&[lone, moments[1].clone()], Covariance::Map, false).is_err());
}

#[test]
fn neurons_without_variance_are_left_out_and_others_raised() {
    let (mut values, labels) = rows(3, 40);
    for row in values.chunks_exact_mut(D) {
        row[4] = 1.0;
        // One neuron twice: no inverse without a prior.
        row[7] = row[6];
    }
    let moments = class_moments(Rows::new(&values, D), &some(&labels), G).expect("labelled");
    let mut probe = Gaussian::fit(&moments, Covariance::Mle, false).expect("rows");
    assert_eq!(probe.excluded, [4]);
    let dev = Rows::new(&values, D).all();
    let all: Vec<u32> = (0..D as u32).collect();
    assert!(probe.log_posteriors(&dev, &all).is_err());
    let steps = select(&mut probe.selection(&dev), (&labels, G), (Criterion::default(), D));
    let chosen: Vec<u32> = steps.iter().map(|step| step.neuron).collect();
    assert_eq!(steps.len(), D - 2, "neither the constant nor the second of two: {chosen:?}");
    assert!(!chosen.contains(&4), "a constant has no density");
    assert!(!(chosen.contains(&6) && chosen.contains(&7)), "one of two that are the same");
    let raised = probe.make_definite(|matrix, n| jacobi(matrix, n).0[n - 1]).expect("raised");
    assert_eq!(raised, [0, 1, 2]);
    assert!(probe.log_posteriors(&dev, &all).is_ok());
    let before = probe.clone();
    assert!(probe.make_definite(|_, _| unreachable!()).expect("definite").is_empty());
    assert!(probe == before, "what is definite stays as it is");
}

#[test]
fn the_fixture_s_probe_and_selection() {
    let Some(folder) = shared() else { return };
    let hidden = Hidden::open(&folder);
    let want = File::open(&folder, "expected/gaussian.safetensors");
    let facts = json(&folder, "expected/gaussian.json");
    let labels = File::open(&folder, "inputs.safetensors").f64("label");
    let classes: Vec<f64> = want.f64("classes");
    let part = |name: &str| -> (Vec<f32>, Vec<u32>) {
        let rows: Vec<usize> = want.f64(name).into_iter().map(|row| row as usize).collect();
        let class = |&row: &usize| {
            classes.iter().position(|c| *c == labels[row]).expect("a kept class") as u32
        };
        let own = |&row: &usize| hidden.rows().row(row)[LAYER * UNITS..][..96].to_vec();
        (rows.iter().flat_map(own).collect(), rows.iter().map(class).collect())
    };
    let (train, labels) = part("train_rows");
    let (eval, truth) = part("eval_rows");
    let g = classes.len();
    let moments = class_moments(Rows::new(&train, 96), &some(&labels), g).expect("labelled");
    let (train, eval) = (Rows::new(&train, 96).all(), Rows::new(&eval, 96).all());
    for (kind, sigma, greedy, posteriors) in [
        (Covariance::Map, "sigma", "greedy", "eval_logpost_greedy"),
        (Covariance::Mle, "sigma_mle", "greedy_mle", "eval_logpost_greedy_mle"),
    ] {
        let probe = Gaussian::fit(&moments, kind, false).expect("rows");
        let covariances: Vec<f64> =
            probe.classes.iter().flat_map(|class| class.covariance.clone()).collect();
        assert!(relative_error(&covariances, &want.f64(sigma)) <= 1e-5);
        let means: Vec<f64> = probe.classes.iter().flat_map(|class| class.mean.clone()).collect();
        assert!(largest_error(&means, &want.f64("mean")) <= 1e-6);
        let steps = select(&mut probe.selection(&train), (&labels, g), (Criterion::default(), 8));
        let expected = facts[greedy].as_array().expect("a list");
        for (step, want) in steps.iter().zip(expected) {
            let number = |key: &str| want[key].as_f64().expect("a number");
            assert_eq!(u64::from(step.neuron), want["neuron"].as_u64().expect("a neuron"));
            assert!((step.information.mutual() - number("mi_bits")).abs() < 1e-6, "{greedy}");
            assert!((step.accuracy - number("accuracy")).abs() < 1e-9, "{greedy}");
            assert!((step.lead.expect("others") - number("gap_bits")).abs() < 1e-6, "{greedy}");
        }
        assert_eq!(steps.len(), expected.len());
        let chosen: Vec<u32> = steps.iter().map(|step| step.neuron).collect();
        let found = probe.log_posteriors(&eval, &chosen).expect("definite");
        assert!(largest_error(found.values(), &want.f64(posteriors)) <= 1e-4, "{posteriors}");
        if kind == Covariance::Map {
            let judged = judge(&found, &truth, &vec![true; g]);
            let number = |key: &str| facts[key].as_f64().expect("a number");
            let mi = judged.information.mutual();
            assert!((mi - number("eval_mi_bits_greedy")).abs() < 1e-4, "{mi}");
            assert!((judged.accuracy - number("eval_accuracy_greedy")).abs() < 1e-9);
            assert!((judged.information.entropy - number("entropy_bits_eval")).abs() < 1e-9);
            let all: Vec<u32> = (0..96).collect();
            let found = probe.log_posteriors(&eval, &all).expect("the prior makes it definite");
            assert!(largest_error(found.values(), &want.f64("eval_logpost_all")) <= 1e-4);
        }
    }
}
