//! The running statistics of one site on a GPU: they stay there for a block.

use std::sync::Arc;

use super::buffer::Tensor;
use super::class_sums::{ClassSums, half_tiles};
use super::context::Context;
use super::driver::Ptr;
use super::grid::count;
use super::histogram::Histogram;
use super::sample_rows::Sample;
use super::top_tokens::Tops;
use crate::device::row_lists::RowLists;
use crate::device::rows::BatchRows;
use crate::device::statistics::{SiteStatistics, StatisticsPlan};
use crate::error::Result;

/// See the module.
#[derive(Debug)]
pub struct Statistics {
    plan: Arc<StatisticsPlan>,
    /// Rows seen per group, `[G1]`.
    rows: Vec<u64>,
    sums: ClassSums,
    histogram: Option<Histogram>,
    tops: Option<Tops>,
    sample: Option<Sample>,
}

/// The rows of a batch on the device.
pub(super) struct Rows<'a> {
    pub(super) lists: &'a RowLists,
    /// Where `lists.words` are.
    start: Ptr,
    /// Rows, at least 1.
    pub(super) count: u32,
    /// Elements between rows of the activations.
    pub(super) stride: u32,
}

impl Rows<'_> {
    /// The address of a list.
    pub(super) fn at(&self, list: usize) -> Ptr {
        self.start.offset(list * size_of::<u32>())
    }
}

impl Statistics {
    pub(super) fn new(context: &Context, plan: &Arc<StatisticsPlan>) -> Result<Self> {
        Ok(Self {
            plan: Arc::clone(plan),
            rows: vec![0; plan.groups + 1],
            sums: ClassSums::new(context, plan)?,
            histogram: Histogram::new(context, plan)?,
            tops: Tops::new(context, plan)?,
            sample: Sample::new(context, plan)?,
        })
    }

    /// Adds one batch.
    ///
    /// # Panics
    /// If the shapes do not belong together.
    pub(super) fn update(&mut self, context: &Context, batch: &BatchRows, x: &Tensor) {
        assert_eq!(batch.counts.len(), self.rows.len());
        assert_eq!(x.cols(), self.plan.neurons);
        if batch.is_empty() || self.plan.neurons == 0 {
            return;
        }
        assert!(batch.source_end <= x.rows(), "a row lies beyond the activations");
        for (count, add) in self.rows.iter_mut().zip(&batch.counts) {
            *count += add;
        }
        let lists = batch.lists(half_tiles(x.element()));
        let rows = Rows {
            lists,
            start: context.upload(&lists.words),
            count: count(batch.len()),
            stride: count(x.stride()),
        };
        self.sums.update(context, &rows, x);
        if let Some(histogram) = &mut self.histogram {
            histogram.update(context, &rows, x);
        }
        if let Some(tops) = &mut self.tops {
            tops.update(context, &rows, (&batch.ids, batch.ascending), x);
        }
        if let Some(sample) = &mut self.sample {
            sample.update(context, (batch, &rows), x);
        }
    }

    /// Brings all to the host, once everything queued is done.
    pub(super) fn take(self, context: &Context) -> Result<SiteStatistics> {
        let mut out = SiteStatistics::new(&self.plan);
        out.rows.clone_from(&self.rows);
        if self.plan.neurons == 0 {
            return Ok(out);
        }
        self.sums.take(context, &mut out)?;
        if let Some(histogram) = &self.histogram {
            histogram.take(context, &mut out)?;
        }
        if let Some(tops) = &self.tops {
            tops.take(context, &mut out)?;
        }
        if let Some(sample) = &self.sample {
            sample.take(context, &mut out)?;
        }
        Ok(out)
    }
}
