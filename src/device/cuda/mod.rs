//! NVIDIA GPUs. The kernels stand in `kernels/<stem>.cu`; the file `<stem>.rs` here checks shapes,
//! fills the argument struct and launches. The driver is looked for at run time, so one program
//! serves machines with and without a GPU: ask [`probe()`] first.
//!
//! Work is queued on one stream in the order of the calls; a failure is kept and told by
//! [`Ops::check`]. Equal input gives equal bits on each run and each device of a kind.

mod activation_grad;
mod arena;
mod attention;
mod attention_grad;
mod attention_store;
mod buffer;
mod class_sums;
mod context;
mod driver;
mod edit;
mod embed;
mod gated_act;
mod gemm;
mod gradients;
mod gram;
mod grid;
mod histogram;
mod images;
mod moments;
mod norm;
mod norm_grad;
pub mod nvml;
mod nvrtc;
mod pick_logits;
mod pool;
mod probe;
mod probe_bank;
mod probe_bank_state;
mod probe_bank_tables;
mod rescale;
mod residual;
mod rope;
mod sample_rows;
mod scatter;
mod score;
mod shift_neurons;
mod statistics;
mod suffix;
mod top_tokens;
mod transpose;
mod upload;

pub use buffer::{Element, Matrix, Table, Tensor, Vector};
pub use gram::Moments;
pub use images::Images;
pub use probe::{Found, Missing, Probe, Unusable, probe};
pub use probe_bank::Bank;
pub use statistics::Statistics;

use std::sync::Arc;

use self::context::Context;
use super::ops::{AttentionArgs, Edit, Epilogue, HeadRange, NormWeights, Ops, Pooling, RowRuns};
use super::rows::BatchRows;
use super::statistics::{SiteStatistics, StatisticsPlan};
use crate::error::Result;
use crate::model::Activation;

/// One GPU, with its tensors in one type.
#[derive(Clone, Debug)]
pub struct CudaDevice {
    context: Arc<Context>,
    element: Element,
}

impl CudaDevice {
    /// Opens a device that [`probe()`] has found.
    pub fn open(index: u32, element: Element, images: &Images) -> Result<Self> {
        Ok(Self { context: Arc::new(Context::open(index, images)?), element })
    }

    /// The same GPU with tensors of another type.
    #[must_use]
    pub fn with_element(&self, element: Element) -> Self {
        Self { context: Arc::clone(&self.context), element }
    }

    /// "cuda:0".
    pub fn name(&self) -> &str {
        self.context.name()
    }
}

impl Ops for CudaDevice {
    type Tensor = Tensor;
    type Matrix = Matrix;
    type Table = Table;
    type Vector = Vector;
    type Statistics = Statistics;

    fn tensor(&self, rows: usize, cols: usize) -> Result<Tensor> {
        Tensor::new(&self.context, self.element, (rows, cols))
    }

    fn cells(&self, count: usize) -> Result<Tensor> {
        Tensor::cells(&self.context, self.element, count)
    }

    fn matrix(&self, out: usize, weight: Vec<f32>, bias: Option<Vec<f32>>) -> Result<Matrix> {
        Matrix::new(&self.context, self.element, (out, &weight), bias.as_deref())
    }

    fn table(&self, rows: usize, values: Vec<f32>) -> Result<Table> {
        Table::new(&self.context, self.element, rows, &values)
    }

    fn exact_table(&self, rows: usize, values: Vec<f32>) -> Result<Table> {
        Table::exact(&self.context, rows, &values)
    }

    fn tied(&self, table: &Table, bias: Option<Vec<f32>>) -> Result<Matrix> {
        Matrix::tied(&self.context, table, bias.as_deref())
    }

    fn vector(&self, values: Vec<f32>) -> Result<Vector> {
        Ok(Vector { values: self.context.buffer_of(&values)?, len: values.len() })
    }

    fn set_rows(&self, x: &mut Tensor, rows: usize) {
        x.set_rows(rows);
    }

    fn write(&self, x: &mut Tensor, values: &[f32]) -> Result<()> {
        buffer::write(&self.context, x, values)
    }

    fn read(&self, x: &Tensor, out: &mut Vec<f32>) -> Result<()> {
        buffer::read(&self.context, x, out)
    }

    fn check(&self) -> Result<()> {
        self.context.end_batch()
    }

    fn wait(&self) -> Result<()> {
        self.context.wait()
    }

    fn element_bytes(&self) -> usize {
        self.element.size()
    }

    fn embed(&self, table: &Table, ids: &[u32], scale: f32, out: &mut Tensor) {
        embed::embed(&self.context, table, (ids, scale), out);
    }

    fn embed_add(&self, table: &Table, ids: &[u32], x: &mut Tensor) {
        embed::embed_add(&self.context, table, ids, x);
    }

    fn norm(&self, norm: &NormWeights<Vector>, x: &Tensor, out: &mut Tensor) {
        norm::norm(&self.context, norm, x, out);
    }

    fn add_norm(&self, norm: &NormWeights<Vector>, x: &Tensor, y: &Tensor, out: &mut Tensor) {
        norm::add_norm(&self.context, norm, (x, y), out);
    }

    fn head_norm(&self, norm: &NormWeights<Vector>, heads: HeadRange, x: &mut Tensor) {
        norm::head_norm(&self.context, norm, heads, x);
    }

    fn rope(&self, angles: &Table, positions: &[u32], heads: HeadRange, x: &mut Tensor) {
        rope::rope(&self.context, angles, positions, (heads, x));
    }

    fn attention(
        &self,
        args: &AttentionArgs<'_, Vector>,
        qkv: &Tensor,
        out: &mut Tensor,
        probs: Option<&mut Tensor>,
    ) {
        attention::attention(&self.context, args, (qkv, out), probs);
    }

    fn linear(&self, weight: &Matrix, x: &Tensor, then: Epilogue<'_, Tensor>, out: &mut Tensor) {
        gemm::linear(&self.context, weight, (x, then), out);
    }

    fn activate(&self, activation: Activation, x: &Tensor, out: &mut Tensor) {
        gated_act::activate(&self.context, activation, x, out);
    }

    fn multiply(&self, a: &Tensor, b: &Tensor, out: &mut Tensor) {
        gated_act::multiply(&self.context, (a, b), out);
    }

    fn add(&self, x: &mut Tensor, y: &Tensor) {
        residual::add(&self.context, x, y);
    }

    fn copy(&self, x: &Tensor, out: &mut Tensor) {
        residual::copy(&self.context, x, out);
    }

    fn softcap(&self, cap: f32, x: &mut Tensor) {
        gated_act::softcap(&self.context, cap, x);
    }

    fn pool(&self, how: Pooling, rows: RowRuns<'_>, x: &Tensor, out: &mut Tensor) {
        pool::pool(&self.context, how, rows, (x, out));
    }

    fn edit(&self, edit: &Edit, x: &mut Tensor) {
        edit::edit(&self.context, edit, x);
    }

    fn edit_mask(&self, edit: &Edit, y: &Tensor, g: &mut Tensor) {
        edit::edit_mask(&self.context, edit, (y, g));
    }

    fn statistics(&self, plan: &Arc<StatisticsPlan>) -> Result<Statistics> {
        Statistics::new(&self.context, plan)
    }

    fn update_statistics(&self, statistics: &mut Statistics, rows: &BatchRows, x: &Tensor) {
        statistics.update(&self.context, rows, x);
    }

    fn take_statistics(&self, statistics: Statistics) -> Result<SiteStatistics> {
        statistics.take(&self.context)
    }
}
