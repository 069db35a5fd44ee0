//! The running statistics of one site as plain arrays: what a device fills during a block and
//! hands back at its end. `accumulate` gives them their laws; the kernels that fill them are
//! `class_sums`, `histogram`, `top_tokens` and `sample_rows`.

use crate::id::RowId;

/// What is collected for one site, fixed before the first block and part of the run's identity.
#[derive(Clone, Debug, PartialEq)]
pub struct StatisticsPlan {
    /// Columns N of the site.
    pub neurons: usize,
    /// Label groups G, beside the group of all rows.
    pub groups: usize,
    /// Bins B of the histograms; 0 for none.
    pub bins: usize,
    /// Ascending edges, `[N, B - 1]`: bin of x = number of edges e with x > e.
    pub edges: Vec<f32>,
    /// Subtracted before summing, `[N]`: means of a calibration sample, so that sums of squares
    /// do not cancel where |mean| >> sd.
    pub shift: Vec<f32>,
    /// Kept largest values per neuron; 0 for none.
    pub top: usize,
    /// Kept smallest values per neuron; 0 for none.
    pub bottom: usize,
    /// Rows of the uniform sample; 0 for none.
    pub sample: usize,
    /// Seed of the hash that chooses them.
    pub sample_seed: u64,
}

/// The running statistics of one site. "Group" index 0 is all rows, group g of the labels is
/// index g + 1; G1 = G + 1.
///
/// Non-finite activations enter only `non_finite`; the row stays in the counts of `rows`.
#[derive(Clone, Debug, PartialEq)]
pub struct SiteStatistics {
    /// Rows seen per group, `[G1]` (A0).
    pub rows: Vec<u64>,
    /// Finite values per group and neuron are `rows[g] - non_finite[g * N + n]`; `[G1, N]`.
    pub non_finite: Vec<u32>,
    /// Sum of x - shift, `[G1, N]` (A1).
    pub sum: Vec<f64>,
    /// Sum of (x - shift)^2, `[G1, N]` (A2).
    pub square: Vec<f64>,
    /// Smallest x, `[G1, N]`, +inf where none (A3).
    pub min: Vec<f32>,
    /// Largest x, `[G1, N]`, -inf where none (A3).
    pub max: Vec<f32>,
    /// Rows with x > 0, `[G1, N]` (A4).
    pub firing: Vec<u64>,
    /// Counts per bin, `[N, G1, B]` (A5).
    pub histogram: Vec<u32>,
    /// The largest values of each neuron (A8), best first, ties by lower row.
    pub top: TopTokens,
    /// The smallest values of each neuron (A8), smallest first, ties by lower row.
    pub bottom: TopTokens,
    /// A uniform sample of rows (A10).
    pub sample: RowSample,
}

/// For each neuron, up to `k` (value, row) pairs, best first.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TopTokens {
    /// Capacity per neuron.
    pub k: usize,
    /// Filled entries per neuron, `[N]`.
    pub len: Vec<u32>,
    /// `[N, k]`.
    pub values: Vec<f32>,
    /// `[N, k]`.
    pub rows: Vec<RowId>,
}

/// The `capacity` rows with the smallest hash of (seed, row), ascending by (hash, row), with the
/// whole row of activations: a uniform sample that merges.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RowSample {
    /// Largest number of rows kept.
    pub capacity: usize,
    /// Hash of each kept row.
    pub hashes: Vec<u64>,
    /// Who it is.
    pub rows: Vec<RowId>,
    /// Its groups, as bits are too many: CSR starts into `groups`, `[len + 1]`.
    pub group_starts: Vec<u32>,
    /// Group ids of each row.
    pub groups: Vec<u32>,
    /// `[len, N]`.
    pub values: Vec<f32>,
}

impl SiteStatistics {
    /// The statistics of no row.
    pub fn new(plan: &StatisticsPlan) -> Self {
        let groups = plan.groups + 1;
        let cells = groups * plan.neurons;
        assert_eq!(plan.shift.len(), plan.neurons);
        assert_eq!(plan.edges.len(), plan.neurons * plan.bins.saturating_sub(1));
        Self {
            rows: vec![0; groups],
            non_finite: vec![0; cells],
            sum: vec![0.0; cells],
            square: vec![0.0; cells],
            min: vec![f32::INFINITY; cells],
            max: vec![f32::NEG_INFINITY; cells],
            firing: vec![0; cells],
            histogram: vec![0; cells * plan.bins],
            top: TopTokens::new(plan.neurons, plan.top),
            bottom: TopTokens::new(plan.neurons, plan.bottom),
            sample: RowSample::new(plan.sample),
        }
    }
}

impl TopTokens {
    /// Empty lists of `k` places for each neuron.
    pub fn new(neurons: usize, k: usize) -> Self {
        Self {
            k,
            len: vec![0; neurons],
            values: vec![0.0; neurons * k],
            rows: vec![RowId(0); neurons * k],
        }
    }
}

impl RowSample {
    /// No row, and room for `capacity`.
    pub fn new(capacity: usize) -> Self {
        Self { capacity, group_starts: vec![0], ..Self::default() }
    }
}
