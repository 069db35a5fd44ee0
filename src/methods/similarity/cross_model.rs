//! `xmodel-max`, `xmodel-min` and `xmodel-linreg` (Bau et al. 2019; Dalvi et al. 2019; Wu et al. 2020):
//! neurons that other models have too, which read the same words.

use super::canonical::Basis;
use super::moments::Moments;
use crate::methods::algebra::Dense;

/// The neuron of another model that is most like one of ours.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Partner {
    /// Of equals the first; none if ours is constant, or all of theirs are.
    pub neuron: Option<u32>,
    /// Pearson's r with it, signed.
    pub r: f64,
}

/// The best partner of each row of `correlations` `[ours, theirs]`: the score of `max` and `min` is
/// |r|.
pub fn best_partners(correlations: &Dense) -> Vec<Partner> {
    let best = |i: usize| {
        let mut best = Partner::default();
        for (other, &r) in (0_u32..).zip(correlations.row(i)) {
            if r.abs() > best.r.abs() {
                best = Partner { neuron: Some(other), r };
            }
        }
        best
    };
    (0..correlations.rows()).map(best).collect()
}

/// R^2 of each left neuron regressed, with intercept, on all neurons of another model:
/// `c_n^T S^+ c_n / s_nn`, the pseudo-inverse S^+ of their covariance being that of `right`, which is
/// `Basis::of(covariance, Keep::Above(CUT))` and serves every layer of ours. `cross` is `[left, right]`.
/// 0 for constant neurons. The score of `linreg` is its root.
pub fn explained(left: &Moments, right: &Basis, cross: &Dense) -> Vec<f64> {
    let shared = cross.product(&right.whitening);
    let constant = left.constant();
    let share = |n: usize| {
        let explained: f64 = shared.row(n).iter().map(|x| x * x).sum();
        if constant[n] { 0.0 } else { (explained / left.covariance.at(n, n)).min(1.0) }
    };
    (0..left.neurons()).map(share).collect()
}

/// How the scores of several other models become one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Across {
    /// The largest: in at least one other model.
    Any,
    /// The smallest: in all of them.
    All,
}

/// One score for each neuron from its scores with each other model, `[models][neurons]`.
pub fn across(scores: &[Vec<f64>], how: Across) -> Vec<f64> {
    let pick = |a: f64, b: f64| match how {
        Across::Any => a.max(b),
        Across::All => a.min(b),
    };
    let neurons = scores.first().map_or(0, Vec::len);
    assert!(scores.iter().all(|of_model| of_model.len() == neurons), "the same neurons in each");
    (0..neurons).map(|n| scores.iter().map(|m| m[n]).reduce(pick).unwrap_or(0.0)).collect()
}
