//! One site of one model over the rows that all models have: its moments, and with another site theirs.

use crate::artifact::similarity::{ClusterRow, RedundancyRow};
use crate::error::Result;
use crate::id::Site;
use crate::methods::algebra::Dense;
use crate::methods::algebra::dense::dot;
use crate::methods::clustering::{Likeness, Tree};
use crate::methods::similarity::canonical::CUT;
use crate::methods::similarity::moments::cross_covariance;
use crate::methods::similarity::{Basis, Keep, Moments};

/// Rows that are multiplied at once: f64 copies of all would be twice the sample.
const ROWS: usize = 512;

/// See the module.
pub(super) struct Side {
    /// Its model's place in the file.
    pub(super) model: usize,
    /// The site.
    pub(super) site: Site,
    /// `[rows, N]`.
    values: Vec<f32>,
    /// Means and covariances.
    pub(super) moments: Moments,
    /// Of the neurons at mean 0 and deviation 1.
    pub(super) standard: Moments,
    /// Their leading directions.
    pub(super) leading: Basis,
    /// All directions of the neurons as they are, for regressions on them.
    pub(super) all: Basis,
    /// `|x - mean|^2` of each row.
    norms: Vec<f64>,
}

impl Side {
    /// Moments and directions of `values` `[rows, N]`; `share` is how much variance directions keep.
    pub(super) fn new(
        (model, site): (usize, Site),
        neurons: usize,
        values: Vec<f32>,
        share: f64,
    ) -> Result<Self> {
        let count = (values.len() / neurons.max(1)) as u64;
        let mut mean = vec![0.0; neurons];
        for row in values.chunks_exact(neurons) {
            mean.iter_mut().zip(row).for_each(|(sum, x)| *sum += f64::from(*x));
        }
        mean.iter_mut().for_each(|sum| *sum /= count as f64);
        let norm = |row: &[f32]| -> f64 {
            row.iter().zip(&mean).map(|(x, mean)| (f64::from(*x) - mean).powi(2)).sum()
        };
        let norms = values.chunks_exact(neurons).map(norm).collect();
        let covariance = products((&values, &mean), (&values, &mean));
        let moments = Moments::from_sums(count, &vec![0.0; neurons], covariance, &mean);
        let standard = moments.standardised();
        let leading = Basis::of(&standard.covariance, Keep::Share(share))?;
        let all = Basis::of(&moments.covariance, Keep::Above(CUT))?;
        Ok(Self { model, site, values, moments, standard, leading, all, norms })
    }

    /// Rows.
    pub(super) fn count(&self) -> u64 {
        self.moments.count
    }

    /// The layer as tables have it.
    pub(super) fn layer(&self) -> Option<i32> {
        self.site.layer.map(|layer| i32::try_from(layer).expect("layers are few"))
    }

    /// Covariances with the neurons of another site, `[N, other N]`.
    pub(super) fn cross(&self, other: &Self) -> Dense {
        let of = |side: &Self| vec![0.0; side.moments.neurons()];
        let products =
            products((&self.values, &self.moments.mean), (&other.values, &other.moments.mean));
        cross_covariance(self.count(), (&of(self), &of(other)), products)
    }

    /// `Σ |x - mean|^2 |z - mean|^2`, as the debiased CKA asks for it.
    pub(super) fn norms_with(&self, other: &Self) -> f64 {
        dot(&self.norms, &other.norms)
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

/// `Σ (x - mean) (z - mean)^T` over rows, `[N, other N]`, some rows at a time.
fn products((x, mean): (&[f32], &[f64]), (z, other): (&[f32], &[f64])) -> Dense {
    let (n, m) = (mean.len(), other.len());
    let mut out = Dense::zeros(n, m);
    for (x, z) in x.chunks(ROWS * n).zip(z.chunks(ROWS * m)) {
        let rows = x.len() / n;
        let left = Dense::from_fn(n, rows, |j, i| f64::from(x[i * n + j]) - mean[j]);
        let right = Dense::from_fn(rows, m, |i, j| f64::from(z[i * m + j]) - other[j]);
        let part = left.product(&right);
        out.values_mut().iter_mut().zip(part.values()).for_each(|(sum, x)| *sum += x);
    }
    out
}
