//! `avgoverlap` and `neuronvote`: how far a method agrees with the others, which stands in for a
//! ground truth that nobody has (Fan et al., NeurIPS 2023).

use super::ranked::Ranked;
use super::sets::{chance_overlap, jaccard, jaccard_matrix};
use crate::error::{Error, Result};
use crate::methods::algebra::Dense;

/// Places of a ranking that carry votes.
pub const DEPTH: usize = 100;

/// Agreement of several rankings of one concept in one place; means over concepts and layers are taken
/// by those who ask.
#[derive(Clone, Debug, PartialEq)]
pub struct Compatibility {
    /// By ranking: the mean overlap of its top with that of each other judge.
    pub average_overlap: Vec<f64>,
    /// By ranking: the overlap of its top with that of the other judges' vote.
    pub neuron_vote: Vec<f64>,
    /// Families of the judges, each once, in the order they first stand in.
    pub families: Vec<String>,
    /// `[rankings][families]`: the mean overlap with the family's other judges; none if it has none.
    /// Four linear probes outvote one of another kind, and this shows it.
    pub by_family: Vec<Vec<Option<f64>>>,
    /// Overlap of every two rankings, `[rankings, rankings]`.
    pub overlap: Dense,
    /// The overlap of random rankings.
    pub chance: f64,
}

/// Compares the top `size` of rankings of `neurons` neurons. A ranking never judges itself. An error if
/// one is shorter than `size`, or has no other judge.
pub fn compatibility(rankings: &[Ranked], size: usize, neurons: usize) -> Result<Compatibility> {
    rankings.iter().try_for_each(|ranking| ranking.check(neurons))?;
    let tops: Vec<Vec<u32>> =
        rankings.iter().map(|ranking| ranking.top(size)).collect::<Result<_>>()?;
    let overlap = jaccard_matrix(&tops);
    let judges_of = |of: usize| -> Vec<usize> {
        (0..rankings.len()).filter(|&other| other != of && rankings[other].judges).collect()
    };
    let mut families: Vec<&str> = Vec::new();
    for ranking in rankings.iter().filter(|ranking| ranking.judges) {
        if !families.contains(&ranking.family) {
            families.push(ranking.family);
        }
    }
    let (mut averages, mut votes, mut by_family) = (Vec::new(), Vec::new(), Vec::new());
    for (of, ranking) in rankings.iter().enumerate() {
        let judges = judges_of(of);
        let mean = |keep: &dyn Fn(usize) -> bool| {
            let kept = judges.iter().filter(|&&judge| keep(judge));
            let found: Vec<f64> = kept.map(|&judge| overlap.at(of, judge)).collect();
            (!found.is_empty()).then(|| found.iter().sum::<f64>() / found.len() as f64)
        };
        averages.push(mean(&|_| true).ok_or_else(|| {
            Error::config(
                format!("ranking '{}'", ranking.name),
                "there is no other ranking to judge it",
                "compare two rankings at least",
            )
        })?);
        let family = |family: &&str| mean(&|judge| rankings[judge].family == *family);
        by_family.push(families.iter().map(family).collect());
        let orders: Vec<&[u32]> = judges.iter().map(|&judge| rankings[judge].order).collect();
        votes.push(jaccard(&tops[of], &elected(&orders, size, neurons)));
    }
    Ok(Compatibility {
        average_overlap: averages,
        neuron_vote: votes,
        families: families.into_iter().map(str::to_owned).collect(),
        by_family,
        overlap,
        chance: chance_overlap(size, neurons),
    })
}

/// Borda's count: of the first [`DEPTH`] neurons of each order (or of as many as it has), the first gets
/// as many points as there are, the last 1. By neuron.
pub fn borda(orders: &[&[u32]], neurons: usize) -> Vec<u64> {
    let mut points = vec![0; neurons];
    for order in orders {
        let voted = &order[..DEPTH.min(order.len())];
        for (neuron, vote) in voted.iter().rev().zip(1..) {
            points[*neuron as usize] += vote;
        }
    }
    points
}

/// The neurons with the most points, of equals the first, ascending.
fn elected(orders: &[&[u32]], size: usize, neurons: usize) -> Vec<u32> {
    let points = borda(orders, neurons);
    let mut all: Vec<u32> = (0..).take(neurons).collect();
    all.sort_by_key(|&neuron| std::cmp::Reverse(points[neuron as usize]));
    all.truncate(size);
    all.sort_unstable();
    all
}
