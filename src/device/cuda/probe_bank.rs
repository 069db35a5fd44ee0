//! probe_bank: linear probes trained on rows as they come by. A unit of heads is a block's; see
//! `kernels/probe_bank.cuh` for how it lies in memory.
#![expect(unsafe_code, reason = "launches kernels")]

use bytemuck::{Pod, Zeroable};

use super::CudaDevice;
use super::arena::Buffer;
use super::buffer::Tensor;
use super::context::{Context, args};
use super::driver::Ptr;
use super::grid::count;
use super::probe_bank_tables::{CHUNK, Tables, corrections};
use crate::device::probe_ops::{
    BankPlan, BankState, Feed, Measures, ProbeOps, Progress, RUN, TaskRows,
};
use crate::device::probe_units::{check_plan, check_rows, classes};
use crate::error::Result;

args! {
    /// See `kernels/probe_bank.cu`.
    struct ProbeBankArgs {
        x: Ptr,
        units: Ptr,
        heads: Ptr,
        tasks: Ptr,
        rows: Ptr,
        targets: Ptr,
        corrections: Ptr,
        weights: Ptr,
        sums: Ptr,
        first: Ptr,
        second: Ptr,
        masks: Ptr,
        logits: Ptr,
        losses: Ptr,
        said: Ptr,
        loss_sums: Ptr,
        counts: Ptr,
        stride: u64,
        inputs: u32,
        mode: u32,
        limit: u32,
        end: u32,
        classes: u32,
        unused: u32,
    }
}

args! {
    /// See `kernels/probe_bank_proximal.cu`.
    struct ProximalArgs {
        units: Ptr,
        heads: Ptr,
        steps: Ptr,
        means: Ptr,
        weights: Ptr,
        next: Ptr,
        point: Ptr,
        totals: Ptr,
        masks: Ptr,
        momenta: Ptr,
        told: Ptr,
        inputs: u32,
        unused: u32,
    }
}

/// Rows of a task in a call; as in the kernel.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
struct TaskCall {
    first: u32,
    count: u32,
    waiting: u32,
    corrections: u32,
}

/// Where a task stands.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Task {
    /// Rows since the last step or run.
    pub(super) waiting: usize,
    /// Steps of Adam so far.
    pub(super) steps: i32,
    /// Rows of the pass for gradients.
    rows: u64,
    /// Rows measured.
    measured: u64,
}

/// What the moments of a bank are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Solver {
    None,
    Adam,
    Fista,
}

/// Probes of one site, on a GPU.
#[derive(Debug)]
pub struct Bank {
    pub(super) plan: BankPlan,
    pub(super) tables: Tables,
    pub(super) tasks: Vec<Task>,
    pub(super) solver: Solver,
    /// What rows wait for.
    pending: Feed,
    units: Buffer,
    heads: Buffer,
    pub(super) weights: Buffer,
    pub(super) sums: Buffer,
    /// Adam's means, or FISTA's point.
    pub(super) first: Buffer,
    /// Adam's means of squares, or FISTA's totals in f64.
    pub(super) second: Buffer,
    masks: Option<Buffer>,
    logits: Buffer,
    losses: Buffer,
    said: Buffer,
    gradient_losses: Buffer,
    measured_losses: Buffer,
    counts: Buffer,
    pub(super) momenta: Buffer,
    told: Buffer,
}

impl Bank {
    fn new(
        context: &Context,
        plan: &BankPlan,
        (weights, biases): (&[f32], &[f32]),
    ) -> Result<Self> {
        let tables = Tables::new(plan);
        let mut own = tables.spread(plan, weights, 0.0);
        let masks = plan.masks.as_ref().map(|masks| tables.spread(plan, masks, 1.0));
        if let Some(masks) = &masks {
            own.iter_mut().zip(masks).for_each(|(w, mask)| *w *= mask);
        }
        tables.set_biases(plan, biases, &mut own);
        let (cells, heads) = (tables.cells, plan.heads.len());
        let zeros = |bytes: usize| {
            let buffer = context.buffer(bytes.max(8))?;
            context.fill_words(&buffer, 0)?;
            Ok(buffer)
        };
        Ok(Self {
            tasks: vec![Task::default(); plan.tasks],
            solver: Solver::None,
            pending: Feed::Measure,
            units: context.buffer_of(&tables.units)?,
            heads: context.buffer_of(&tables.heads)?,
            weights: context.buffer_of(&own)?,
            sums: zeros(4 * cells)?,
            first: zeros(4 * cells)?,
            second: zeros(8 * cells)?,
            masks: masks.map(|masks| context.buffer_of(&masks)).transpose()?,
            logits: zeros(4 * tables.logits)?,
            losses: zeros(8 * CHUNK * heads)?,
            said: zeros(4 * CHUNK * heads)?,
            gradient_losses: zeros(8 * heads)?,
            measured_losses: zeros(8 * heads)?,
            counts: zeros(3 * 8 * tables.classes)?,
            momenta: zeros(8 * heads)?,
            told: zeros(2 * 8 * heads)?,
            plan: plan.clone(),
            tables,
        })
    }

    /// Makes sure that the moments are those of this kind of pass. A failure is told by the next check.
    fn begin(&mut self, context: &Context, what: Feed) {
        let solver = match what {
            Feed::Measure => return,
            Feed::Train { .. } => Solver::Adam,
            Feed::Gradient => Solver::Fista,
        };
        let waits = self.tasks.iter().any(|task| task.waiting > 0);
        assert!(!waits || self.pending == what, "another pass has not ended");
        self.pending = what;
        if std::mem::replace(&mut self.solver, solver) == solver {
            return;
        }
        // The context keeps the first failure.
        let _ = context.fill_words(&self.second, 0);
        if solver == Solver::Adam {
            let _ = context.fill_words(&self.first, 0);
            self.tasks.iter_mut().for_each(|task| task.steps = 0);
        } else {
            context.copy(&self.weights, &self.first, 4 * self.tables.cells);
            let _ = context.write(&self.momenta, &vec![1.0_f64; self.plan.heads.len()]);
        }
    }

    /// Queues rows of a tensor, or the end of a pass.
    fn run(
        &mut self,
        context: &Context,
        (x, rows): (Option<&Tensor>, &[TaskRows<'_>]),
        what: Feed,
    ) {
        let (mode, limit) = match what {
            Feed::Train { batch } => (0, batch),
            Feed::Gradient => (1, RUN),
            Feed::Measure => (2, 1),
        };
        let (mut calls, mut factors) = (Vec::new(), Vec::new());
        let (mut list, mut targets): (Vec<u32>, Vec<f32>) = (Vec::new(), Vec::new());
        for (number, task) in self.tasks.iter_mut().enumerate() {
            let own = rows.get(number).copied().unwrap_or(TaskRows { rows: &[], targets: &[] });
            calls.push(TaskCall {
                first: count(list.len()),
                count: count(own.rows.len()),
                waiting: count(task.waiting),
                corrections: count(factors.len()),
            });
            list.extend_from_slice(own.rows);
            targets.extend_from_slice(own.targets);
            let ends = task.advance(own.rows.len(), what, (limit, x.is_none()));
            if mode == 0 {
                factors.extend((0..ends).map(|_| corrections(&mut task.steps)));
            }
        }
        let kernel =
            x.map_or("probe_bank_f32", |x| x.element().pick(["probe_bank_f32", "probe_bank_bf16"]));
        let measured = what == Feed::Measure;
        let losses = if measured { &self.measured_losses } else { &self.gradient_losses };
        let args = ProbeBankArgs {
            x: x.map_or(Ptr::NULL, Tensor::start),
            units: self.units.start(),
            heads: self.heads.start(),
            tasks: context.upload(&calls),
            rows: context.upload(&list),
            targets: context.upload(&targets),
            corrections: context.upload(&factors),
            weights: self.weights.start(),
            sums: self.sums.start(),
            first: self.first.start(),
            second: self.second.start(),
            masks: self.masks.as_ref().map_or(Ptr::NULL, Buffer::start),
            logits: self.logits.start(),
            losses: self.losses.start(),
            said: self.said.start(),
            loss_sums: losses.start(),
            counts: self.counts.start(),
            stride: x.map_or(0, |x| x.stride() as u64),
            inputs: count(self.plan.inputs),
            mode,
            limit: count(limit),
            end: u32::from(x.is_none()),
            classes: count(self.tables.classes),
            unused: 0,
        };
        // SAFETY: rows lie within `x` and classes within their heads (`check_rows`); every unit's cells,
        // logits, heads and counts were laid out by `Tables`, and the buffers have their sizes.
        unsafe { context.launch(kernel, ([count(self.tables.units.len()), 1, 1], 0), &args) }
    }

    fn proximal(&mut self, context: &Context, steps: &[f32]) -> Result<Vec<Progress>> {
        assert_eq!(steps.len(), self.plan.heads.len());
        assert!(self.tasks.iter().all(|task| task.waiting == 0), "a pass has not ended");
        let heads = steps.len();
        if self.solver != Solver::Fista {
            return Ok(vec![Progress::default(); heads]);
        }
        for (head, step) in self.plan.heads.iter().zip(steps) {
            let smooth = !head.norm || head.l2 == 0.0 || *step == 0.0;
            assert!(smooth, "a norm is not smooth: use Adam");
        }
        let rows: Vec<u64> =
            self.tasks.iter_mut().map(|task| std::mem::take(&mut task.rows)).collect();
        let means: Vec<f64> =
            rows.iter().map(|rows| if *rows > 0 { 1.0 / *rows as f64 } else { 0.0 }).collect();
        let steps: Vec<f32> = self.tables.order.iter().map(|head| steps[*head]).collect();
        let args = ProximalArgs {
            units: self.units.start(),
            heads: self.heads.start(),
            steps: context.upload(&steps),
            means: context.upload(&means),
            weights: self.weights.start(),
            next: self.sums.start(),
            point: self.first.start(),
            totals: self.second.start(),
            masks: self.masks.as_ref().map_or(Ptr::NULL, Buffer::start),
            momenta: self.momenta.start(),
            told: self.told.start(),
            inputs: count(self.plan.inputs),
            unused: 0,
        };
        let grid = [count(self.tables.units.len()), 1, 1];
        // SAFETY: as above; there is a step and a t for each head, and a mean for each task.
        unsafe { context.launch("probe_bank_proximal", (grid, 0), &args) }
        let (mut told, mut losses) = (vec![0.0; 2 * heads], vec![0.0; heads]);
        context.download(&self.told, &mut told)?;
        context.download(&self.gradient_losses, &mut losses)?;
        context.fill_words(&self.gradient_losses, 0)?;
        let mut out = vec![Progress::default(); heads];
        for (at, head) in self.tables.order.iter().enumerate() {
            let mean = means[self.plan.heads[*head].task];
            let (change, residual) = (told[2 * at], told[2 * at + 1]);
            out[*head] = Progress { loss: losses[at] * mean, change, residual };
        }
        Ok(out)
    }

    fn take_measures(&mut self, context: &Context) -> Result<Vec<Measures>> {
        let heads = self.plan.heads.len();
        let mut losses = vec![0.0; heads];
        let mut counts = vec![0_u64; 3 * self.tables.classes];
        context.download(&self.measured_losses, &mut losses)?;
        context.download(&self.counts, &mut counts)?;
        context.fill_words(&self.measured_losses, 0)?;
        context.fill_words(&self.counts, 0)?;
        let mut out = vec![Measures::default(); heads];
        for (at, head) in self.tables.order.iter().enumerate() {
            let plan = &self.plan.heads[*head];
            let first = self.tables.heads[at].classes as usize;
            let of = |kind: usize| {
                counts[kind * self.tables.classes + first..][..classes(plan)].to_vec()
            };
            let rows = self.tasks[plan.task].measured;
            let loss = losses[at];
            out[*head] = Measures { rows, loss, seen: of(0), right: of(1), said: of(2) };
        }
        self.tasks.iter_mut().for_each(|task| task.measured = 0);
        Ok(out)
    }
}

impl Task {
    /// Rows come by; answers how many batches or runs end.
    fn advance(&mut self, rows: usize, what: Feed, (limit, end): (usize, bool)) -> usize {
        if what == Feed::Measure {
            self.measured += rows as u64;
            return 0;
        }
        if what == Feed::Gradient {
            self.rows += rows as u64;
        }
        let all = self.waiting + rows;
        let left = if end { 0 } else { all % limit };
        self.waiting = left;
        (all - left).div_ceil(limit)
    }
}

impl ProbeOps for CudaDevice {
    type Bank = Bank;

    fn bank(&self, plan: &BankPlan, weights: &[f32], biases: &[f32]) -> Result<Bank> {
        check_plan(plan, weights, biases);
        Bank::new(&self.context, plan, (weights, biases))
    }

    fn feed(&self, bank: &mut Bank, x: &Tensor, tasks: &[TaskRows<'_>], what: Feed) {
        assert_eq!(x.cols(), bank.plan.inputs);
        assert!(x.stride().is_multiple_of(8), "rows are read in whole packs");
        assert!(!matches!(what, Feed::Train { batch: 0 }), "a batch has rows");
        check_rows(&bank.plan, x.rows(), tasks);
        bank.begin(&self.context, what);
        if tasks.iter().any(|task| !task.rows.is_empty()) {
            bank.run(&self.context, (Some(x), tasks), what);
        }
    }

    fn end_pass(&self, bank: &mut Bank, what: Feed) {
        let waits = bank.tasks.iter().any(|task| task.waiting > 0);
        if waits && what != Feed::Measure {
            assert_eq!(bank.pending, what, "another pass has not ended");
            bank.run(&self.context, (None, &[]), what);
        }
    }

    fn proximal(&self, bank: &mut Bank, steps: &[f32]) -> Result<Vec<Progress>> {
        bank.proximal(&self.context, steps)
    }

    fn take_measures(&self, bank: &mut Bank) -> Result<Vec<Measures>> {
        bank.take_measures(&self.context)
    }

    fn read_bank(&self, bank: &Bank) -> Result<(Vec<f32>, Vec<f32>)> {
        let mut cells = vec![0.0; bank.tables.cells];
        self.context.download(&bank.weights, &mut cells)?;
        Ok(bank.tables.gather(&bank.plan, &cells))
    }

    fn save_bank(&self, bank: &Bank) -> Result<BankState> {
        bank.save(&self.context)
    }

    fn restore_bank(&self, bank: &mut Bank, state: &BankState) -> Result<bool> {
        bank.restore(&self.context, state)
    }
}
