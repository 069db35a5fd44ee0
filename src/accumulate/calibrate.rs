//! Shifts and bin edges from a few rows read beforehand. They are fixed before the first block and
//! part of the run's identity, so that histograms and sums of all blocks add.

use rayon::prelude::*;

use crate::config::StatisticsConfig;
use crate::device::statistics::StatisticsPlan;

/// The plan of a site, from the activations `x` of the calibration rows, `[rows, N]`.
///
/// The shift is the mean of the finite values. An edge that many rows share, as 0 behind a ReLU, is repeated: the bins between its
/// copies stay empty, and no value is split.
pub fn calibrate(
    config: &StatisticsConfig,
    neurons: usize,
    groups: usize,
    x: &[f32],
) -> StatisticsPlan {
    assert!(neurons > 0 && x.len().is_multiple_of(neurons));
    let of_neurons: Vec<(f32, Vec<f32>)> = (0..neurons)
        .into_par_iter()
        .map(|neuron| {
            let mut values: Vec<f32> =
                x.iter().skip(neuron).step_by(neurons).copied().filter(|x| x.is_finite()).collect();
            // In the order of the rows: the sum does not depend on how equal values were sorted.
            let sum: f64 = values.iter().map(|&x| f64::from(x)).sum();
            values.sort_unstable_by(f32::total_cmp);
            let mean = sum / values.len().max(1) as f64;
            (mean as f32, edges(&values, config.bins))
        })
        .collect();
    StatisticsPlan {
        neurons,
        groups,
        bins: config.bins,
        shift: of_neurons.iter().map(|(shift, _)| *shift).collect(),
        edges: of_neurons.into_iter().flat_map(|(_, edges)| edges).collect(),
        top: config.top,
        bottom: config.bottom,
        sample: config.sample,
        sample_seed: config.seed,
    }
}

/// The `bins - 1` edges: half of them cut equal shares of the ascending `values`, so that common
/// concepts are resolved; half are evenly spaced in the log odds of the share, to about 1 in 1,000
/// on each side, so that rare ones are.
fn edges(values: &[f32], bins: usize) -> Vec<f32> {
    let Some(last) = values.len().checked_sub(1) else { return vec![0.0; bins.max(1) - 1] };
    let at = |share: f64| {
        // Bin of x = number of edges e with x > e: the share ends with the edge itself.
        let rank = (share * values.len() as f64).ceil() as usize;
        values[rank.saturating_sub(1).min(last)]
    };
    let mut edges: Vec<f32> = shares(bins).into_iter().map(at).collect();
    edges.sort_unstable_by(f32::total_cmp);
    edges
}

/// The shares below each edge, see [`edges`].
fn shares(bins: usize) -> Vec<f64> {
    let count = bins.max(1) - 1;
    let even = count.div_ceil(2);
    let spaced = |i: usize, n: usize| (i as f64 + 1.0) / (n as f64 + 1.0);
    let tail = |i: usize| {
        let log_odds = (spaced(i, count - even) * 2.0 - 1.0) * 7.0;
        1.0 / (1.0 + (-log_odds).exp())
    };
    (0..even).map(|i| spaced(i, even)).chain((0..count - even).map(tail)).collect()
}

#[cfg(test)]
mod tests {
    //! Oracle: by hand.
    use super::*;

    #[test]
    fn edges_cut_shares_and_tails() {
        let config = StatisticsConfig { bins: 4, ..Default::default() };
        let x: Vec<f32> = (0..16).rev().flat_map(|i| [i as f32, 0.0, f32::NAN]).collect();
        let plan = calibrate(&config, 3, 5, &x);
        assert_eq!(plan.shift, [7.5, 0.0, 0.0]);
        // Shares 1/3 and 2/3, and one half between them: ranks 6, 8, 11 of 16.
        assert_eq!(plan.edges, [5.0, 7.0, 10.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]);
        assert_eq!((plan.groups, plan.top, plan.sample), (5, 30, 256));
    }

    #[test]
    fn no_rows_and_no_bins_still_make_a_plan() {
        let config = StatisticsConfig { bins: 0, ..Default::default() };
        assert!(calibrate(&config, 2, 0, &[1.0, 2.0]).edges.is_empty());
        let plan = calibrate(&StatisticsConfig::default(), 2, 0, &[]);
        assert_eq!((plan.shift, plan.edges), (vec![0.0; 2], vec![0.0; 126]));
    }

    #[test]
    fn the_default_matches_the_statistics() {
        let plan = calibrate(&StatisticsConfig::default(), 3, 2, &[0.5; 30]);
        crate::device::statistics::SiteStatistics::new(&plan);
        assert!(plan.edges.is_sorted());
    }
}
