//! What methods read once every block is in: one [`SiteSummary`] per watched site.

use crate::device::statistics::{RowSample, TopTokens};
use crate::id::Site;

/// The finished statistics of one site. "Group" index 0 is all rows; group g of
/// [`crate::corpus::block::Labels`] is index g + 1; G1 = G + 1.
#[derive(Clone, Debug, PartialEq)]
pub struct SiteSummary {
    /// Which site.
    pub site: Site,
    /// Its columns N.
    pub neurons: usize,
    /// Label groups G, without the group of all rows.
    pub groups: usize,
    /// Rows per group, `[G1]`.
    pub rows: Vec<u64>,
    /// Finite values per group and neuron, `[G1, N]`: the n of every mean and variance.
    pub count: Vec<u64>,
    /// Mean, `[G1, N]`; 0 where `count` is 0.
    pub mean: Vec<f64>,
    /// Population variance (ddof 0), `[G1, N]`; 0 where `count` is 0.
    pub variance: Vec<f64>,
    /// Smallest value, `[G1, N]`.
    pub min: Vec<f32>,
    /// Largest value, `[G1, N]`.
    pub max: Vec<f32>,
    /// Values above 0, `[G1, N]`.
    pub firing: Vec<u64>,
    /// Bins B; 0 when no histogram was taken.
    pub bins: usize,
    /// Ascending edges, `[N, B - 1]`: bin of x = number of edges e with x > e.
    pub edges: Vec<f32>,
    /// Counts, `[N, G1, B]`.
    pub histogram: Vec<u32>,
    /// Largest values of each neuron.
    pub top: TopTokens,
    /// Smallest values of each neuron.
    pub bottom: TopTokens,
    /// A uniform sample of rows.
    pub sample: RowSample,
}

impl SiteSummary {
    /// Some of the groups alone, by their indices here; the first must be 0, all rows.
    ///
    /// # Panics
    /// If an index is no group, or the first is not 0.
    #[must_use]
    pub fn select(&self, groups: &[usize]) -> Self {
        assert_eq!(groups.first(), Some(&0), "the group of all rows comes first");
        fn rows<T: Copy>(values: &[T], width: usize, groups: &[usize]) -> Vec<T> {
            groups.iter().flat_map(|g| values[g * width..][..width].iter().copied()).collect()
        }
        let (n, b, all) = (self.neurons, self.bins, self.groups + 1);
        let bins = |neuron: usize| rows(&self.histogram[neuron * all * b..][..all * b], b, groups);
        Self {
            site: self.site,
            neurons: n,
            groups: groups.len() - 1,
            rows: rows(&self.rows, 1, groups),
            count: rows(&self.count, n, groups),
            mean: rows(&self.mean, n, groups),
            variance: rows(&self.variance, n, groups),
            min: rows(&self.min, n, groups),
            max: rows(&self.max, n, groups),
            firing: rows(&self.firing, n, groups),
            bins: b,
            edges: self.edges.clone(),
            histogram: if b == 0 { Vec::new() } else { (0..n).flat_map(bins).collect() },
            top: self.top.clone(),
            bottom: self.bottom.clone(),
            sample: self.sample.clone(),
        }
    }
}
