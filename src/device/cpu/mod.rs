//! The device of machines without a GPU: f32, vectorised loops, rayon. A file per operation stem;
//! `unsafe` stands in `dispatch.rs`, `shared.rs`, `gemm.rs`, `small.rs`, `tile.rs`, `pairs.rs`,
//! `attention.rs`, `attention_grad.rs` and `simd.rs` alone.

mod activation_grad;
mod attention;
mod attention_grad;
mod attention_tile;
mod buffer;
mod ceiling;
pub mod class_sums;
pub mod dispatch;
mod edit;
mod embed;
mod gated_act;
mod gemm;
mod gradients;
mod gram;
pub mod histogram;
mod math;
mod moments;
mod norm;
mod norm_grad;
mod pairs;
mod panels;
mod pick_logits;
mod pool;
mod probe_bank;
mod rescale;
mod residual;
mod rope;
pub mod sample_rows;
mod scatter;
mod score;
mod shared;
mod shift_neurons;
pub mod simd;
mod small;
pub mod statistics;
mod suffix;
mod tile;
pub mod top_tokens;
pub mod waiting_bins;

pub use buffer::{Matrix, Table, Tensor};
pub use gram::Moments;
pub use probe_bank::Bank;

use self::attention::Source;
use self::gemm::Then;
use self::panels::Panels;

use std::sync::Arc;

use super::ops::{AttentionArgs, Edit, Epilogue, HeadRange, NormWeights, Ops, Pooling, RowRuns};
use super::rows::BatchRows;
use super::statistics::{SiteStatistics, StatisticsPlan};
use crate::error::Result;
use crate::model::Activation;

/// The processor as a device. Threads are those of the current rayon pool. Tensors are f32 in both.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CpuDevice {
    /// All of it in f32.
    #[default]
    F32,
    /// Products with weights of numbers rounded to bfloat16, their sums and all else in f32.
    Bf16,
}

impl CpuDevice {
    /// Whether this processor has products of pairs of bfloat16; where it has none, rounded numbers
    /// are multiplied in f32, at the speed of f32.
    pub fn multiplies_pairs() -> bool {
        pairs::available()
    }
}

impl Ops for CpuDevice {
    type Tensor = Tensor;
    type Matrix = Matrix;
    type Table = Table;
    type Vector = Vec<f32>;
    type Statistics = statistics::Running;

    fn tensor(&self, rows: usize, cols: usize) -> Result<Tensor> {
        Ok(Tensor::new(rows, cols))
    }

    fn matrix(&self, out: usize, weight: Vec<f32>, bias: Option<Vec<f32>>) -> Result<Matrix> {
        assert!(bias.as_ref().is_none_or(|bias| bias.len() == out));
        let inputs = weight.len().checked_div(out).unwrap_or(0);
        let at = |output, input| weight[output * inputs + input];
        let packed = Panels::pack(*self, (out, inputs), at);
        Ok(Matrix { weight: packed, rows: None, bias })
    }

    fn table(&self, rows: usize, values: Vec<f32>) -> Result<Table> {
        let cols = values.len().checked_div(rows).unwrap_or(0);
        Ok(Table { cols, values: values.into() })
    }

    fn exact_table(&self, rows: usize, values: Vec<f32>) -> Result<Table> {
        self.table(rows, values)
    }

    fn tied(&self, table: &Table, bias: Option<Vec<f32>>) -> Result<Matrix> {
        let (cols, values) = (table.cols, &table.values);
        let shape = (values.len().checked_div(cols).unwrap_or(0), cols);
        let weight = Panels::pack(*self, shape, |output, input| values[output * cols + input]);
        Ok(Matrix { weight, rows: Some(values.clone()), bias })
    }

    fn vector(&self, values: Vec<f32>) -> Result<Vec<f32>> {
        Ok(values)
    }

    fn set_rows(&self, x: &mut Tensor, rows: usize) {
        x.set_rows(rows);
    }

    fn write(&self, x: &mut Tensor, values: &[f32]) -> Result<()> {
        x.values_mut().copy_from_slice(values);
        Ok(())
    }

    fn read(&self, x: &Tensor, out: &mut Vec<f32>) -> Result<()> {
        out.clear();
        out.extend_from_slice(x.values());
        Ok(())
    }

    fn check(&self) -> Result<()> {
        Ok(())
    }

    fn wait(&self) -> Result<()> {
        Ok(())
    }

    fn element_bytes(&self) -> usize {
        size_of::<f32>()
    }

    fn embed(&self, table: &Table, ids: &[u32], scale: f32, out: &mut Tensor) {
        embed::embed(table, ids, scale, out);
    }

    fn embed_add(&self, table: &Table, ids: &[u32], x: &mut Tensor) {
        embed::embed_add(table, ids, x);
    }

    fn norm(&self, norm: &NormWeights<Vec<f32>>, x: &Tensor, out: &mut Tensor) {
        norm::norm(norm, x, out);
    }

    fn add_norm(&self, norm: &NormWeights<Vec<f32>>, x: &Tensor, y: &Tensor, out: &mut Tensor) {
        norm::add_norm(norm, x, y, out);
    }

    fn head_norm(&self, norm: &NormWeights<Vec<f32>>, heads: HeadRange, x: &mut Tensor) {
        norm::head_norm(norm, heads, x);
    }

    fn rope(&self, angles: &Table, positions: &[u32], heads: HeadRange, x: &mut Tensor) {
        rope::rope(angles, positions, heads, x);
    }

    fn attention(
        &self,
        args: &AttentionArgs<'_, Vec<f32>>,
        qkv: &Tensor,
        out: &mut Tensor,
        probs: Option<&mut Tensor>,
    ) {
        attention::attention(args, Source { qkv, past: None }, out, probs);
    }

    fn linear(&self, weight: &Matrix, x: &Tensor, then: Epilogue<'_, Tensor>, out: &mut Tensor) {
        let then = match then {
            Epilogue::Store => Then::Store,
            Epilogue::Activate(activation) => Then::Apply(gated_act::kernel(activation)),
            Epilogue::Multiply(a) => {
                assert_eq!((a.rows(), a.cols()), (out.rows(), out.cols()));
                Then::Multiply(a.values())
            }
            // The sums are added from registers: no room for the product is needed.
            Epilogue::Add(_) => Then::Add,
        };
        gemm::linear(weight, x, then, out);
    }

    fn activate(&self, activation: Activation, x: &Tensor, out: &mut Tensor) {
        gated_act::activate(activation, x, out);
    }

    fn multiply(&self, a: &Tensor, b: &Tensor, out: &mut Tensor) {
        gated_act::multiply(a, b, out);
    }

    fn add(&self, x: &mut Tensor, y: &Tensor) {
        residual::add(x, y);
    }

    fn copy(&self, x: &Tensor, out: &mut Tensor) {
        residual::copy(x, out);
    }

    fn softcap(&self, cap: f32, x: &mut Tensor) {
        gated_act::softcap(cap, x);
    }

    fn pool(&self, how: Pooling, rows: RowRuns<'_>, x: &Tensor, out: &mut Tensor) {
        pool::pool(how, rows, x, out);
    }

    fn edit(&self, edit: &Edit, x: &mut Tensor) {
        edit::edit(edit, x);
    }

    fn edit_mask(&self, edit: &Edit, y: &Tensor, g: &mut Tensor) {
        edit::edit_mask(edit, y, g);
    }

    fn statistics(&self, plan: &Arc<StatisticsPlan>) -> Result<Self::Statistics> {
        Ok(statistics::Running::new(plan))
    }

    fn update_statistics(&self, statistics: &mut Self::Statistics, rows: &BatchRows, x: &Tensor) {
        statistics.update(rows, statistics::Activations { x: x.values(), stride: x.cols() });
    }

    fn take_statistics(&self, statistics: Self::Statistics) -> Result<SiteStatistics> {
        Ok(statistics.finish())
    }
}
