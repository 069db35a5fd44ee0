//! Neurons that say the same: average-linkage clusters at distance `1 - |r|`, as in Dalvi et al. 2020
//! (redundancy). Needs memory for the square of the number of neurons.

use rayon::prelude::*;

use super::activations::Matrix;

/// Neurons whose variance is at most this share of `max(1, mean^2)` are constant.
const CONSTANT: f64 = 1e-12;

/// Magnitudes of the correlations of all columns, `[columns, columns]`. A constant column is like
/// no other: 0, and 1 with itself.
pub fn correlations(matrix: &Matrix) -> Vec<f64> {
    let unit: Vec<Vec<f64>> =
        (0..matrix.columns).into_par_iter().map(|column| unit_column(matrix, column)).collect();
    let row = |a: usize| {
        let unit = &unit;
        (0..unit.len()).map(move |b| {
            if a == b {
                return 1.0;
            }
            let r: f64 = unit[a].iter().zip(&unit[b]).map(|(x, y)| x * y).sum();
            r.abs().min(1.0)
        })
    };
    (0..unit.len()).into_par_iter().flat_map_iter(row).collect()
}

/// A column less its mean, of length 1; all 0 if it is constant.
fn unit_column(matrix: &Matrix, column: usize) -> Vec<f64> {
    let values = || matrix.values.iter().skip(column).step_by(matrix.columns);
    #[expect(clippy::cast_precision_loss, reason = "fewer than 2^53 rows")]
    let rows = matrix.rows as f64;
    let mean = values().sum::<f64>() / rows;
    let mut centred: Vec<f64> = values().map(|x| x - mean).collect();
    let squares: f64 = centred.iter().map(|x| x * x).sum();
    let constant = squares / rows <= CONSTANT * (mean * mean).max(1.0);
    let factor = if constant { 0.0 } else { 1.0 / squares.sqrt() };
    centred.iter_mut().for_each(|x| *x *= factor);
    centred
}

/// `count` clusters by average linkage, from the similarities `[n, n]`; each ascending, and the
/// clusters by their first member.
pub fn clusters(similarity: &[f64], n: usize, count: usize) -> Vec<Vec<usize>> {
    assert_eq!(similarity.len(), n * n, "a square of {n}");
    let merges = linkage(similarity.iter().map(|r| 1.0 - r).collect(), n);
    joined(&merges[..n - count.clamp(1, n)], n)
}

/// What `joins` make of 0..n: each cluster ascending, and the clusters by their first member.
pub fn joined(joins: &[Join], n: usize) -> Vec<Vec<usize>> {
    let mut parent: Vec<usize> = (0..n).collect();
    for join in joins {
        let (a, b) = (root(&parent, join.a), root(&parent, join.b));
        parent[a.max(b)] = a.min(b);
    }
    let mut clusters: Vec<Vec<usize>> = vec![Vec::new(); n];
    for member in 0..n {
        clusters[root(&parent, member)].push(member);
    }
    clusters.retain(|cluster| !cluster.is_empty());
    clusters
}

fn root(parent: &[usize], mut at: usize) -> usize {
    while parent[at] != at {
        at = parent[at];
    }
    at
}

/// Two clusters become one; each is named by one of its members.
#[derive(Clone, Debug, PartialEq)]
pub struct Join {
    /// The smaller name, which the new cluster keeps.
    pub a: usize,
    /// The larger name.
    pub b: usize,
    /// Mean distance of the members of one from those of the other.
    pub height: f64,
}

/// Average linkage of distances `[n, n]`, symmetric: the n - 1 joins by ascending height. Every pair
/// is joined that is nearest to each other (chains of nearest neighbours, Murtagh 1983), in time and
/// memory of n^2.
pub fn linkage(mut distance: Vec<f64>, n: usize) -> Vec<Join> {
    assert_eq!(distance.len(), n * n, "a square of {n}");
    let mut size = vec![1.0_f64; n];
    let mut active: Vec<usize> = (0..n).collect();
    let (mut merges, mut chain) = (Vec::with_capacity(n.saturating_sub(1)), Vec::<usize>::new());
    while active.len() > 1 {
        let top = *chain.last().unwrap_or(&active[0]);
        if chain.is_empty() {
            chain.push(top);
        }
        let before = chain.len().checked_sub(2).map(|at| chain[at]);
        // Of equals the one before, else the chain might go in circles; then the first.
        let others = before.into_iter().chain(active.iter().copied().filter(|&c| c != top));
        let nearest = others
            .reduce(|a, b| if distance[top * n + b] < distance[top * n + a] { b } else { a })
            .expect("there are two");
        if Some(nearest) != before {
            chain.push(nearest);
            continue;
        }
        chain.truncate(chain.len() - 2);
        let (a, b) = (top.min(nearest), top.max(nearest));
        merges.push(Join { a, b, height: distance[a * n + b] });
        active.retain(|&cluster| cluster != b);
        for &other in active.iter().filter(|&&other| other != a) {
            let sum = size[a] * distance[a * n + other] + size[b] * distance[b * n + other];
            let mean = sum / (size[a] + size[b]);
            distance[a * n + other] = mean;
            distance[other * n + a] = mean;
        }
        size[a] += size[b];
    }
    merges.sort_by(|a, b| a.height.total_cmp(&b.height));
    merges
}

/// The member that is most like the others by `similarity(a, b)`: the highest mean, of equals the
/// first.
pub fn representative(cluster: &[usize], similarity: impl Fn(usize, usize) -> f64) -> usize {
    let likeness = |&a: &usize| -> f64 {
        cluster.iter().filter(|&&b| b != a).map(|&b| similarity(a, b)).sum()
    };
    let better = |a: (usize, f64), b: (usize, f64)| if b.1 > a.1 { b } else { a };
    let members = cluster.iter().map(|a| (*a, likeness(a)));
    members.reduce(better).expect("a cluster has a member").0
}
