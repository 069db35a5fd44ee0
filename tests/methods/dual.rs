//! Probes solved in the space of rows. Oracles: the stationarity of the objective in the space of
//! neurons, refits without a row, all pairs.

use electrode::hash::{GAMMA, mix};
use electrode::methods::dual::{auc, gram, logistic, ridge, weights};

const PENALTY: f64 = 0.7;

/// Numbers from -1 to 1 that look random.
fn number(at: usize) -> f64 {
    let bits = mix((at as u64 + 1).wrapping_mul(GAMMA)) >> 11;
    bits as f64 / (1_u64 << 52) as f64 - 1.0
}

fn rows(n: usize, width: usize) -> Vec<Vec<f64>> {
    (0..n).map(|i| (0..width).map(|j| number(i * width + j)).collect()).collect()
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

#[test]
fn a_logistic_probe_is_where_its_objective_is_flat() {
    for (n, width) in [(30, 50), (60, 4)] {
        let rows = rows(n, width);
        let labels: Vec<bool> =
            rows.iter().enumerate().map(|(i, x)| x[0] + number(i + 9) > 0.1).collect();
        let found = logistic(&gram(&rows), &labels, PENALTY).expect("it converges");
        let w = weights(&rows, &found.alpha);
        let mut slope: Vec<f64> = w.iter().map(|w| PENALTY * w).collect();
        let mut bias = 0.0;
        for (row, label) in rows.iter().zip(&labels) {
            let f = dot(row, &w) + found.bias;
            let error = 1.0 / (1.0 + (-f).exp()) - f64::from(u8::from(*label));
            slope.iter_mut().zip(row).for_each(|(slope, x)| *slope += error * x);
            bias += error;
        }
        let largest = slope.iter().fold(0.0_f64, |a, b| a.max(b.abs()));
        assert!(largest < 1e-6 && f64::abs(bias) < 1e-6, "{n} x {width}: {largest} {bias}");
        assert!(w[0] > 0.1, "it found the neuron: {}", w[0]);
    }
    // Classes that can be divided have no weights without a penalty.
    let rows = rows(10, 20);
    let labels: Vec<bool> = (0..10).map(|i| i < 5).collect();
    assert!(logistic(&gram(&rows), &labels, 0.0).is_none());
    assert!(logistic(&gram(&rows), &labels, 1e-3).is_some());
}

#[test]
fn a_ridge_regression_solves_its_normal_equations_and_leaves_rows_out() {
    let (n, width) = (24, 40);
    let rows = rows(n, width);
    let y: Vec<f64> =
        rows.iter().enumerate().map(|(i, x)| 2.0 * x[3] + 0.3 * number(i + 77)).collect();
    let penalties = [0.01, 0.3, 3.0, 50.0];
    let (alpha, chosen) = ridge(&gram(&rows), &y, &penalties).expect("solved");
    let w = weights(&rows, &alpha);
    for j in 0..width {
        let slope: f64 =
            rows.iter().zip(&y).map(|(row, y)| row[j] * (dot(row, &w) - y)).sum::<f64>()
                + chosen * w[j];
        assert!(slope.abs() < 1e-9, "{j}: {slope}");
    }
    // The penalty is the one whose refits without a row predict it best.
    let error = |penalty: f64| -> f64 {
        (0..n)
            .map(|out| {
                let keep = |i: &usize| *i != out;
                let some: Vec<Vec<f64>> = (0..n).filter(keep).map(|i| rows[i].clone()).collect();
                let rest: Vec<f64> = (0..n).filter(keep).map(|i| y[i]).collect();
                let (alpha, _) = ridge(&gram(&some), &rest, &[penalty]).expect("solved");
                (dot(&rows[out], &weights(&some, &alpha)) - y[out]).powi(2)
            })
            .sum()
    };
    let best = penalties.into_iter().min_by(|a, b| error(*a).total_cmp(&error(*b)));
    assert_eq!(best, Some(chosen));
}

#[test]
fn auc_counts_pairs_and_ties_as_halves() {
    for seed in 0..20 {
        let scores: Vec<f64> = (0..25).map(|i| (number(i * 31 + seed) * 4.0).round()).collect();
        let labels: Vec<bool> = (0..25).map(|i| number(i * 17 + seed + 5) > 0.0).collect();
        let (mut sum, mut pairs) = (0.0, 0.0);
        for (a, _) in scores.iter().zip(&labels).filter(|(_, label)| **label) {
            for (b, _) in scores.iter().zip(&labels).filter(|(_, label)| !**label) {
                pairs += 1.0;
                sum += if a > b {
                    1.0
                } else if a < b {
                    0.0
                } else {
                    0.5
                };
            }
        }
        let got = auc(&scores, &labels).expect("both kinds");
        assert!((got - sum / pairs).abs() < 1e-12, "{seed}: {got} {}", sum / pairs);
    }
    assert_eq!(auc(&[1.0, 2.0], &[true, true]), None);
}
