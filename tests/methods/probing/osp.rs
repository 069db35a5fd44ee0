//! Optimal sparse probes. Oracles: the gap between objective and dual bound, which is a proof; subgradients;
//! every support fitted.

use electrode::methods::probing::Block;
use electrode::methods::probing::hinge::HingeProblem;
use electrode::methods::probing::logistic::balanced;
use electrode::methods::probing::osp::{candidates, optimal_support, prune};
use electrode::methods::probing::{Rows, class_moments};

use super::support::noise_block;
use crate::methods::support::Random;

/// Columns 1, 4 and 6 know the concept together; others are noise, some of it shared.
fn data(seed: u64, n: usize, d: usize) -> (Block, Vec<bool>) {
    let mut random = Random(seed);
    let mut x = noise_block(&mut random, n, d);
    let mut labels = Vec::new();
    for row in x.rows_mut() {
        let z = row[1] - 0.8 * row[4] + 0.6 * row[6] + 0.4 * random.normal();
        labels.push(z > 0.6);
        row[2] = 0.7 * row[1] + 0.5 * row[2];
        row[5] = -0.6 * row[4] + 0.6 * row[5];
    }
    (x, labels)
}

#[test]
fn a_hinge_fit_carries_its_own_proof() {
    for (seed, n, d, ridge) in [(1, 80, 7, 9.0), (2, 300, 8, 17.0), (3, 40, 30, 1.0)] {
        let (x, labels) = data(seed, n, d);
        let costs = balanced(&labels).expect("both kinds");
        let problem = HingeProblem { x: &x, labels: &labels, costs: &costs, ridge };
        let found = problem.fit(f64::INFINITY);
        // The multipliers are feasible: in their boxes, of the right sign, and they add up to 0.
        for ((m, cost), &yes) in found.multipliers.iter().zip(&costs).zip(&labels) {
            let alpha = if yes { *m } else { -m };
            assert!((-1e-12..=cost * (1.0 + 1e-12)).contains(&alpha));
        }
        assert!(found.multipliers.iter().sum::<f64>().abs() < 1e-9);
        assert!((found.bound - problem.bound(&found.multipliers)).abs() < 1e-9);
        let plain: f64 = x.rows().zip(&labels).zip(&costs).fold(0.0, |sum, ((row, &yes), c)| {
            let f: f64 =
                row.iter().zip(&found.weights).map(|(x, w)| x * w).sum::<f64>() + found.bias;
            sum + c * (1.0 - if yes { f } else { -f }).max(0.0)
        }) + 0.5 * ridge * found.weights.iter().map(|w| w * w).sum::<f64>();
        assert!((plain - found.objective).abs() < 1e-9 * plain);
        let gap = found.objective - found.bound;
        assert!(gap >= -1e-9 && gap <= 1e-7 * found.objective, "{n} x {d}: {gap:e}");
    }
}

#[test]
fn enumeration_with_bounds_finds_what_fitting_every_support_finds() {
    for (seed, k) in [(4, 1), (5, 2), (6, 3)] {
        let (x, labels) = data(seed, 120, 9);
        let costs = balanced(&labels).expect("both kinds");
        let rows: Vec<usize> = (0..120).collect();
        let mut best = (f64::INFINITY, Vec::new());
        let mut supports = 0;
        for mask in 0_u32..1 << 9 {
            if mask.count_ones() as usize != k {
                continue;
            }
            supports += 1;
            let columns: Vec<u32> = (0..9).filter(|c| mask >> c & 1 == 1).collect();
            let own = x.pick(&rows, &columns);
            let ridge = (120.0_f64).sqrt();
            let problem = HingeProblem { x: &own, labels: &labels, costs: &costs, ridge };
            let objective = problem.fit(f64::INFINITY).objective;
            if objective < best.0 {
                best = (objective, columns);
            }
        }
        let found = optimal_support(&x, &labels, k).expect("both kinds");
        assert_eq!(found.columns, best.1, "k = {k}");
        assert!((found.probe.objective - best.0).abs() < 1e-6 * best.0);
        assert!(found.exact && found.bound <= found.probe.objective);
        assert!(found.probe.objective - found.bound <= 1e-6 * best.0, "{found:?}");
        assert!(k == 1 || found.fits < supports, "{} of {supports} fitted", found.fits);
    }
}

#[test]
fn fifty_candidates_take_few_fits() {
    let (x, labels) = data(7, 400, 50);
    let found = optimal_support(&x, &labels, 3).expect("both kinds");
    assert_eq!(found.columns, [1, 4, 6]);
    assert!(found.exact);
    assert!(found.fits < 100, "{} of 19,600 fitted", found.fits);
}

#[test]
fn exchanges_are_marked_as_what_they_are() {
    let (x, labels) = data(8, 150, 8);
    let found = optimal_support(&x, &labels, 5).expect("both kinds");
    assert_eq!(found.columns.len(), 5);
    assert!([1, 4, 6].iter().all(|c| found.columns.contains(c)), "{:?}", found.columns);
    assert!(found.bound <= found.probe.objective);
    // More columns cannot be worse, and all of them cannot be beaten.
    let three = optimal_support(&x, &labels, 3).expect("both kinds");
    let all = optimal_support(&x, &labels, 99).expect("both kinds");
    assert!(found.probe.objective <= three.probe.objective * (1.0 + 1e-7));
    assert!(all.probe.objective <= found.probe.objective * (1.0 + 1e-7));
    assert!(all.exact, "the only support of its size");
    assert!(optimal_support(&x, &labels, 0).is_err());
    assert!(optimal_support(&x, &[true; 150], 1).is_err());
}

#[test]
fn pruning_takes_detectors_away_one_by_one() {
    let (x, labels) = data(9, 200, 7);
    let rounds = prune(&x, &labels, 3, 10).expect("both kinds");
    let taken: Vec<u32> = rounds.iter().map(|round| round.column).collect();
    let mut sorted = taken.clone();
    sorted.sort_unstable();
    assert!(sorted.into_iter().eq(0..7), "each once: {taken:?}");
    assert_eq!(taken[0], 1);
    assert!(rounds[0].alone.f1 > rounds[6].alone.f1 + 0.2);
    assert!(rounds.iter().all(|round| round.support.columns.contains(&round.column)));
}

#[test]
fn candidates_differ_most_in_their_means() {
    let values: [f32; 12] = [0.0, 5.0, 1.0, 0.0, 5.0, 2.0, 3.0, 5.0, 0.0, 3.0, 5.0, 0.5];
    let labels = [Some(0), Some(0), Some(1), Some(1)];
    let moments = class_moments(Rows::new(&values, 3), &labels, 2).expect("labelled");
    assert_eq!(candidates(&moments[0], &moments[1], 2), [0, 2]);
    assert_eq!(candidates(&moments[0], &moments[1], 1), [0]);
}
