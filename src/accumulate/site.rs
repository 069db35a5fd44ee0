//! The accumulator of one site: its plan, its running statistics, and what is read out of them.

use std::sync::Arc;

use super::summary::SiteSummary;
use super::{Accumulator, Merge};
use crate::device::cpu::statistics::{Activations, update_all};
use crate::device::rows::BatchRows;
use crate::device::statistics::{SiteStatistics, StatisticsPlan};
use crate::error::Result;
use crate::id::Site;

/// What is collected, site by site, in the order of the forward pass.
pub type RunPlan = [(Site, Arc<StatisticsPlan>)];

/// The statistics of one site with the plan they follow.
#[derive(Clone, Debug, PartialEq)]
pub struct SiteAccumulator {
    /// Which site.
    pub site: Site,
    /// What is collected.
    pub plan: Arc<StatisticsPlan>,
    /// What has been; a device with memory of its own hands it over at the end of a block.
    pub statistics: SiteStatistics,
}

impl SiteAccumulator {
    /// The accumulator of no row.
    pub fn new(site: Site, plan: &Arc<StatisticsPlan>) -> Self {
        Self { site, plan: Arc::clone(plan), statistics: SiteStatistics::new(plan) }
    }
}

impl Merge for SiteAccumulator {
    fn merge(&mut self, later: Self) -> Result<()> {
        assert_eq!(self.site, later.site, "only states of one site merge");
        assert!(
            Arc::ptr_eq(&self.plan, &later.plan) || self.plan == later.plan,
            "only states of one plan merge"
        );
        self.statistics.merge(later.statistics, &self.plan)
    }
}

impl Accumulator for SiteAccumulator {
    /// The rows of a batch and their activations.
    type Input<'a> = (&'a BatchRows, Activations<'a>);
    type Summary = SiteSummary;

    fn update(&mut self, (rows, x): Self::Input<'_>) {
        update_all(&self.plan, &mut self.statistics, rows, x);
    }

    fn finish(self) -> SiteSummary {
        let Self { site, plan, statistics } = self;
        let n = plan.neurons;
        let mut count = Vec::with_capacity(statistics.sum.len());
        let mut mean = Vec::with_capacity(statistics.sum.len());
        let mut variance = Vec::with_capacity(statistics.sum.len());
        for (group, &rows) in statistics.rows.iter().enumerate() {
            for neuron in 0..n {
                let cell = group * n + neuron;
                let finite = rows - u64::from(statistics.non_finite[cell]);
                let (of_cell, spread) = moments(
                    finite,
                    statistics.sum[cell],
                    statistics.square[cell],
                    f64::from(plan.shift[neuron]),
                );
                count.push(finite);
                mean.push(of_cell);
                variance.push(spread);
            }
        }
        SiteSummary {
            site,
            neurons: n,
            groups: plan.groups,
            rows: statistics.rows,
            count,
            mean,
            variance,
            min: statistics.min,
            max: statistics.max,
            firing: statistics.firing,
            bins: plan.bins,
            edges: plan.edges.clone(),
            histogram: statistics.histogram,
            top: statistics.top,
            bottom: statistics.bottom,
            sample: statistics.sample,
        }
    }
}

/// Mean and population variance from the shifted sums: with the shift near the mean nothing
/// cancels (Chan, Golub and LeVeque 1983, "shifted data algorithm").
fn moments(count: u64, sum: f64, square: f64, shift: f64) -> (f64, f64) {
    if count == 0 {
        return (0.0, 0.0);
    }
    let n = count as f64;
    let from_shift = sum / n;
    // The clamp is for constant neurons, whose rounding may fall below 0.
    (shift + from_shift, (square / n - from_shift * from_shift).max(0.0))
}
