//! The visitor of a statistics pass: pools each site's tokens to rows and hands them to the
//! device's running statistics.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::pass::PassPlan;
use crate::accumulate::run::RunStatistics;
use crate::accumulate::site::SiteAccumulator;
use crate::config::Pool;
use crate::corpus::batch::Batch;
use crate::corpus::block::Counts;
use crate::device::forward::Forward;
use crate::device::ops::{Ops, Pooling, RowRuns};
use crate::device::rows::BatchRows;
use crate::device::site_view::{SiteView, SiteVisitor};
use crate::device::statistics::{RowSample, StatisticsPlan};
use crate::error::{Error, Result};
use crate::id::Site;

/// Fills the statistics of all watched sites over the batches of one block.
pub struct StatisticsWatch<O: Ops> {
    sites: BTreeMap<Site, Watched<O>>,
    /// The same sites as the forward pass asks for them, batch after batch.
    wanted: Arc<BTreeSet<Site>>,
    /// How runs of tokens are put together; none where each row is one token.
    pooling: Option<Pooling>,
    /// Pooled rows, by width.
    pooled: BTreeMap<usize, O::Tensor>,
    /// Label groups of the run.
    groups: usize,
    rows: Option<BatchRows>,
}

struct Watched<O: Ops> {
    plan: Arc<StatisticsPlan>,
    statistics: O::Statistics,
}

/// How the tokens of a row are put together, or none if each row has one token.
pub fn pooling(pool: Pool) -> Option<Pooling> {
    match pool {
        Pool::Mean | Pool::SentenceMean => Some(Pooling::Mean),
        Pool::SentenceMax => Some(Pooling::Max),
        Pool::First | Pool::Last | Pool::None | Pool::SentenceLast | Pool::SentenceFirst => None,
    }
}

impl<O: Ops> StatisticsWatch<O> {
    /// Empty statistics for every site. A batch has at most as many rows as `forward` takes tokens.
    pub fn new(
        forward: &Forward<O>,
        plan: &[(Site, Arc<StatisticsPlan>)],
        pool: Pool,
    ) -> Result<Self> {
        let (ops, rows) = (forward.ops(), forward.limits().tokens);
        let pooling = pooling(pool);
        let mut sites = BTreeMap::new();
        let mut pooled = BTreeMap::new();
        let mut groups = 0;
        for (site, plan) in plan {
            groups = plan.groups;
            if pooling.is_some() && !pooled.contains_key(&plan.neurons) {
                pooled.insert(plan.neurons, ops.tensor(rows, plan.neurons)?);
            }
            let statistics = ops.statistics(plan)?;
            sites.insert(*site, Watched { plan: Arc::clone(plan), statistics });
        }
        let wanted = Arc::new(sites.keys().copied().collect());
        Ok(Self { sites, wanted, pooling, pooled, groups, rows: None })
    }

    /// The watched sites.
    pub fn sites(&self) -> Arc<BTreeSet<Site>> {
        Arc::clone(&self.wanted)
    }

    /// Announces the rows of the batch that comes next.
    pub fn begin(&mut self, batch: &Batch) {
        let source = self.pooling.is_none().then_some(&batch.row_first[..]);
        self.rows = Some(BatchRows::new(batch, source, self.groups));
    }

    /// The row samples alone, for calibration.
    pub fn samples(self, ops: &O) -> Result<Vec<(Site, RowSample)>> {
        let sample = |(site, watched): (Site, Watched<O>)| {
            Ok((site, ops.take_statistics(watched.statistics)?.sample))
        };
        self.sites.into_iter().map(sample).collect()
    }

    /// Hands the block's statistics over.
    pub fn finish(self, ops: &O, counts: Counts, plan: &PassPlan) -> Result<RunStatistics> {
        let sites = self
            .sites
            .into_iter()
            .map(|(site, watched)| {
                let statistics = ops.take_statistics(watched.statistics)?;
                check_finite(site, &statistics.non_finite, &statistics.rows, plan)?;
                Ok(SiteAccumulator { site, plan: watched.plan, statistics })
            })
            .collect::<Result<_>>()?;
        Ok(RunStatistics { counts, sites })
    }
}

impl<O: Ops> SiteVisitor<O> for StatisticsWatch<O> {
    fn visit(&mut self, ops: &O, view: &SiteView<'_, O>) -> Result<()> {
        let watched = self.sites.get_mut(&view.site).expect("only wanted sites are visited");
        let rows = self.rows.as_ref().expect("a batch was announced");
        let Some(pooling) = self.pooling else {
            ops.update_statistics(&mut watched.statistics, rows, view.values);
            return Ok(());
        };
        let pooled = self.pooled.get_mut(&watched.plan.neurons).expect("made for every width");
        ops.set_rows(pooled, rows.len());
        let runs = RowRuns { first: rows.first(), len: rows.lengths() };
        ops.pool(pooling, runs, view.values, pooled);
        ops.update_statistics(&mut watched.statistics, rows, pooled);
        Ok(())
    }
}

/// Non-finite activations are never silent: by default one fails the pass.
fn check_finite(site: Site, non_finite: &[u32], rows: &[u64], plan: &PassPlan) -> Result<()> {
    let seen = rows[0];
    let neurons = non_finite.len() / rows.len();
    let worst = non_finite[..neurons].iter().enumerate().max_by_key(|(_, count)| **count);
    let Some((neuron, &count)) = worst.filter(|(_, count)| **count > 0) else { return Ok(()) };
    let share = f64::from(count) / seen as f64;
    if share > plan.max_nan {
        let what =
            format!("{count} of {seen} activations of neuron {site}.{neuron} are not finite");
        let remedy = "run in float32, or allow a share of them with statistics.max_nan";
        return Err(Error::input("model", what, remedy));
    }
    tracing::warn!(%site, neuron, count, "activations that are not finite are left out");
    Ok(())
}
