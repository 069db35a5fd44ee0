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
