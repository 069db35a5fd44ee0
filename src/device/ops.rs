//! The list of operations = the list of kernels. One method per stem; a device implements them in
//! `device/<device>/<stem>.rs`. Nothing here allocates: tensors are made once, by [`Ops::tensor`],
//! and only their number of rows changes from batch to batch.

use std::sync::Arc;

pub use super::edit::{Edit, Write};
use super::rows::BatchRows;
use super::statistics::{SiteStatistics, StatisticsPlan};
use crate::error::Result;
use crate::model::{Activation, NormSpec};

/// A device: owns its buffers and runs the operations in the order they are called.
///
/// Every operation gives equal bits for equal input, whatever the number of threads.
pub trait Ops {
    /// Activations, `[rows, cols]` f32, with room for more rows than it has.
    type Tensor;
    /// A weight `[out, in]` with its bias, in whatever layout the device multiplies fastest.
    type Matrix;
    /// A table whose rows are looked up, `[rows, cols]`.
    type Table;
    /// A short vector of weights.
    type Vector;
    /// The running statistics of one site, where the device keeps them.
    type Statistics;

    /// A tensor with room for `rows` rows.
    fn tensor(&self, rows: usize, cols: usize) -> Result<Self::Tensor>;
    /// A tensor with room for so many values end to end, each a row: the probabilities of attention.
    fn cells(&self, count: usize) -> Result<Self::Tensor> {
        self.tensor(count, 1)
    }
    /// Uploads a weight, row-major `[out, in]`.
    fn matrix(&self, out: usize, weight: Vec<f32>, bias: Option<Vec<f32>>) -> Result<Self::Matrix>;
    /// Uploads a table of rows.
    fn table(&self, rows: usize, values: Vec<f32>) -> Result<Self::Table>;
    /// Uploads a table that keeps f32 whatever the type of the tensors: angles.
    fn exact_table(&self, rows: usize, values: Vec<f32>) -> Result<Self::Table>;
    /// The table as a weight, sharing its memory where the device can (tied embeddings).
    fn tied(&self, table: &Self::Table, bias: Option<Vec<f32>>) -> Result<Self::Matrix>;
    /// Uploads a vector.
    fn vector(&self, values: Vec<f32>) -> Result<Self::Vector>;

    /// Sets the number of rows in use; at most the room the tensor was made with.
    fn set_rows(&self, x: &mut Self::Tensor, rows: usize);
    /// Sets the rows in use, row-major.
    fn write(&self, x: &mut Self::Tensor, values: &[f32]) -> Result<()>;
    /// Copies the rows in use to the host, row-major, once everything before is done.
    fn read(&self, x: &Self::Tensor, out: &mut Vec<f32>) -> Result<()>;
    /// Ends a batch, and says whether everything asked so far went well. A device that works behind
    /// the caller's back keeps its first failure, passes over what follows, and tells it here.
    fn check(&self) -> Result<()>;

    /// Until everything asked so far is done; for timing.
    fn wait(&self) -> Result<()>;
    /// Bytes of one element of a tensor.
    fn element_bytes(&self) -> usize;

    /// embed: `out[t] = scale * table[ids[t]]`.
    fn embed(&self, table: &Self::Table, ids: &[u32], scale: f32, out: &mut Self::Tensor);
    /// embed: `x[t] += table[ids[t]]`.
    fn embed_add(&self, table: &Self::Table, ids: &[u32], x: &mut Self::Tensor);
    /// norm: each row of `x` normed into `out`.
    fn norm(&self, norm: &NormWeights<Self::Vector>, x: &Self::Tensor, out: &mut Self::Tensor);
    /// norm: `out = norm(x + y)`, the post-norm residual.
    fn add_norm(
        &self,
        norm: &NormWeights<Self::Vector>,
        x: &Self::Tensor,
        y: &Self::Tensor,
        out: &mut Self::Tensor,
    );
    /// norm: each head (`heads` runs of `norm.weight.len()` columns from `first`) normed in place.
    fn head_norm(&self, norm: &NormWeights<Self::Vector>, heads: HeadRange, x: &mut Self::Tensor);
    /// rope: rotates the heads of `x` in place. `angles` is an exact table `[positions, 2 * r]`: cosines, then
    /// sines, of each of r frequencies; row `positions[t]` is used for token t.
    fn rope(&self, angles: &Self::Table, positions: &[u32], heads: HeadRange, x: &mut Self::Tensor);
    /// attention: over each sequence of `args.starts` alone.
    fn attention(
        &self,
        args: &AttentionArgs<'_, Self::Vector>,
        qkv: &Self::Tensor,
        out: &mut Self::Tensor,
        probs: Option<&mut Self::Tensor>,
    );
    /// gemm: `out = x W^T + b`, with `then` done to it on the way out.
    fn linear(
        &self,
        weight: &Self::Matrix,
        x: &Self::Tensor,
        then: Epilogue<'_, Self::Tensor>,
        out: &mut Self::Tensor,
    );
    /// gated_act: `out = act(x)`.
    fn activate(&self, activation: Activation, x: &Self::Tensor, out: &mut Self::Tensor);
    /// gated_act: `out = a * b`.
    fn multiply(&self, a: &Self::Tensor, b: &Self::Tensor, out: &mut Self::Tensor);
    /// residual: `x += y`.
    fn add(&self, x: &mut Self::Tensor, y: &Self::Tensor);
    /// residual: `out = x`.
    fn copy(&self, x: &Self::Tensor, out: &mut Self::Tensor);
    /// gated_act: `x = c * tanh(x / c)`.
    fn softcap(&self, cap: f32, x: &mut Self::Tensor);
    /// pool: `out[r]` = the rows `first[r] .. first[r] + len[r]` of `x`, put together.
    fn pool(&self, how: Pooling, rows: RowRuns<'_>, x: &Self::Tensor, out: &mut Self::Tensor);
    /// edit: writes into a site, see [`Edit`].
    fn edit(&self, edit: &Edit, x: &mut Self::Tensor);
    /// edit: `g = 0` where the edit writes and `y`, a tensor of the same shape, is 0; for a clamp, where
    /// `y` is not strictly within its bounds, as the tensor's type rounds them.
    fn edit_mask(&self, edit: &Edit, y: &Self::Tensor, g: &mut Self::Tensor);

    /// Empty statistics of a site.
    fn statistics(&self, plan: &Arc<StatisticsPlan>) -> Result<Self::Statistics>;
    /// class_sums, histogram, top_tokens, sample_rows: adds one batch of a site.
    fn update_statistics(
        &self,
        statistics: &mut Self::Statistics,
        rows: &BatchRows,
        x: &Self::Tensor,
    );
    /// Hands a block's statistics to the host.
    fn take_statistics(&self, statistics: Self::Statistics) -> Result<SiteStatistics>;
}

/// What becomes of a product before it is stored. Each gives the bits of the separate operations
/// (a bf16 device rounds where they would store), so that a site's values do not depend on which
/// other sites are watched.
#[derive(Debug)]
pub enum Epilogue<'a, T> {
    /// Nothing.
    Store,
    /// `out = act(y)`.
    Activate(Activation),
    /// `out = a * y`.
    Multiply(&'a T),
    /// `out = out + y`. The tensor has the shape of `out`; a device that needs it writes `y` there.
    Add(&'a mut T),
}

/// A norm with its weights on the device.
#[derive(Debug)]
pub struct NormWeights<V> {
    /// Kind, epsilon, offset.
    pub spec: NormSpec,
    /// `[cols]`.
    pub weight: V,
    /// `[cols]`, where the checkpoint has one.
    pub bias: Option<V>,
}

/// Columns `first .. first + heads * width` of a tensor, read as heads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeadRange {
    /// First column.
    pub first: usize,
    /// Number of heads.
    pub heads: usize,
    /// Columns of each.
    pub width: usize,
}

/// What attention needs beside its tensors. The columns of `qkv` are H query heads, K key heads,
/// K value heads, each `head_width` wide.
#[derive(Debug)]
pub struct AttentionArgs<'a, V> {
    /// Where each sequence starts, and the end, `[S + 1]`.
    pub starts: &'a [u32],
    /// Query heads H.
    pub heads: usize,
    /// Key and value heads K.
    pub kv_heads: usize,
    /// Width of a head.
    pub head_width: usize,
    /// Scores are multiplied by this.
    pub scale: f32,
    /// Scores become c * tanh(s / c).
    pub softcap: Option<f32>,
    /// Keys after the query are hidden.
    pub causal: bool,
    /// Only keys within this distance before the query (itself included) are seen.
    pub window: Option<usize>,
    /// Added to the scores.
    pub bias: ScoreBias<'a, V>,
}

/// See [`AttentionArgs::bias`].
#[derive(Debug)]
pub enum ScoreBias<'a, V> {
    /// Nothing.
    None,
    /// ALiBi: `slopes[h] * key position`.
    Slopes(&'a V),
    /// `table[h][key - query + reach]`, `[H, 2 * reach + 1]`.
    Distance {
        /// The table.
        table: &'a V,
        /// Largest distance in it.
        reach: usize,
    },
}

/// How the tokens of a row become one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pooling {
    /// The first token.
    First,
    /// The last token.
    Last,
    /// Their mean.
    Mean,
    /// The largest value of each neuron.
    Max,
}

/// Runs of consecutive tokens.
#[derive(Clone, Copy, Debug)]
pub struct RowRuns<'a> {
    /// First token of each run.
    pub first: &'a [u32],
    /// Its length, at least 1.
    pub len: &'a [u32],
}
