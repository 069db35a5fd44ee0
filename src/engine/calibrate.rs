//! Calibration: shifts and bin edges from a small sample of documents, fixed before the pass and
//! part of its identity. It is the same pass with nothing but a row sample.

use std::sync::Arc;

use super::pass::run_batch;
use super::watch::StatisticsWatch;
use crate::accumulate::calibrate::calibrate as plan_of_site;
use crate::config::{Pool, StatisticsConfig};
use crate::corpus::batch::pack;
use crate::corpus::block::Sequence;
use crate::device::forward::Forward;
use crate::device::ops::Ops;
use crate::device::statistics::StatisticsPlan;
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
    let mut watch = StatisticsWatch::new(forward, &sampling, pool)?;
    let room = forward.limits().tokens;
    for batch in pack(sequences, config.batch_tokens.map_or(room, |tokens| tokens.min(room))) {
        run_batch(forward, &batch, &mut watch)?;
    }
    let samples = watch.samples(forward.ops())?;
    samples
        .into_iter()
        .map(|(site, sample)| {
            if sample.rows.is_empty() {
                let what = "no rows to calibrate on: every word or token is excluded";
                return Err(Error::input(
                    "corpus",
                    what,
                    "see capture.first_position and special_tokens",
                ));
            }
            let neurons = forward.spec().site_width(site);
            Ok((site, Arc::new(plan_of_site(config, neurons, groups, &sample.values))))
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
