//! What is done with neurons once they are known: suspicious inputs, and other domains.
//! Oracles: planted triggers and shifts, by hand; pairs counted one by one.

use std::path::Path;

use electrode::methods::Matrix;
use electrode::methods::domain_shift::{DomainShift, LinearHead, chosen_and_oracle};
use electrode::methods::matrix::Values;
use electrode::methods::normal_bounds::{NormalBounds, Settings, auroc};

use super::support::Random;

const HERE: &str = "planted.safetensors";

fn matrix(rows: usize, values: Vec<f64>) -> Matrix {
    Matrix::new(rows, values.len() / rows, Values::F64(values))
}

/// Rows of 60 normal neurons of their own scale, the last one constant; with a trigger, ten of them
/// are eight deviations off.
fn activations(random: &mut Random, rows: usize, trigger: bool) -> Matrix {
    let mut values = Vec::new();
    for _ in 0..rows {
        for neuron in 0..60 {
            let scale = 1.0 + neuron as f64;
            let off = if trigger && neuron % 6 == 0 { 8.0 } else { 0.0 };
            values.push(match neuron {
                59 => 2.5,
                _ => scale * (random.normal() + off),
            });
        }
    }
    matrix(rows, values)
}

#[test]
fn triggers_leave_the_bounds_of_clean_rows() {
    let mut random = Random(5);
    let clean = activations(&mut random, 400, false);
    let (new, poisoned) =
        (activations(&mut random, 200, false), activations(&mut random, 200, true));
    let settings = Settings::default();
    let bounds = NormalBounds::fit(&clean, &settings, Path::new(HERE)).expect("fits");
    assert_eq!(bounds.held_out.len(), 200);
    let flagged = |rows: &Matrix| bounds.flagged(&bounds.scores(rows));
    let share = |flags: Vec<bool>| flags.iter().filter(|flag| **flag).count() as f64 / 200.0;
    assert!(share(bounds.flagged(&bounds.held_out)) <= 0.05, "on the rows that set the threshold");
    assert!(share(flagged(&new)) <= 0.1, "{}", share(flagged(&new)));
    assert_eq!(share(flagged(&poisoned)), 1.0);
    let (clean_scores, others) = (bounds.scores(&new), bounds.scores(&poisoned));
    assert_eq!(auroc(&clean_scores, &others, Path::new(HERE)).expect("two classes"), 1.0);
    // A constant neuron is allowed its value and no other.
    assert_eq!(bounds.intervals[59], (2.5 - 1e-6, 2.5 + 1e-6));
    for (n, x) in bounds.purified(&poisoned, 3).into_iter().enumerate() {
        let (low, high) = bounds.intervals[n];
        let before = poisoned.get(3, n);
        assert!(x == before || x == low || x == high, "{n}: {before} became {x}");
        assert!((low..=high).contains(&x) && (n % 6 != 0 || x == high), "{n}: {x}");
    }
    let again = NormalBounds::fit(&clean, &settings, Path::new(HERE)).expect("fits");
    assert_eq!(bounds, again);
    let other = NormalBounds::fit(&clean, &Settings { seed: 1, ..settings }, Path::new(HERE));
    assert_ne!(bounds.intervals, other.expect("fits").intervals);
}

#[test]
fn the_area_under_the_curve_counts_pairs() {
    let (clean, suspicious) = ([0.9, 0.5, 0.7, 0.5], [0.5, 0.2, 0.8]);
    let mut sum = 0.0;
    for c in clean {
        for s in suspicious {
            sum += if c > s { 1.0 } else { f64::from(u8::from(c == s)) / 2.0 };
        }
    }
    let found = auroc(&clean, &suspicious, Path::new(HERE)).expect("two classes");
    assert!((found - sum / 12.0).abs() < 1e-12, "{found} for {}", sum / 12.0);
}

#[test]
fn too_few_rows_and_foolish_settings_are_refused() {
    let three = matrix(3, vec![1.0; 6]);
    let fit = |rows: &Matrix, settings: Settings| {
        NormalBounds::fit(rows, &settings, Path::new(HERE)).expect_err("refused").exit_code()
    };
    assert_eq!(fit(&three, Settings::default()), 65);
    let four = matrix(4, vec![1.0; 8]);
    assert_eq!(fit(&four, Settings { delta: 0.0, ..Settings::default() }), 2);
    assert_eq!(fit(&matrix(4, vec![f64::NAN; 8]), Settings::default()), 65);
}

/// Two classes told apart by neuron 0; in the target domain neuron 1, which the head reads too, is
/// far off.
fn domain(random: &mut Random, rows: usize, offset: f64) -> (Matrix, Vec<usize>) {
    let (mut values, mut classes) = (Vec::new(), Vec::new());
    for row in 0..rows {
        let class = row % 2;
        let side = if class == 1 { 1.0 } else { -1.0 };
        values.push(side + 0.2 * random.normal());
        values.push(offset + 0.2 * random.normal());
        values.extend((0..6).map(|_| random.normal()));
        classes.push(class);
    }
    (matrix(rows, values), classes)
}

#[test]
fn a_planted_shift_is_undone() {
    let mut random = Random(9);
    let (source, _) = domain(&mut random, 300, 0.0);
    let (target, classes) = domain(&mut random, 200, 5.0);
    let mut weight = vec![0.0; 16];
    (weight[8], weight[9]) = (1.0, 1.0);
    let head = LinearHead { weight: matrix(2, weight), bias: vec![0.0, 0.0] };
    let shift = DomainShift::fit(&source, &target, Path::new(HERE)).expect("fits");
    assert_eq!(shift.order[0], 1, "the neuron that tells the domains apart");
    assert!((shift.difference[1] + 5.0).abs() < 0.1);
    let development: Vec<usize> = (0..40).collect();
    let grid = (&[1, 4][..], &[0.25, 1.0, 4.0][..]);
    let choices = shift.choices(&head, (&target, &classes), &development, grid);
    assert_eq!((choices.len(), choices[0].k), (7, 0));
    assert!((choices[0].test - 0.5).abs() < 1e-12, "everything is of class 1 before");
    let (chosen, oracle) = chosen_and_oracle(&choices).expect("some");
    assert_eq!((chosen.k, chosen.beta), (1, 1.0));
    assert!(chosen.test > 0.98 && oracle.test >= chosen.test, "{chosen:?} {oracle:?}");
    // The second of eight neurons moves by 0.001^(1/7) of its difference.
    let moved = shift.moved(&target, 0, (2, 1.0));
    let second = shift.order[1] as usize;
    let want = target.get(0, second) + 0.001_f64.powf(1.0 / 7.0) * shift.difference[second];
    assert!((moved[second] - want).abs() < 1e-12);
}
