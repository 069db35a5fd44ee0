//! Sparse probing. Oracles: optimality conditions of scikit-learn's objective as plain loops, metrics by
//! hand and from all pairs, planted neurons.

use electrode::methods::probing::logistic::{balanced, logistic};
use electrode::methods::probing::metrics::metrics;
use electrode::methods::probing::sparse::{
    Heuristic, Labelled, SIZES, mono, nested, probe_supports, rank_neurons, telescope,
};
use electrode::methods::probing::{Block, Rows};

use super::support::{noise, noise_block};
use crate::methods::support::Random;

const D: usize = 20;

/// Neurons 3 and 11 know the concept, 7 by its variance alone.
fn data(seed: u64, n: usize) -> (Vec<f32>, Vec<bool>) {
    let mut random = Random(seed);
    let labels: Vec<bool> = (0..n).map(|_| random.uniform() < 0.25).collect();
    let mut values = noise(&mut random, n * D);
    for (row, &label) in values.chunks_exact_mut(D).zip(&labels) {
        if label {
            row[3] += 2.0;
            row[11] -= 1.5;
            row[7] *= 5.0;
        }
    }
    (values, labels)
}

#[test]
fn a_logistic_probe_meets_the_conditions_of_its_objective() {
    for (seed, n, k) in [(1, 60, 1), (2, 200, 8), (3, 50, 40)] {
        let mut random = Random(seed);
        let x = noise_block(&mut random, n, k);
        let y: Vec<bool> = x.rows().map(|row| row[0] + 0.5 * random.normal() > 0.8).collect();
        let found = logistic(&x, &y, 1.0).expect("both kinds");
        let shares = balanced(&y).expect("both kinds");
        assert!((shares.iter().sum::<f64>() - n as f64).abs() < 1e-9, "as much weight as rows");
        let mut slope = found.weights.clone();
        let (mut by_bias, mut objective) = (0.0, 0.0);
        for ((row, &yes), share) in x.rows().zip(&y).zip(&shares) {
            let p = 1.0 / (1.0 + (-found.logit(row)).exp());
            let error = share * (p - if yes { 1.0 } else { 0.0 });
            slope.iter_mut().zip(row).for_each(|(s, x)| *s += error * x);
            by_bias += error;
            objective -= share * if yes { p.ln() } else { (1.0 - p).ln() };
        }
        let largest = slope.iter().fold(f64::abs(by_bias), |a, b| a.max(b.abs()));
        assert!(largest < 1e-8, "{n} x {k}: {largest:e}");
        objective += 0.5 * found.weights.iter().map(|w| w * w).sum::<f64>();
        assert!((found.objective - objective).abs() < 1e-9);
    }
    // Rows that a plane divides, far apart: the penalty holds.
    let x = Block::new((0..20).map(|i| 1e4 * (f64::from(i) - 9.5)).collect(), 1);
    let y: Vec<bool> = (0..20).map(|i| i > 9).collect();
    assert!(logistic(&x, &y, 1.0).expect("both kinds").weights[0] > 0.0);
    assert!(logistic(&x, &[true; 20], 1.0).is_err(), "one class");
}

#[test]
fn metrics_by_hand_and_from_pairs() {
    let scores = [3.0, 2.0, 2.0, -1.0, -1.0, -4.0];
    let labels = [true, true, false, true, false, false];
    let found = metrics(&scores, &labels).expect("both kinds");
    assert_eq!((found.accuracy, found.precision, found.recall), (4.0 / 6.0, 2.0 / 3.0, 2.0 / 3.0));
    assert!((found.f1 - 2.0 / 3.0).abs() < 1e-12);
    assert!((found.mcc - (4.0 - 1.0) / 9.0).abs() < 1e-12, "{}", found.mcc);
    // Recall 1/3 at precision 1, 2/3 at 2/3, 1 at 3/5.
    assert!((found.pr_auc - (1.0 + 2.0 / 3.0 + 3.0 / 5.0) / 3.0).abs() < 1e-12);
    // Of nine pairs 6 right and 2 equal.
    assert!((found.roc_auc - 7.0 / 9.0).abs() < 1e-12, "{}", found.roc_auc);
    let never = metrics(&[-1.0; 6], &labels).expect("both kinds");
    assert_eq!((never.f1, never.mcc, never.precision), (0.0, 0.0, 0.0));
    assert_eq!(metrics(&scores, &[true; 6]), None, "one kind");
    assert_eq!(metrics(&[f64::NAN; 6], &labels), None);
}

#[test]
fn heuristics_find_what_they_can() {
    let (values, labels) = data(4, 600);
    let data = Labelled { rows: Rows::new(&values, D), labels: &labels };
    let first = |how: Heuristic, k: usize| {
        let mut order = rank_neurons(data, how).expect("both kinds").order[..k].to_vec();
        order.sort_unstable();
        order
    };
    for how in
        [Heuristic::MeanDifference, Heuristic::FStatistic, Heuristic::Logistic, Heuristic::Svm]
    {
        assert_eq!(first(how, 2), [3, 11], "{how:?}");
    }
    assert_eq!(first(Heuristic::MutualInformation, 3), [3, 7, 11], "variance too");
    let f = rank_neurons(data, Heuristic::FStatistic).expect("both kinds");
    let of = |n: u32| f.scores[f.order.iter().position(|&m| m == n).expect("ranked")];
    assert!(of(7) < 0.1 * of(11), "a variance is nothing to F");
    let random = |seed| rank_neurons(data, Heuristic::Random { seed }).expect("both kinds").order;
    assert!(random(1) == random(1) && random(1) != random(2));
    let signs = rank_neurons(data, Heuristic::MeanDifference).expect("both kinds");
    assert_eq!((signs.order[0], signs.signs[0], signs.signs[1]), (3, 1, -1));
    let wrong = Labelled { labels: &vec![false; labels.len()], ..data };
    assert!(rank_neurons(wrong, Heuristic::FStatistic).is_err());
}

#[test]
fn supports_are_judged_on_rows_held_out() {
    let ((values, labels), (others, truth)) = (data(5, 500), data(6, 400));
    let trained = Labelled { rows: Rows::new(&values, D), labels: &labels };
    let held_out = Labelled { rows: Rows::new(&others, D), labels: &truth };
    let order = rank_neurons(trained, Heuristic::MeanDifference).expect("both kinds").order;
    let supports = nested(&order, &SIZES);
    let sizes: Vec<usize> = supports.iter().map(Vec::len).collect();
    assert_eq!(
        sizes,
        [1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 16, 20],
        "cut to the neurons there are, once"
    );
    let curve = probe_supports(trained, held_out, &supports).expect("both kinds");
    let auc = |i: usize| curve[i].metrics.expect("both kinds").roc_auc;
    assert!(auc(1) > auc(0) + 0.015 && auc(1) > 0.93, "{} {}", auc(0), auc(1));
    // What it reports is what its weights say of the held-out rows.
    let scales = trained.scales();
    let two = &curve[1];
    let score = |row: usize| {
        let terms = two.support.iter().zip(&two.probe.weights);
        two.probe.bias
            + terms
                .map(|(&n, w)| w * held_out.rows.get(row, n as usize) / scales[n as usize])
                .sum::<f64>()
    };
    let right = (0..truth.len()).filter(|&i| (score(i) > 0.0) == truth[i]).count();
    let accuracy = two.metrics.expect("both kinds").accuracy;
    assert!((accuracy - right as f64 / truth.len() as f64).abs() < 1e-12);
    let alone = probe_supports(trained, held_out, &mono(&order, 3)).expect("both kinds");
    assert_eq!(alone.iter().map(|p| p.support.len()).collect::<Vec<_>>(), [1, 1, 1]);
    let shrunk = telescope(trained, &order, &[8, 4, 2, 1]).expect("both kinds");
    assert_eq!(shrunk.iter().map(Vec::len).collect::<Vec<_>>(), [8, 4, 2, 1]);
    let mut two = shrunk[2].clone();
    two.sort_unstable();
    assert_eq!(two, [3, 11]);
    for pair in shrunk.windows(2) {
        assert!(pair[1].iter().all(|n| pair[0].contains(n)), "they nest");
    }
    let one_kind = Labelled { labels: &vec![true; truth.len()], ..held_out };
    let none = probe_supports(trained, one_kind, &supports[..1]).expect("trained on both kinds");
    assert_eq!(none[0].metrics, None, "skipped and not made up");
}
