//! The running statistics of one site on a GPU.
use std::sync::Arc;

use super::buffer::Tensor;
use super::context::Context;
use crate::device::rows::BatchRows;
use crate::device::statistics::{SiteStatistics, StatisticsPlan};
use crate::error::Result;

/// See the module.
#[derive(Debug)]
pub struct Statistics {
    plan: Arc<StatisticsPlan>,
}

impl Statistics {
    pub(super) fn new(_: &Context, plan: &Arc<StatisticsPlan>) -> Result<Self> {
        Ok(Self { plan: Arc::clone(plan) })
    }

    pub(super) fn update(&mut self, _: &Context, _: &BatchRows, _: &Tensor) {
        panic!("no kernel yet");
    }

    pub(super) fn take(self, _: &Context) -> Result<SiteStatistics> {
        Ok(SiteStatistics::new(&self.plan))
    }
}
