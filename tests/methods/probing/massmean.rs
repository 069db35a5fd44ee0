//! Mean-difference directions. Oracles: sums by hand, Fisher's direction by elimination, a planted neuron.

use electrode::methods::probing::massmean::{
    direction_neurons, mass_mean, pooled_covariance, spreads, whitened_mass_mean,
};
use electrode::methods::probing::{ClassMoments, Rows, class_moments};

use super::support::{eliminate, jacobi, noise};
use crate::methods::support::{Random, largest_error};

const D: usize = 6;

/// Neuron 2 moves by 2 with the concept; 0 and 1 are noise that is nearly the same, of which 1 moves a bit.
fn rows(seed: u64, n: usize) -> (Vec<f32>, Vec<bool>) {
    let mut random = Random(seed);
    let mut values = noise(&mut random, n * D);
    let labels: Vec<bool> = (0..n).map(|_| random.uniform() < 0.4).collect();
    for (row, &label) in values.chunks_exact_mut(D).zip(&labels) {
        row[1] = row[0] + 0.2 * row[1] + if label { 0.5 } else { 0.0 };
        row[2] += if label { 2.0 } else { 0.0 };
    }
    (values, labels)
}

fn moments(values: &[f32], labels: &[bool]) -> [ClassMoments; 2] {
    let labels: Vec<Option<u32>> = labels.iter().map(|&l| Some(u32::from(l))).collect();
    let found = class_moments(Rows::new(values, D), &labels, 2).expect("labelled");
    found.try_into().expect("two classes")
}

#[test]
fn a_whitened_direction_is_fisher_s() {
    let (values, labels) = rows(1, 400);
    let classes = moments(&values, &labels);
    let plain = mass_mean(&classes).expect("both kinds");
    let difference: Vec<f64> =
        classes[1].mean.iter().zip(&classes[0].mean).map(|(a, b)| a - b).collect();
    assert_eq!(plain.weights, difference);
    assert!(largest_error(&plain.centre, &Rows::new(&values, D).means()) < 1e-12);
    let white = whitened_mass_mean(&classes, &jacobi).expect("both kinds");
    let fisher = eliminate(pooled_covariance(&classes), difference);
    assert!(largest_error(&white.weights, &fisher) < 1e-9);
    let (values, labels) = rows(2, 300);
    let held_out = Rows::new(&values, D).all();
    let (a, b) = (plain.judge(&held_out, &labels), white.judge(&held_out, &labels));
    // Half of the distance is 1 for the plain one; the pair 0, 1 adds 2.5 more when it is whitened.
    assert!(a.accuracy > 0.7 && b.accuracy > a.accuracy && b.auc > a.auc, "{a:?} {b:?}");
    let none = plain.judge(&held_out, &vec![false; labels.len()]);
    assert_eq!(none.auc, None);
}

#[test]
fn small_eigenvalues_are_cut_off() {
    let (mut values, labels) = rows(3, 200);
    // A neuron twice: an eigenvalue of 0, which an inverse would blow up.
    values.chunks_exact_mut(D).for_each(|row| row[5] = row[4]);
    let white = whitened_mass_mean(&moments(&values, &labels), &jacobi).expect("both kinds");
    assert!((white.weights[4] - white.weights[5]).abs() < 1e-9, "the two share alike");
    assert!(white.weights.iter().all(|w| w.abs() < 100.0));
    let one_kind = class_moments(Rows::new(&values, D), &[Some(0); 200], 2).expect("labelled");
    assert!(mass_mean(&one_kind.try_into().expect("two")).is_err());
}

#[test]
fn neurons_of_a_direction_by_weight_times_spread() {
    let (values, labels) = rows(4, 300);
    let all = spreads(&moments(&values, &labels));
    let rows = Rows::new(&values, D);
    let means = rows.means();
    for n in 0..D {
        let square = |i: usize| (rows.get(i, n) - means[n]).powi(2);
        let spread = ((0..rows.len()).map(square).sum::<f64>() / rows.len() as f64).sqrt();
        assert!((all[n] - spread).abs() < 1e-9, "{n}");
    }
    let ranking = direction_neurons(&[0.5, -2.0, 0.0, 9.0], &[1.0, 3.0, 1.0, 0.0]);
    assert_eq!(ranking.order, [1, 0, 2, 3], "a constant neuron is last");
    assert_eq!((ranking.scores[0], ranking.signs[0]), (6.0, -1));
    let found = mass_mean(&moments(&values, &labels)).expect("both kinds");
    assert_eq!(direction_neurons(&found.weights, &all).order[0], 2);
}
