//! Clusters of neurons. Oracles: average linkage by its definition (mean distance of all pairs, all of
//! them looked at), planted groups, O-const of methods.md, permutations.

use electrode::methods::algebra::Dense;
use electrode::methods::clustering::{Likeness, Tree};
use electrode::methods::similarity::Moments;

use super::support::{Random, largest_error};

/// Moments of rows at hand, shifted by the first.
pub(super) fn moments(x: &Dense) -> Moments {
    let shift = x.row(0).to_vec();
    let from = Dense::from_fn(x.rows(), x.columns(), |i, j| x.at(i, j) - shift[j]);
    let sum: Vec<f64> =
        (0..x.columns()).map(|j| (0..x.rows()).map(|i| from.at(i, j)).sum()).collect();
    Moments::from_sums(x.rows() as u64, &sum, from.transposed().product(&from), &shift)
}

/// Groups of like neurons with noise between them; every neuron's sign at random.
fn grouped(rows: usize, groups: &[usize], noise: f64, seed: u64) -> Dense {
    let mut random = Random(seed);
    let neurons: usize = groups.iter().sum();
    let mut x = Dense::zeros(rows, neurons);
    for i in 0..rows {
        let mut at = 0;
        for &size in groups {
            let shared = random.normal();
            for _ in 0..size {
                x.row_mut(i)[at] = shared + noise * random.normal();
                at += 1;
            }
        }
    }
    let signs: Vec<f64> = (0..neurons).map(|_| (random.uniform() - 0.5).signum()).collect();
    Dense::from_fn(rows, neurons, |i, j| signs[j] * x.at(i, j))
}

/// Merges the two nearest clusters again and again; heights and what is left at `distance`.
fn by_definition(distance: &Dense, cut: f64) -> (Vec<f64>, Vec<Vec<usize>>) {
    let mut clusters: Vec<Vec<usize>> = (0..distance.rows()).map(|n| vec![n]).collect();
    let (mut heights, mut flat) = (Vec::new(), clusters.clone());
    while clusters.len() > 1 {
        let mut best = (f64::INFINITY, 0, 0);
        for a in 0..clusters.len() {
            for b in a + 1..clusters.len() {
                let pairs =
                    clusters[a].iter().flat_map(|i| clusters[b].iter().map(move |j| (i, j)));
                let sum: f64 = pairs.map(|(i, j)| distance.at(*i, *j)).sum();
                let mean = sum / (clusters[a].len() * clusters[b].len()) as f64;
                if mean < best.0 {
                    best = (mean, a, b);
                }
            }
        }
        let joined = clusters.remove(best.2);
        clusters[best.1].extend(joined);
        clusters[best.1].sort_unstable();
        heights.push(best.0);
        if best.0 <= cut {
            flat = clusters.clone();
        }
    }
    flat.sort();
    (heights, flat)
}

#[test]
fn average_linkage_is_its_definition() {
    for seed in 0..4 {
        let x = grouped(60, &[1, 4, 2, 9, 1, 6, 3, 8], 0.4 + 0.3 * seed as f64, seed);
        let stats = moments(&x);
        let r = stats.correlations();
        for (likeness, cut) in [(Likeness::Absolute, 0.5), (Likeness::Signed, 0.7)] {
            let n = r.rows();
            let distance = Dense::from_fn(n, n, |i, j| match likeness {
                Likeness::Absolute => 1.0 - r.at(i, j).abs(),
                Likeness::Signed => 1.0 - r.at(i, j),
            });
            let (heights, flat) = by_definition(&distance, cut);
            let tree = Tree::new(&r, &stats.constant(), likeness);
            assert!(largest_error(&tree.heights(), &heights) <= 1e-12);
            let clusters = tree.cut(cut);
            assert_eq!(clusters.members(), flat);
            for (label, members) in flat.iter().enumerate() {
                assert!(members.iter().all(|&n| clusters.labels()[n] as usize == label));
            }
            let share = 1.0 - flat.len() as f64 / n as f64;
            assert!((clusters.redundancy() - share).abs() <= 1e-15);
        }
    }
}

#[test]
fn planted_groups_are_found_in_any_order() {
    let groups = [5, 1, 12, 3, 7];
    let x = grouped(400, &groups, 0.3, 11);
    let n = x.columns();
    let mut random = Random(5);
    let mut order: Vec<usize> = (0..n).collect();
    (1..n).rev().for_each(|i| order.swap(i, random.below(i + 1)));
    let shuffled = Dense::from_fn(x.rows(), n, |i, j| x.at(i, order[j]));
    let of = |x: &Dense| {
        let stats = moments(x);
        let r = stats.correlations();
        let clusters = Tree::new(&r, &stats.constant(), Likeness::Absolute).cut(0.5);
        (clusters.members().to_vec(), clusters.representatives(&r))
    };
    let (plain, chosen) = of(&x);
    assert_eq!(plain.iter().map(Vec::len).collect::<Vec<_>>(), groups);
    let (other, others) = of(&shuffled);
    let mut back: Vec<(Vec<usize>, u32)> = other
        .iter()
        .zip(others)
        .map(|(cluster, one)| {
            let mut named: Vec<usize> = cluster.iter().map(|&n| order[n]).collect();
            named.sort_unstable();
            (named, order[one as usize] as u32)
        })
        .collect();
    back.sort();
    assert_eq!(back, plain.into_iter().zip(chosen).collect::<Vec<_>>());
}

#[test]
fn representatives_are_most_like_the_rest_and_ties_go_to_the_first() {
    // 0 - 1 - 2 with 2 in the middle; 3 and 4 alike; 5 alone.
    let likeness = [
        [1.0, 0.6, -0.9, 0.0, 0.0, 0.1],
        [0.6, 1.0, 0.8, 0.0, 0.0, 0.0],
        [-0.9, 0.8, 1.0, 0.1, 0.0, 0.0],
        [0.0, 0.0, 0.1, 1.0, -0.7, 0.0],
        [0.0, 0.0, 0.0, -0.7, 1.0, 0.2],
        [0.1, 0.0, 0.0, 0.0, 0.2, 1.0],
    ];
    let r = Dense::new(6, 6, likeness.concat());
    let clusters = Tree::new(&r, &[false; 6], Likeness::Absolute).cut(0.5);
    assert_eq!(clusters.members(), [vec![0, 1, 2], vec![3, 4], vec![5]]);
    assert_eq!(clusters.representatives(&r), [2, 3, 5]);
    assert_eq!(clusters.redundancy(), 0.5);
    let signed = Tree::new(&r, &[false; 6], Likeness::Signed).cut(0.5);
    assert_eq!(signed.members(), [vec![0], vec![1, 2], vec![3], vec![4], vec![5]]);
}

/// O-const: a constant neuron, a duplicate, and one of the scale of 1e4.
#[test]
fn constant_neurons_stay_alone() {
    let mut random = Random(3);
    let mut x = Dense::from_fn(200, 6, |_, _| 0.0);
    for i in 0..200 {
        let [a, b, c] = [(); 3].map(|()| random.normal());
        x.row_mut(i).copy_from_slice(&[7.25, a, 1e4 * b, a, 0.0, c]);
    }
    let stats = moments(&x);
    assert_eq!(stats.constant(), [true, false, false, false, true, false]);
    let r = stats.correlations();
    assert!(r.values().iter().all(|r| r.is_finite()));
    assert_eq!((r.at(0, 0), r.at(0, 4), r.at(4, 1)), (1.0, 0.0, 0.0));
    let tree = Tree::new(&r, &stats.constant(), Likeness::Absolute);
    assert_eq!(tree.heights().len(), 3);
    let half = tree.cut(0.5);
    assert_eq!(half.members(), [vec![0], vec![1, 3], vec![2], vec![4], vec![5]]);
    assert_eq!(half.representatives(&r), [0, 1, 2, 4, 5]);
    // At 1 everything is joined but what is constant.
    assert_eq!(tree.cut(1.0).members(), [vec![0], vec![1, 2, 3, 5], vec![4]]);
    let none = Tree::new(&Dense::zeros(0, 0), &[], Likeness::Absolute).cut(0.5);
    assert_eq!((none.members().len(), none.redundancy()), (0, 0.0));
}
