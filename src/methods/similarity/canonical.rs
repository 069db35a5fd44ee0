//! Canonical correlations of two sets of neurons (Hotelling 1936), of their leading directions (SVCCA,
//! Raghu et al. 2017) and weighted by what the directions say of the neurons (PWCCA, Morcos et al.
//! 2018). Eigenvectors of covariances stand for the singular vectors of the rows.
//!
//! Whether neurons are standardised first is the caller's choice: `Moments::standardised` and
//! `cross_correlations` do it. Wu et al. 2020 do not.

use super::moments::Moments;
use crate::error::{Error, Result};
use crate::methods::algebra::{Dense, eigen, singular};
use crate::methods::ranking::{GroupRanking, Score};

/// Share of variance that SVCCA keeps (Raghu et al. 2017; Wu et al. 2020).
pub const SHARE: f64 = 0.99;
/// Directions with at most this share of the standard deviation of the first count as 0 in the
/// pseudo-inverse of `xmodel-linreg`. It asks for covariances in f64 throughout: sums of f32 leave
/// noise of about 1e-3 of it, and want a cut above that.
pub const CUT: f64 = 1e-6;
/// An eigenvalue below this share of the largest is what rounding left of 0.
const NOISE: f64 = 1e-14;

/// Which directions of a covariance are kept, in descending order of their variance. Directions
/// without variance never are.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Keep {
    /// The fewest whose variance is at least this share of all.
    Share(f64),
    /// That many.
    Dimensions(usize),
    /// Those with more than this share of the standard deviation of the first: a relative cut of
    /// singular values of the rows.
    Above(f64),
}

/// Uncorrelated directions of one set of neurons, each of variance 1.
#[derive(Clone, Debug, PartialEq)]
pub struct Basis {
    /// `[N, k]`: column i is what direction i reads of the neurons.
    pub whitening: Dense,
}

impl Basis {
    /// The leading directions of a covariance `[N, N]`; with N above 1000 most of the time of what is
    /// here, and it serves every pair the set is in. An error if it holds NaN or infinities.
    pub fn of(covariance: &Dense, keep: Keep) -> Result<Self> {
        let found = eigen(covariance).ok_or_else(|| {
            Error::config(
                "covariance",
                "it holds NaN or infinite numbers",
                "leave rows with such activations out",
            )
        })?;
        let most = found.values.first().copied().unwrap_or(0.0);
        let live = found.above((most * NOISE).max(0.0));
        let dims = match keep {
            Keep::Dimensions(dims) => dims,
            Keep::Above(cut) => found.above((most * cut * cut).max(0.0)),
            Keep::Share(share) => {
                let all: f64 = found.values.iter().map(|value| value.max(0.0)).sum();
                let mut sum = 0.0;
                let mut reached = found.values.iter().map(|value| {
                    sum += value.max(0.0);
                    sum / all >= share
                });
                reached.position(|reached| reached).map_or(live, |last| last + 1)
            }
        };
        Ok(Self { whitening: found.whitening(dims.min(live)) })
    }

    /// Directions kept.
    pub fn dimensions(&self) -> usize {
        self.whitening.columns()
    }
}

/// Pairs of directions, one on each side, that agree most, each uncorrelated with those before.
#[derive(Clone, Debug, PartialEq)]
pub struct Canonical {
    /// Canonical correlations, descending, in 0..=1; as many as the smaller side has directions.
    pub correlations: Vec<f64>,
    /// `[N, k]`: column i is what variate i reads of the left neurons; it has variance 1.
    pub left: Dense,
    /// `[N, k]`, of the right neurons.
    pub right: Dense,
}

/// Canonical correlations within two bases, from the cross-covariance `[left, right]` of the neurons
/// over `rows` rows: SVCCA with bases of [`Keep::Share`]. An error if there are no more rows than
/// directions, where any two sets agree.
pub fn canonical(left: &Basis, right: &Basis, cross: &Dense, rows: u64) -> Result<Canonical> {
    let dims = left.dimensions().max(right.dimensions());
    if rows <= dims as u64 {
        return Err(Error::config(
            "canonical correlations",
            format!("{rows} rows for {dims} directions: any two sets would agree"),
            "read more text, or keep fewer directions",
        ));
    }
    let whitened = left.whitening.transposed().product(&cross.product(&right.whitening));
    let found = singular(&whitened).ok_or_else(|| {
        Error::config(
            "cross-covariance",
            "it holds NaN or infinite numbers",
            "leave rows with such activations out",
        )
    })?;
    Ok(Canonical {
        correlations: found.values.iter().map(|r| r.min(1.0)).collect(),
        left: left.whitening.product(&found.left),
        right: right.whitening.product(&found.right),
    })
}

impl Canonical {
    /// The mean canonical correlation: SVCCA's similarity. 0 without any.
    pub fn mean(&self) -> f64 {
        let sum: f64 = self.correlations.iter().sum();
        sum / self.correlations.len().max(1) as f64
    }

    /// PWCCA's similarity: canonical correlations weighted by `Σ_j |cov(variate, neuron j)|` over the
    /// left neurons, whose `covariance` this is. Not symmetric: the other way round, ask the pair the
    /// other way round. 0 without any.
    pub fn projection_weighted(&self, covariance: &Dense) -> f64 {
        let shared = covariance.product(&self.left);
        let mut weights = vec![0.0; self.correlations.len()];
        for j in 0..shared.rows() {
            weights.iter_mut().zip(shared.row(j)).for_each(|(weight, x)| *weight += x.abs());
        }
        let all: f64 = weights.iter().sum();
        let sum: f64 = weights.iter().zip(&self.correlations).map(|(w, r)| w * r).sum();
        if all > 0.0 { sum / all } else { 0.0 }
    }

    /// The left neurons by their loading on the first `top` variates (Bau et al. 2019): the root of
    /// the share of a neuron's variance that these variates explain, which with one is |r| with it.
    /// Directions that agree equally well may be turned into each other; that share does not change.
    pub fn loadings(&self, left: &Moments, top: usize) -> GroupRanking {
        let shared = left.covariance.product(&self.left);
        let constant = left.constant();
        let score = |j: usize| {
            let explained: f64 = shared.row(j).iter().take(top).map(|x| x * x).sum();
            let share = if constant[j] { 0.0 } else { explained / left.covariance.at(j, j) };
            Score::unsigned(share.min(1.0).sqrt(), None)
        };
        let scores: Vec<Score> = (0..left.neurons()).map(score).collect();
        GroupRanking::from_scores(&scores, &constant)
    }
}
