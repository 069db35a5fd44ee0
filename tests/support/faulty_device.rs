//! The CPU with a fault that a test chooses: it fails, panics or runs out of memory where a GPU would.
//! A device that is opened again is the same one, as of every device. It also counts what it makes.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use electrode::device::cpu::{CpuDevice, Matrix, Table, Tensor};
use electrode::device::gradient_ops::{Against, GradientOps, Metric};
use electrode::device::ops::{
    AttentionArgs, Edit, Epilogue, HeadRange, NormWeights, Ops, Pooling, RowRuns,
};
use electrode::device::rows::BatchRows;
use electrode::device::statistics::{SiteStatistics, StatisticsPlan};
use electrode::device::suffix_ops::{Past, SuffixOps};
use electrode::engine::fleet::Slot;
use electrode::error::{Error, Result};
use electrode::model::Activation;

/// What goes wrong.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Fault {
    /// After so many batches every call fails.
    pub(crate) fails_after: Option<usize>,
    /// After so many batches the next one panics.
    pub(crate) panics_after: Option<usize>,
    /// Tensors of more rows do not fit, from the batch on that is named with them.
    pub(crate) rows_from: Option<(usize, usize)>,
    /// How long a batch takes beside its work.
    pub(crate) slow: Duration,
}

#[derive(Clone)]
pub(crate) struct FaultyDevice {
    name: String,
    fault: Fault,
    batches: Arc<AtomicUsize>,
    /// Of the statistics that wait for memory.
    rows: Arc<AtomicUsize>,
    /// In all tensors that were made.
    numbers: Arc<AtomicUsize>,
}

impl FaultyDevice {
    pub(crate) fn slot(name: String, fault: Fault) -> Slot<'static, Self> {
        let device = Self::new(name.clone(), fault);
        Slot::new(name, move || Ok(device.clone()))
    }

    pub(crate) fn new(name: String, fault: Fault) -> Self {
        let (batches, rows, numbers) = (Arc::default(), Arc::default(), Arc::default());
        Self { name, fault, batches, rows, numbers }
    }

    /// Numbers in all tensors that were made.
    pub(crate) fn numbers(&self) -> usize {
        self.numbers.load(Ordering::SeqCst)
    }

    fn batches(&self) -> usize {
        self.batches.load(Ordering::SeqCst)
    }

    fn broken(&self) -> Result<()> {
        match self.fault.fails_after {
            Some(after) if self.batches() >= after => Err(Error::Device {
                device: self.name.clone(),
                what: "it fell off the bus".to_owned(),
            }),
            _ => Ok(()),
        }
    }

    fn room(&self, rows: usize) -> Result<()> {
        match self.fault.rows_from {
            Some((most, from)) if self.batches() >= from && rows > most => {
                let what = format!("out of memory: room for {rows} rows, there is one for {most}");
                Err(Error::DeviceMemory { device: self.name.clone(), what })
            }
            _ => Ok(()),
        }
    }
}

impl Ops for FaultyDevice {
    type Tensor = Tensor;
    type Matrix = Matrix;
    type Table = Table;
    type Vector = Vec<f32>;
    type Statistics = <CpuDevice as Ops>::Statistics;

    fn tensor(&self, rows: usize, cols: usize) -> Result<Tensor> {
        self.broken()?;
        self.room(rows)?;
        self.rows.store(rows, Ordering::SeqCst);
        self.numbers.fetch_add(rows * cols, Ordering::SeqCst);
        CpuDevice::F32.tensor(rows, cols)
    }

    fn matrix(&self, out: usize, weight: Vec<f32>, bias: Option<Vec<f32>>) -> Result<Matrix> {
        self.broken()?;
        CpuDevice::F32.matrix(out, weight, bias)
    }

    fn table(&self, rows: usize, values: Vec<f32>) -> Result<Table> {
        CpuDevice::F32.table(rows, values)
    }

    fn exact_table(&self, rows: usize, values: Vec<f32>) -> Result<Table> {
        CpuDevice::F32.exact_table(rows, values)
    }

    fn tied(&self, table: &Table, bias: Option<Vec<f32>>) -> Result<Matrix> {
        CpuDevice::F32.tied(table, bias)
    }

    fn vector(&self, values: Vec<f32>) -> Result<Vec<f32>> {
        CpuDevice::F32.vector(values)
    }

    fn set_rows(&self, x: &mut Tensor, rows: usize) {
        CpuDevice::F32.set_rows(x, rows);
    }

    fn write(&self, x: &mut Tensor, values: &[f32]) -> Result<()> {
        self.broken()?;
        CpuDevice::F32.write(x, values)
    }

    fn read(&self, x: &Tensor, out: &mut Vec<f32>) -> Result<()> {
        self.broken()?;
        CpuDevice::F32.read(x, out)
    }

    /// Once after every batch.
    fn check(&self) -> Result<()> {
        std::thread::sleep(self.fault.slow);
        let done = self.batches.fetch_add(1, Ordering::SeqCst);
        assert_ne!(Some(done), self.fault.panics_after, "a panic on purpose");
        self.broken()
    }

    fn wait(&self) -> Result<()> {
        CpuDevice::F32.wait()
    }

    fn element_bytes(&self) -> usize {
        CpuDevice::F32.element_bytes()
    }

    fn embed(&self, table: &Table, ids: &[u32], scale: f32, out: &mut Tensor) {
        CpuDevice::F32.embed(table, ids, scale, out);
    }

    fn embed_add(&self, table: &Table, ids: &[u32], x: &mut Tensor) {
        CpuDevice::F32.embed_add(table, ids, x);
    }

    fn norm(&self, norm: &NormWeights<Vec<f32>>, x: &Tensor, out: &mut Tensor) {
        CpuDevice::F32.norm(norm, x, out);
    }

    fn add_norm(&self, norm: &NormWeights<Vec<f32>>, x: &Tensor, y: &Tensor, out: &mut Tensor) {
        CpuDevice::F32.add_norm(norm, x, y, out);
    }

    fn head_norm(&self, norm: &NormWeights<Vec<f32>>, heads: HeadRange, x: &mut Tensor) {
        CpuDevice::F32.head_norm(norm, heads, x);
    }

    fn rope(&self, angles: &Table, positions: &[u32], heads: HeadRange, x: &mut Tensor) {
        CpuDevice::F32.rope(angles, positions, heads, x);
    }

    fn attention(
        &self,
        args: &AttentionArgs<'_, Vec<f32>>,
        qkv: &Tensor,
        out: &mut Tensor,
        probs: Option<&mut Tensor>,
    ) {
        CpuDevice::F32.attention(args, qkv, out, probs);
    }

    fn linear(&self, weight: &Matrix, x: &Tensor, then: Epilogue<'_, Tensor>, out: &mut Tensor) {
        CpuDevice::F32.linear(weight, x, then, out);
    }

    fn activate(&self, activation: Activation, x: &Tensor, out: &mut Tensor) {
        CpuDevice::F32.activate(activation, x, out);
    }

    fn multiply(&self, a: &Tensor, b: &Tensor, out: &mut Tensor) {
        CpuDevice::F32.multiply(a, b, out);
    }

    fn add(&self, x: &mut Tensor, y: &Tensor) {
        CpuDevice::F32.add(x, y);
    }

    fn copy(&self, x: &Tensor, out: &mut Tensor) {
        CpuDevice::F32.copy(x, out);
    }

    fn softcap(&self, cap: f32, x: &mut Tensor) {
        CpuDevice::F32.softcap(cap, x);
    }

    fn pool(&self, how: Pooling, rows: RowRuns<'_>, x: &Tensor, out: &mut Tensor) {
        CpuDevice::F32.pool(how, rows, x, out);
    }

    fn edit(&self, edit: &Edit, x: &mut Tensor) {
        CpuDevice::F32.edit(edit, x);
    }

    fn edit_mask(&self, edit: &Edit, y: &Tensor, g: &mut Tensor) {
        CpuDevice::F32.edit_mask(edit, y, g);
    }

    /// The memory of a device may go to somebody else between two blocks.
    fn statistics(&self, plan: &Arc<StatisticsPlan>) -> Result<Self::Statistics> {
        self.room(self.rows.load(Ordering::SeqCst))?;
        CpuDevice::F32.statistics(plan)
    }

    fn update_statistics(&self, statistics: &mut Self::Statistics, rows: &BatchRows, x: &Tensor) {
        CpuDevice::F32.update_statistics(statistics, rows, x);
    }

    fn take_statistics(&self, statistics: Self::Statistics) -> Result<SiteStatistics> {
        self.broken()?;
        CpuDevice::F32.take_statistics(statistics)
    }
}

impl GradientOps for FaultyDevice {
    fn transposed(&self, weight: &Matrix) -> Result<Matrix> {
        self.broken()?;
        CpuDevice::F32.transposed(weight)
    }

    fn exact_tensor(&self, rows: usize, cols: usize) -> Result<Tensor> {
        self.tensor(rows, cols)
    }

    fn norm_grad(&self, norm: &NormWeights<Vec<f32>>, x: &Tensor, g: &mut Tensor) {
        CpuDevice::F32.norm_grad(norm, x, g);
    }

    fn head_norm_grad(
        &self,
        norm: &NormWeights<Vec<f32>>,
        heads: HeadRange,
        x: &Tensor,
        g: &mut Tensor,
    ) {
        CpuDevice::F32.head_norm_grad(norm, heads, x, g);
    }

    fn rope_grad(&self, angles: &Table, positions: &[u32], heads: HeadRange, g: &mut Tensor) {
        CpuDevice::F32.rope_grad(angles, positions, heads, g);
    }

    fn attention_grad(
        &self,
        args: &AttentionArgs<'_, Vec<f32>>,
        qkv: &Tensor,
        g: &Tensor,
        out: &mut Tensor,
    ) {
        CpuDevice::F32.attention_grad(args, qkv, g, out);
    }

    fn activation_grad(&self, activation: Activation, x: &Tensor, g: &mut Tensor) {
        CpuDevice::F32.activation_grad(activation, x, g);
    }

    fn softcap_grad(&self, cap: f32, y: &Tensor, g: &mut Tensor) {
        CpuDevice::F32.softcap_grad(cap, y, g);
    }

    fn scale_by(&self, a: &Tensor, x: &mut Tensor) {
        CpuDevice::F32.scale_by(a, x);
    }

    fn scatter(&self, rows: &[u32], g: &Tensor, out: &mut Tensor) {
        CpuDevice::F32.scatter(rows, g, out);
    }

    fn score(&self, against: &Against<'_, Tensor>, logits: &Tensor, out: (usize, &mut Tensor)) {
        CpuDevice::F32.score(against, logits, out);
    }

    fn score_grad(
        &self,
        how: (Metric, &[f32]),
        against: &Against<'_, Tensor>,
        logits: &Tensor,
        g: &mut Tensor,
    ) {
        CpuDevice::F32.score_grad(how, against, logits, g);
    }
}

impl SuffixOps for FaultyDevice {
    fn attention_past(
        &self,
        args: &AttentionArgs<'_, Vec<f32>>,
        past: Past<'_, Tensor>,
        qkv: &Tensor,
        out: &mut Tensor,
    ) {
        CpuDevice::F32.attention_past(args, past, qkv, out);
    }

    fn attention_past_grad(
        &self,
        args: &AttentionArgs<'_, Vec<f32>>,
        past: Past<'_, Tensor>,
        qkv_and_g: (&Tensor, &Tensor),
        out: &mut Tensor,
    ) {
        CpuDevice::F32.attention_past_grad(args, past, qkv_and_g, out);
    }

    fn store_past(&self, qkv: &Tensor, tokens: &[u32], rows: &[u32], kv: &mut Tensor) {
        CpuDevice::F32.store_past(qkv, tokens, rows, kv);
    }

    fn put_rows(&self, rows: &[u32], x: &Tensor, out: &mut Tensor) {
        CpuDevice::F32.put_rows(rows, x, out);
    }

    fn shift_neurons(
        &self,
        down: &Matrix,
        tokens_and_neurons: (&[u32], &[u32]),
        act_scale_shift: (&Tensor, &[f32], &[f32]),
        out: &mut Tensor,
    ) {
        CpuDevice::F32.shift_neurons(down, tokens_and_neurons, act_scale_shift, out);
    }

    fn pick_logits(
        &self,
        weight: &Matrix,
        ids_and_others: (&[u32], &[u32]),
        x: &Tensor,
        out: &mut Tensor,
    ) {
        CpuDevice::F32.pick_logits(weight, ids_and_others, x, out);
    }
}
