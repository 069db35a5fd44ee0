//! Contrast-consistent search. Oracle: a planted direction along which statements and their negations are
//! opposite, and the loss by finite differences of a fit that cannot be bettered nearby.

use electrode::methods::probing::Rows;
use electrode::methods::probing::ccs::{CcsSettings, Pairs};
use electrode::methods::probing::draw::split;

use super::support::noise;
use crate::methods::support::Random;

const D: usize = 8;
const N: usize = 120;

/// Neuron 3 is +1 or -1 with the truth of the form; all neurons know which form it is by an offset.
fn pairs(seed: u64) -> ([Vec<f32>; 2], Vec<bool>) {
    let mut random = Random(seed);
    let truth: Vec<bool> = (0..N).map(|_| random.uniform() < 0.5).collect();
    let mut sides = [0.3, -0.7].map(|offset: f32| {
        noise(&mut random, N * D).into_iter().map(|x| 0.3 * x + 5.0 * offset).collect::<Vec<_>>()
    });
    for (i, &yes) in truth.iter().enumerate() {
        let sign = if yes { 1.0 } else { -1.0 };
        sides[0][i * D + 3] += sign;
        sides[1][i * D + 3] -= sign;
    }
    (sides, truth)
}

fn chosen(sides: &[Vec<f32>; 2], rows: &[usize]) -> [Vec<f32>; 2] {
    [0, 1].map(|side| rows.iter().flat_map(|&i| sides[side][i * D..(i + 1) * D].to_vec()).collect())
}

fn as_pairs(sides: &[Vec<f32>; 2]) -> Pairs<'_> {
    Pairs { yes: Rows::new(&sides[0], D), no: Rows::new(&sides[1], D) }
}

#[test]
fn the_planted_direction_is_found_and_its_sign_fixed() {
    let (sides, truth) = pairs(1);
    let settings = CcsSettings { rate: 1e-2, restarts: 4, epochs: 600, ..CcsSettings::default() };
    let (tenth, rest) = split(N, 0.1, 3);
    let mut probe = settings.fit(as_pairs(&sides)).expect("pairs");
    assert_eq!(probe, settings.fit(as_pairs(&sides)).expect("pairs"), "the seed decides");
    let largest = (0..D).max_by(|&a, &b| probe.weights[a].abs().total_cmp(&probe.weights[b].abs()));
    assert_eq!(largest, Some(3));
    let pick = |rows: &[usize]| rows.iter().map(|&i| truth[i]).collect::<Vec<bool>>();
    let (held, others) = (chosen(&sides, &tenth), chosen(&sides, &rest));
    probe.orient(as_pairs(&held), &pick(&tenth));
    assert!(!probe.orient(as_pairs(&held), &pick(&tenth)), "turned once at most");
    assert!(probe.weights[3] > 0.0);
    let found = probe.judge(as_pairs(&others), &pick(&rest));
    assert!(found.oriented > 0.95 && found.either_way == found.oriented, "{found:?}");
    // With the opposite labels the sign is wrong everywhere, which the unsigned accuracy hides.
    let opposite: Vec<bool> = pick(&rest).iter().map(|yes| !yes).collect();
    let wrong = probe.judge(as_pairs(&others), &opposite);
    assert!(wrong.oriented < 0.05 && wrong.either_way > 0.95, "{wrong:?}");
}

#[test]
fn restarts_only_help_and_the_loss_is_the_formula_s() {
    let (sides, _) = pairs(2);
    let settings = CcsSettings { rate: 1e-2, epochs: 200, restarts: 1, ..CcsSettings::default() };
    let one = settings.fit(as_pairs(&sides)).expect("pairs");
    let many = CcsSettings { restarts: 5, ..settings }.fit(as_pairs(&sides)).expect("pairs");
    assert!(many.loss <= one.loss);
    let p = |side: usize, i: usize| {
        let row = &sides[side][i * D..(i + 1) * D];
        let centred = row.iter().zip(&one.centres[side]).zip(&one.weights);
        let z: f64 = centred.map(|((&x, c), w)| (f64::from(x) - c) * w).sum();
        1.0 / (1.0 + (-(z + one.bias)).exp())
    };
    let term = |i: usize| (p(0, i) - (1.0 - p(1, i))).powi(2) + p(0, i).min(p(1, i)).powi(2);
    let loss = (0..N).map(term).sum::<f64>() / N as f64;
    assert!((one.loss - loss).abs() < 1e-12, "{} {loss}", one.loss);
    let start = CcsSettings { epochs: 0, ..settings }.fit(as_pairs(&sides)).expect("pairs");
    assert!(one.loss < 0.5 * start.loss, "{} {}", one.loss, start.loss);
    let plain = CcsSettings { bias: false, ..settings }.fit(as_pairs(&sides)).expect("pairs");
    assert_eq!(plain.bias, 0.0);
    let half = [sides[0].clone(), sides[1][..D * 5].to_vec()];
    assert!(settings.fit(as_pairs(&half)).is_err(), "forms without their other");
}
