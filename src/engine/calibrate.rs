//! Calibration: shifts and bin edges from a small sample of documents, fixed before the pass and
//! part of its identity. It is the same pass with nothing but a row sample.

use std::sync::Arc;

use rayon::prelude::*;

use super::pass::run_batch;
use super::watch::StatisticsWatch;
use crate::config::{Pool, StatisticsConfig};
use crate::corpus::batch::pack;
use crate::corpus::block::Sequence;
use crate::device::forward::Forward;
use crate::device::ops::Ops;
use crate::device::statistics::{RowSample, StatisticsPlan};
use crate::error::{Error, Result};
use crate::id::Site;

/// Runs the calibration sequences and gives the plan of every site.
pub fn calibrate<O: Ops>(
    forward: &mut Forward<O>,
    sites: &[Site],
    sequences: &[Sequence],
    (config, pool, groups): (&StatisticsConfig, Pool, usize),
) -> Result<Vec<(Site, Arc<StatisticsPlan>)>> {
    let sampling: Vec<_> = sites
        .iter()
        .map(|&site| {
            let neurons = forward.spec().site_width(site);
            (site, Arc::new(sampling_plan(neurons, groups, config)))
        })
        .collect();
    let mut watch = StatisticsWatch::new(forward.ops(), &sampling, pool, config.batch_tokens)?;
    for batch in pack(sequences, config.batch_tokens) {
        run_batch(forward, &batch, &mut watch)?;
    }
    let samples = watch.samples(forward.ops());
    samples
        .into_iter()
        .map(|(site, sample)| {
            if sample.rows.is_empty() {
                let what = "no rows to calibrate on: every word or token is excluded";
                return Err(Error::input("corpus", what, "see capture.first_position and special_tokens"));
            }
            let neurons = forward.spec().site_width(site);
            Ok((site, Arc::new(plan_from_sample(neurons, &sample, groups, config))))
        })
        .collect()
}

fn sampling_plan(neurons: usize, groups: usize, config: &StatisticsConfig) -> StatisticsPlan {
    StatisticsPlan {
        neurons,
        groups,
        bins: 0,
        edges: Vec::new(),
        shift: vec![0.0; neurons],
        top: 0,
        bottom: 0,
        sample: config.calibration_rows.max(1),
        sample_seed: config.seed,
    }
}

/// Means and quantiles of each column of the sample.
fn plan_from_sample(
    neurons: usize,
    sample: &RowSample,
    groups: usize,
    config: &StatisticsConfig,
) -> StatisticsPlan {
    let levels = levels(config.bins);
    let columns: Vec<(f32, Vec<f32>)> = (0..neurons)
        .into_par_iter()
        .map(|neuron| {
            let values = sample.values.iter().skip(neuron).step_by(neurons);
            let mut column: Vec<f32> = values.copied().filter(|x| x.is_finite()).collect();
            column.sort_unstable_by(f32::total_cmp);
            let sum: f64 = column.iter().map(|&x| f64::from(x)).sum();
            #[expect(clippy::cast_possible_truncation, reason = "a shift need not be exact")]
            let mean = if column.is_empty() { 0.0 } else { (sum / column.len() as f64) as f32 };
            (mean, levels.iter().map(|&level| quantile(&column, level)).collect())
        })
        .collect();
    StatisticsPlan {
        neurons,
        groups,
        bins: config.bins,
        shift: columns.iter().map(|(mean, _)| *mean).collect(),
        edges: columns.into_iter().flat_map(|(_, edges)| edges).collect(),
        top: config.top,
        bottom: config.bottom,
        sample: config.sample,
        sample_seed: config.seed,
    }
}

/// Quantile levels of the `bins - 1` edges: half of them evenly spaced, so that common concepts
/// are resolved, half evenly spaced in log odds up to 1 in 1,000, so that rare ones are.
fn levels(bins: usize) -> Vec<f64> {
    if bins < 2 {
        return Vec::new();
    }
    let edges = bins - 1;
    let even = edges / 2;
    let tails = edges - even;
    let spaced = |i: usize, n: usize| (i as f64 + 1.0) / (n as f64 + 1.0);
    let mut levels: Vec<f64> = (0..even).map(|i| spaced(i, even)).collect();
    levels.extend((0..tails).map(|i| {
        let log_odds = (spaced(i, tails) * 2.0 - 1.0) * 7.0;
        1.0 / (1.0 + (-log_odds).exp())
    }));
    levels.sort_unstable_by(f64::total_cmp);
    levels
}

/// Linear interpolation between order statistics.
fn quantile(sorted: &[f32], level: f64) -> f32 {
    if sorted.is_empty() {
        return 0.0;
    }
    let at = level * (sorted.len() - 1) as f64;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 <= at < len")]
    let (low, part) = (at as usize, at.fract());
    let high = sorted[(low + 1).min(sorted.len() - 1)];
    #[expect(clippy::cast_possible_truncation, reason = "edges are f32")]
    {
        (f64::from(sorted[low]) * (1.0 - part) + f64::from(high) * part) as f32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_ascend_and_count() {
        for bins in [2, 3, 4, 17, 64, 256] {
            let levels = levels(bins);
            assert_eq!(levels.len(), bins - 1);
            assert!(levels.iter().all(|&level| level > 0.0 && level < 1.0));
            assert!(levels.is_sorted());
        }
        assert!(levels(0).is_empty());
    }

    #[test]
    fn quantiles_interpolate() {
        let sorted = [0.0, 1.0, 2.0, 4.0];
        assert_eq!(quantile(&sorted, 0.5), 1.5);
        assert_eq!(quantile(&sorted, 0.0), 0.0);
        assert_eq!(quantile(&sorted, 1.0), 4.0);
    }
}
