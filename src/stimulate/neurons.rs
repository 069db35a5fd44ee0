//! Which neurons are asked: the columns of one kind of site, in some layers.

use std::collections::{BTreeMap, BTreeSet};

use crate::device::backward::Differentiable;
use crate::device::forward::SiteWork;
use crate::device::gradient_ops::GradientOps;
use crate::device::ops::Ops;
use crate::device::site_view::{SiteView, SiteVisitor};
use crate::error::Result;
use crate::id::{Site, SiteKind};
use crate::model::ModelSpec;

use super::question::QuestionBatch;

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Neurons {
    /// Where they are read and written: a kind that each layer has.
    pub kind: SiteKind,
    /// Ascending.
    pub layers: Vec<usize>,
    /// Neurons of a layer.
    pub width: usize,
}

impl Neurons {
    /// Those of a kind in these layers.
    pub fn of(spec: &ModelSpec, kind: SiteKind, layers: Vec<usize>) -> Self {
        let width = spec.site_width(site_of(kind, 0));
        Self { kind, layers, width }
    }

    /// Their site in a layer.
    pub fn site(&self, layer: usize) -> Site {
        site_of(self.kind, layer)
    }

    /// Their sites.
    pub fn sites(&self) -> BTreeSet<Site> {
        self.layers.iter().map(|&layer| self.site(layer)).collect()
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.layers.len() * self.width
    }
}

/// The site of a kind in a layer.
pub fn site_of(kind: SiteKind, layer: usize) -> Site {
    Site::of_layer(u32::try_from(layer).expect("few layers"), kind)
}

/// Values of sites of a batch, kept on the device.
pub struct Activations<O: Ops> {
    sites: BTreeMap<Site, O::Tensor>,
}

impl<O: Ops> SiteVisitor<O> for Activations<O> {
    fn visit(&mut self, ops: &O, view: &SiteView<'_, O>) -> Result<()> {
        if let Some(kept) = self.sites.get_mut(&view.site) {
            ops.copy(view.values, kept);
        }
        Ok(())
    }
}

impl<O: Ops> Activations<O> {
    /// The values of a site, `[T, N]`.
    pub fn get(&self, site: Site) -> &O::Tensor {
        &self.sites[&site]
    }

    /// The values of a site, on the host, row-major.
    pub fn read(&self, ops: &O, site: Site) -> Result<Vec<f32>> {
        let mut values = Vec::new();
        ops.read(self.get(site), &mut values)?;
        Ok(values)
    }
}

/// Runs a batch up to the final norm and keeps the values of these sites.
pub fn activations<O: GradientOps>(
    run: &mut Differentiable<O>,
    batch: &QuestionBatch,
    wanted: &BTreeSet<Site>,
) -> Result<Activations<O>> {
    let widths: Vec<_> = wanted.iter().map(|&site| (site, run.spec().site_width(site))).collect();
    let kept =
        widths.into_iter().map(|(site, width)| Ok((site, room(run, batch.tokens.len(), width)?)));
    let mut visitor = Activations { sites: kept.collect::<Result<_>>()? };
    let edits = BTreeMap::new();
    let mut sites = SiteWork { wanted, edits: &edits, visitor: &mut visitor };
    run.run(batch.input(), &mut sites)?;
    Ok(visitor)
}

/// A tensor of so many rows, all in use.
pub fn room<O: GradientOps>(
    run: &Differentiable<O>,
    rows: usize,
    cols: usize,
) -> Result<O::Tensor> {
    let mut tensor = run.ops().tensor(rows, cols)?;
    run.ops().set_rows(&mut tensor, rows);
    Ok(tensor)
}
