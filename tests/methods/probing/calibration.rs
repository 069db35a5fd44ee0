//! Calibration. Oracles: a grid over the parameters, sums by hand.

use electrode::methods::probing::calibration::{
    BINS, Calibration, calibration_error, platt, temperature,
};

use crate::methods::support::Random;

/// Scores that are three times too sure, and 0.4 off.
fn overconfident(n: usize) -> (Vec<f64>, Vec<bool>) {
    let mut random = Random(9);
    let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
    let rows = (0..n).map(|_| {
        let z = random.normal();
        (sigmoid(3.0 * z), random.uniform() < sigmoid(z + 0.4))
    });
    rows.unzip()
}

fn loss(c: Calibration, rows: (&[f64], &[f64])) -> f64 {
    let terms = rows.0.iter().zip(rows.1);
    terms
        .map(|(&s, t)| {
            let p = c.apply(s);
            -(t * p.ln() + (1.0 - t) * (1.0 - p).ln())
        })
        .sum()
}

#[test]
fn a_temperature_is_the_best_of_a_grid() {
    let (scores, labels) = overconfident(500);
    let targets: Vec<f64> = labels.iter().map(|&l| f64::from(u8::from(l))).collect();
    let found = temperature(&scores, &labels).expect("both kinds");
    let at = |slope: f64| loss(Calibration { slope, shift: 0.0 }, (&scores, &targets));
    let best = (1..3000).map(|i| i as f64 / 1000.0).min_by(|a, b| at(*a).total_cmp(&at(*b)));
    assert!((found.slope - best.expect("a grid")).abs() <= 1e-3, "{}", found.slope);
    assert!((found.slope - 1.0 / 3.0).abs() < 0.1, "three times too sure: {}", found.slope);
    let sure = temperature(&[0.9, 0.2, 0.8], &[true, false, true]).expect("both kinds");
    assert!(sure.slope > 1e3 && sure.slope.is_finite());
    assert!(temperature(&[0.9, 0.8], &[true, true]).is_err());
}

#[test]
fn platt_s_slope_and_shift_are_stationary_and_help() {
    let (scores, labels) = overconfident(500);
    let found = platt(&scores, &labels).expect("both kinds");
    let positive = labels.iter().filter(|&&l| l).count() as f64;
    let negative = 500.0 - positive;
    let target = |&l: &bool| {
        if l { (positive + 1.0) / (positive + 2.0) } else { 1.0 / (negative + 2.0) }
    };
    let targets: Vec<f64> = labels.iter().map(target).collect();
    let at = |a: f64, b: f64| {
        loss(Calibration { slope: found.slope + a, shift: found.shift + b }, (&scores, &targets))
    };
    for (a, b) in [(1e-3, 0.0), (-1e-3, 0.0), (0.0, 1e-3), (0.0, -1e-3)] {
        assert!(at(a, b) > at(0.0, 0.0), "{a} {b}");
    }
    let calibrated: Vec<f64> = scores.iter().map(|&s| found.apply(s)).collect();
    let (before, after) =
        (calibration_error(&scores, &labels), calibration_error(&calibrated, &labels));
    assert!(before > 0.12 && after < 0.06, "{before} {after}");
    let sure = platt(&[0.9, 0.2, 0.8], &[true, false, true]).expect("both kinds");
    assert!(sure.slope.is_finite() && sure.slope < 100.0);
}

#[test]
fn the_error_by_hand() {
    assert_eq!(BINS, 15);
    // 0.9 twice, one right: |1 - 1.8| of 2; 0.2 is confident 0.8 and right: |1 - 0.8|.
    let error = calibration_error(&[0.9, 0.9, 0.2], &[true, false, false]);
    assert!((error - (0.8 + 0.2) / 3.0).abs() < 1e-12, "{error}");
    assert_eq!(calibration_error(&[1.0, 0.0], &[true, false]), 0.0);
}
