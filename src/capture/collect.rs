//! Copies sites, or their gradients, to the host, for `extract` and for the contexts of the report.

use std::collections::BTreeMap;

use crate::device::backward::{GradientView, GradientVisitor};
use crate::device::ops::Ops;
use crate::device::site_view::{SiteView, SiteVisitor};
use crate::error::Result;
use crate::id::Site;

/// Keeps every visited site of one batch, row-major, on the host.
#[derive(Debug, Default)]
pub struct Collector {
    /// Values of the last batch by site. Buffers are used again by the next one.
    pub sites: BTreeMap<Site, Vec<f32>>,
}

impl<O: Ops> GradientVisitor<O> for Collector {
    fn visit(&mut self, ops: &O, view: &GradientView<'_, O>) -> Result<()> {
        ops.read(view.gradient, self.sites.entry(view.site).or_default())
    }
}

impl<O: Ops> SiteVisitor<O> for Collector {
    fn visit(&mut self, ops: &O, view: &SiteView<'_, O>) -> Result<()> {
        ops.read(view.values, self.sites.entry(view.site).or_default())
    }
}
