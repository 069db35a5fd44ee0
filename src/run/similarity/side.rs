//! One site of one model over the rows that all models have: its moments, directions and clusters.

use crate::artifact::similarity::{ClusterRow, RedundancyRow};
use crate::error::Result;
use crate::id::Site;
use crate::methods::clustering::{Likeness, Tree};
use crate::methods::similarity::canonical::CUT;
use crate::methods::similarity::{Basis, Keep, Moments};

/// See the module.
pub(super) struct Side {
    /// Its model's place in the file.
    pub(super) model: usize,
    /// The site.
    pub(super) site: Site,
    /// Means and covariances.
    pub(super) moments: Moments,
    /// Of the neurons at mean 0 and deviation 1.
    pub(super) standard: Moments,
    /// Their leading directions.
    pub(super) leading: Basis,
    /// All directions of the neurons as they are, for regressions on them.
    pub(super) all: Basis,
}

impl Side {
    /// Directions of these moments; `share` is how much variance they keep.
    pub(super) fn new((model, site): (usize, Site), moments: Moments, share: f64) -> Result<Self> {
        let standard = moments.standardised();
        let leading = Basis::of(&standard.covariance, Keep::Share(share))?;
        let all = Basis::of(&moments.covariance, Keep::Above(CUT))?;
        Ok(Self { model, site, moments, standard, leading, all })
    }

    /// Rows.
    pub(super) fn count(&self) -> u64 {
        self.moments.count
    }

    /// The layer as tables have it.
    pub(super) fn layer(&self) -> Option<i32> {
        self.site.layer.map(|layer| i32::try_from(layer).expect("layers are few"))
    }

    /// Its clusters at each distance, and how many neurons they speak for.
    pub(super) fn clusters(
        &self,
        model: &str,
        thresholds: &[f64],
        cka_next: Option<f64>,
    ) -> (Vec<ClusterRow>, Vec<RedundancyRow>) {
        let correlations = self.moments.correlations();
        let tree = Tree::new(&correlations, &self.moments.constant(), Likeness::Absolute);
        let (mut clusters, mut redundancy) = (Vec::new(), Vec::new());
        for &threshold in thresholds {
            let found = tree.cut(threshold);
            let representatives = found.representatives(&correlations);
            let site = self.site.to_string();
            let of = |(neuron, cluster): (i32, u32)| ClusterRow {
                model: model.to_owned(),
                site: site.clone(),
                layer: self.layer(),
                threshold,
                neuron,
                cluster: signed(cluster as usize),
                representative: signed(representatives[cluster as usize] as usize),
            };
            clusters.extend((0..).zip(found.labels()).map(of));
            redundancy.push(RedundancyRow {
                model: model.to_owned(),
                site: site.clone(),
                layer: self.layer(),
                neurons: signed(self.moments.neurons()),
                threshold,
                clusters: signed(found.members().len()),
                redundancy: found.redundancy(),
                cka_next,
            });
        }
        (clusters, redundancy)
    }
}

/// A count or a column as tables have it.
pub(super) fn signed(n: usize) -> i32 {
    i32::try_from(n).expect("columns are counted in i32")
}
