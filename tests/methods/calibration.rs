//! p-values where there is nothing to find: labels drawn at random.
//! Oracle: under the null a p is below 0.05 in 5 % of the neurons; bounds are 4.5 binomial standard
//! deviations. Discrete tests may be below by the mass of one outcome, added to the lower bound.

use electrode::methods::matrix::Values;
use electrode::methods::{METHODS, MatrixSource};

use super::support::{Random, run, source};

const ROWS: usize = 3000;
const NEURONS: usize = 600;

/// Skewed and heavy-tailed values, as activations are, independent of three unequal classes.
fn noise() -> MatrixSource {
    let mut random = Random(99);
    let values = (0..ROWS * NEURONS).map(|_| {
        let x = random.normal();
        (if x > 0.0 { x * x } else { 0.2 * x }) as f32
    });
    let values = Values::F32(values.collect());
    let class = |_| Some([0, 0, 0, 1, 1, 2][random.below(6)]);
    let labels: Vec<_> = (0..ROWS).map(class).collect();
    source(ROWS, values, &labels)
}

fn assert_five_percent(name: &str, p: &[f64], slack: f64) {
    assert!(p.iter().all(|p| (0.0..=1.0).contains(p)), "{name}");
    let share = p.iter().filter(|p| **p < 0.05).count() as f64 / p.len() as f64;
    let sd = (0.05 * 0.95 / p.len() as f64).sqrt();
    let bounds = 0.05 - slack - 4.5 * sd..=0.05 + 4.5 * sd;
    assert!(bounds.contains(&share), "{name}: {share} of p below 0.05, not in {bounds:?}");
}

#[test]
fn noise_is_significant_in_five_percent() {
    let source = noise();
    let claims: Vec<_> = METHODS
        .iter()
        .filter(|method| method.needs_labels && !["random", "topword"].contains(&method.name))
        .map(|method| method.name)
        .chain(["ap2:complement", "iou:tau=0.3", "corr:spearman", "selectivity:robust"])
        .collect();
    assert!(claims.len() >= 15);
    for method in claims {
        let ranking = run(method, &source);
        // The largest mass of one outcome near the 5 % point: firing in 5 % of 3000 rows.
        let slack = if method.starts_with("iou") { 0.025 } else { 0.0 };
        for group in ranking.groups.iter().chain(&ranking.overall) {
            let name = format!("{method} of class '{}'", group.name);
            assert_eq!(group.p.len(), NEURONS, "{name} claims significance");
            assert_five_percent(&name, &group.p, slack);
            let false_alarms = group.q.iter().filter(|q| **q < 0.001).count();
            assert!(false_alarms == 0, "{name}: {false_alarms} neurons at a rate of 0.001");
        }
    }
}
