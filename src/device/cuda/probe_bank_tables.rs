//! How a bank of probes lies on a GPU: tables of units and heads, as `kernels/probe_bank.cuh` reads them.

use bytemuck::{Pod, Zeroable};

use super::grid::{WARP, count};
use crate::device::probe_ops::BankPlan;
use crate::device::probe_units::{Unit, classes, units};

/// Rows that a block reads together; as in the kernel.
pub(super) const CHUNK: usize = 64;
/// Decay of Adam's means of gradients and of their squares.
const BETAS: (f64, f64) = (0.9, 0.999);

/// A row of the table of units.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub(super) struct UnitRow {
    cells: u64,
    logits: u64,
    task: u32,
    loss: u32,
    columns: u32,
    panels: u32,
    first_head: u32,
    heads: u32,
    normed: u32,
    unused: u32,
}

/// A row of the table of heads, which are in the order of units.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub(super) struct HeadRow {
    first: u32,
    columns: u32,
    /// Where its counts begin.
    pub(super) classes: u32,
    norm: u32,
    l1: f32,
    l2: f32,
    rate: f32,
    unused: u32,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Tables {
    pub(super) units: Vec<UnitRow>,
    pub(super) heads: Vec<HeadRow>,
    /// Number in the plan of each row of `heads`.
    pub(super) order: Vec<usize>,
    /// Numbers of all weights and biases, padding included.
    pub(super) cells: usize,
    /// Logits of a chunk of all units.
    pub(super) logits: usize,
    /// Classes of all heads.
    pub(super) classes: usize,
    layout: Vec<Unit>,
}

impl Tables {
    pub(super) fn new(plan: &BankPlan) -> Self {
        let layout = units(&plan.heads, WARP);
        let (units, heads, order) = (Vec::new(), Vec::new(), Vec::new());
        let mut out = Self { units, heads, order, cells: 0, logits: 0, classes: 0, layout };
        for unit in &out.layout {
            let panels = unit.columns.div_ceil(WARP);
            let normed = |head: usize| plan.heads[head].norm && plan.heads[head].l2 > 0.0;
            out.units.push(UnitRow {
                cells: out.cells as u64,
                logits: out.logits as u64,
                task: count(unit.task),
                loss: unit.loss as u32,
                columns: count(unit.columns),
                panels: count(panels),
                first_head: count(out.heads.len()),
                heads: count(unit.places.len()),
                normed: u32::from(unit.places.iter().any(|place| normed(place.head))),
                unused: 0,
            });
            for place in &unit.places {
                let head = &plan.heads[place.head];
                out.heads.push(HeadRow {
                    first: count(place.first),
                    columns: count(place.columns),
                    classes: count(out.classes),
                    norm: u32::from(head.norm && head.l2 > 0.0),
                    l1: head.l1,
                    l2: head.l2,
                    rate: head.rate,
                    unused: 0,
                });
                out.order.push(place.head);
                out.classes += classes(head);
            }
            out.cells += panels * (plan.inputs + 1) * WARP;
            out.logits += panels * WARP * CHUNK;
        }
        out
    }

    /// Calls `each(column of the bank, its cell at input 0)`; inputs are [`WARP`] cells apart.
    fn columns(&self, plan: &BankPlan, mut each: impl FnMut(usize, usize)) {
        let mut first = 0;
        for unit in &self.layout {
            let panel = (plan.inputs + 1) * WARP;
            for place in &unit.places {
                for c in 0..place.columns {
                    let at = place.first + c;
                    each(place.column + c, first + at / WARP * panel + at % WARP);
                }
            }
            first += unit.columns.div_ceil(WARP) * panel;
        }
    }

    /// Values of a bank, `[columns, inputs]`, where the device has them; `other` everywhere else.
    pub(super) fn spread(&self, plan: &BankPlan, values: &[f32], other: f32) -> Vec<f32> {
        let mut cells = vec![other; self.cells];
        self.columns(plan, |column, first| {
            let values = &values[column * plan.inputs..][..plan.inputs];
            for (input, value) in values.iter().enumerate() {
                cells[first + input * WARP] = *value;
            }
        });
        cells
    }

    pub(super) fn set_biases(&self, plan: &BankPlan, biases: &[f32], cells: &mut [f32]) {
        self.columns(plan, |column, first| cells[first + plan.inputs * WARP] = biases[column]);
    }

    /// Weights `[columns, inputs]` and biases.
    pub(super) fn gather(&self, plan: &BankPlan, cells: &[f32]) -> (Vec<f32>, Vec<f32>) {
        let columns = plan.columns();
        let (mut weights, mut biases) = (vec![0.0; columns * plan.inputs], vec![0.0; columns]);
        self.columns(plan, |column, first| {
            let to = &mut weights[column * plan.inputs..][..plan.inputs];
            for (input, to) in to.iter_mut().enumerate() {
                *to = cells[first + input * WARP];
            }
            biases[column] = cells[first + plan.inputs * WARP];
        });
        (weights, biases)
    }
}

/// The next step of Adam: what rates are multiplied with, and the root that those of squares are divided by.
#[expect(clippy::cast_possible_truncation, reason = "numbers of f32 arithmetic")]
pub(super) fn corrections(steps: &mut i32) -> [f32; 2] {
    *steps = steps.saturating_add(1);
    let correction = |beta: f64| 1.0 - beta.powi(*steps);
    [(1.0 / correction(BETAS.0)) as f32, correction(BETAS.1).sqrt() as f32]
}
