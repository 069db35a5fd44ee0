//! `rank-stability`: one ranking asked several times, from other seeds, without one shard each, of
//! other layers or checkpoints.

use super::correlation::{kendall_tau_b, rank_biased_overlap};
use super::ranked::Ranked;
use super::sets::{chance_overlap, jaccard_matrix};
use crate::error::{Error, Result};
use crate::methods::algebra::Dense;

/// How every two of M rankings agree, `[M, M]` each.
#[derive(Clone, Debug, PartialEq)]
pub struct Stability {
    /// Overlap of the top neurons.
    pub jaccard: Dense,
    /// Rank-biased overlap of the whole lists.
    pub rank_biased: Dense,
    /// Kendall's tau-b over the neurons that both rank, of the pairs (0, 1), (0, 2) .. (1, 2) ..; none if
    /// they have fewer than two, or one side is all ties.
    pub tau: Vec<Option<f64>>,
    /// What random rankings overlap.
    pub chance: f64,
}

impl Stability {
    /// The mean over all pairs of a matrix of this.
    pub fn mean(matrix: &Dense) -> f64 {
        let m = matrix.rows();
        let pairs = (m * m.saturating_sub(1) / 2).max(1) as f64;
        let above = (0..m).flat_map(|i| matrix.row(i)[i + 1..].iter());
        above.sum::<f64>() / pairs
    }

    /// The mean of tau over the pairs that have one.
    pub fn mean_tau(&self) -> Option<f64> {
        let known: Vec<f64> = self.tau.iter().flatten().copied().collect();
        (!known.is_empty()).then(|| known.iter().sum::<f64>() / known.len() as f64)
    }
}

/// Compares two or more rankings of `neurons` neurons: their top `size`, and their lists with `p` of
/// [`rank_biased_overlap`]. An error if there are fewer, if one is shorter than `size`, or p is not
/// between 0 and 1.
pub fn stability(rankings: &[Ranked], size: usize, neurons: usize, p: f64) -> Result<Stability> {
    if rankings.len() < 2 {
        return Err(Error::config(
            "rank-stability",
            format!("{} ranking to compare", rankings.len()),
            "give two at least",
        ));
    }
    if !(p > 0.0 && p < 1.0) {
        return Err(Error::config(
            "rank-stability p",
            format!("{p} is no probability of reading on"),
            "give a number between 0 and 1, as 0.9",
        ));
    }
    rankings.iter().try_for_each(|ranking| ranking.check(neurons))?;
    let tops: Vec<Vec<u32>> =
        rankings.iter().map(|ranking| ranking.top(size)).collect::<Result<_>>()?;
    let scores: Vec<Vec<Option<f64>>> =
        rankings.iter().map(|ranking| by_neuron(ranking, neurons)).collect();
    let mut tau = Vec::new();
    let mut rank_biased = Dense::identity(rankings.len());
    for i in 0..rankings.len() {
        for j in i + 1..rankings.len() {
            let both = scores[i].iter().zip(&scores[j]).filter_map(|(a, b)| (*a).zip(*b));
            let (a, b): (Vec<f64>, Vec<f64>) = both.unzip();
            tau.push(kendall_tau_b(&a, &b));
            let agree = rank_biased_overlap(rankings[i].order, rankings[j].order, p);
            rank_biased.row_mut(i)[j] = agree;
            rank_biased.row_mut(j)[i] = agree;
        }
    }
    let chance = chance_overlap(size, neurons);
    Ok(Stability { jaccard: jaccard_matrix(&tops), rank_biased, tau, chance })
}

/// The score of each neuron that is ranked; without scores, its place from the end.
fn by_neuron(ranking: &Ranked, neurons: usize) -> Vec<Option<f64>> {
    let mut out = vec![None; neurons];
    for (place, &neuron) in ranking.order.iter().enumerate() {
        let score = ranking.scores.get(place).copied().unwrap_or(-(place as f64));
        out[neuron as usize] = Some(score);
    }
    out
}
