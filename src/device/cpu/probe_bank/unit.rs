//! A unit: the weights of heads that stand in the same panels, and what a pass does with rows.
//!
//! The bias is the weight of one more input, which is 1 in every row: products, sums and steps know
//! nothing of it but that it bears no penalty.

use rayon::prelude::*;

use super::super::buffer::Tensor;
use super::super::dispatch::{Level, level};
use super::super::tile::{self, LANES, Rows};
use super::losses::{Verdicts, gradients};
use super::penalties::Penalties;
use super::solver::Solver;
use super::{WIDEST, losses};
use crate::device::probe_ops::{BankPlan, Feed, Head, Measures, Progress, RUN, TaskRows};
use crate::device::probe_units::{self, Place, classes};

/// Rows that are read together: their gradients stay in the first cache while the inputs go by.
const CHUNK: usize = 128;
/// Inputs whose weights stay in the second cache while the rows of a chunk go by.
const BLOCK: usize = 384;
/// Inputs of a piece of the weights: what a thread takes at a time.
pub(super) const PIECE: usize = 96;

/// See the module.
#[derive(Debug)]
pub(super) struct Unit {
    layout: probe_units::Unit,
    shape: Shape,
    /// `[panels][inputs + 1][width]`, as are the sums.
    weights: Vec<f32>,
    /// 1 where a weight may move, shaped as they are.
    masks: Option<Vec<f32>>,
    /// Gradients of the rows that wait.
    sums: Vec<f32>,
    waiting: usize,
    /// What they wait for.
    pending: Feed,
    solver: Solver,
    penalties: Penalties,
    measures: Vec<Measures>,
}

/// What a unit knows between two passes.
#[derive(Debug)]
pub(super) struct Saved {
    weights: Vec<f32>,
    solver: Solver,
}

/// How a unit lies in memory.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shape {
    /// Inputs and the bias.
    pub(super) steps: usize,
    /// Columns of a panel, unused ones included.
    pub(super) width: usize,
    pub(super) panels: usize,
}

impl Shape {
    fn of(columns: usize, inputs: usize) -> Self {
        let width = columns.next_multiple_of(LANES).min(WIDEST);
        Self { steps: inputs + 1, width, panels: columns.div_ceil(width) }
    }

    fn len(self) -> usize {
        self.panels * self.steps * self.width
    }

    fn at(self, column: usize, input: usize) -> usize {
        (column / self.width * self.steps + input) * self.width + column % self.width
    }

    /// Floats between rows of a chunk: an odd number of lines of 64 bytes, so that one column of many
    /// rows does not fall on few sets of the cache.
    fn stride(self) -> usize {
        let lines = self.steps.div_ceil(16);
        (lines + 1 - lines % 2) * 16
    }
}

/// What a thread needs to go through the rows of a unit.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    /// `[CHUNK]` rows.
    x: Vec<f32>,
    /// `[panels][rows][width]`.
    logits: Vec<f32>,
    /// `[rows][heads]`.
    losses: Vec<f64>,
    said: Vec<u32>,
}

impl Scratch {
    fn make_room(&mut self, shape: Shape, heads: usize) {
        let grow = |values: &mut Vec<f32>, len: usize| {
            if values.len() < len {
                values.resize(len, 0.0);
            }
        };
        grow(&mut self.x, CHUNK * shape.stride());
        grow(&mut self.logits, CHUNK * shape.panels * shape.width);
        self.losses.resize(self.losses.len().max(CHUNK * heads), 0.0);
        self.said.resize(self.said.len().max(CHUNK * heads), 0);
    }

    /// Copies rows, each with a 1 for the bias.
    fn gather(&mut self, shape: Shape, x: &Tensor, rows: &[u32]) {
        let inputs = shape.steps - 1;
        for (to, row) in self.x.chunks_exact_mut(shape.stride()).zip(rows) {
            to[..inputs].copy_from_slice(&x.values()[*row as usize * inputs..][..inputs]);
            to[inputs] = 1.0;
        }
    }
}

/// Does something to each item, beside each other if `threads` are more than one.
pub(super) fn each<T: Send>(items: Vec<T>, threads: usize, f: impl Fn(T) + Send + Sync) {
    if threads > 1 {
        items.into_par_iter().for_each(f);
    } else {
        items.into_iter().for_each(f);
    }
}

impl Unit {
    pub(super) fn new(
        layout: probe_units::Unit,
        plan: &BankPlan,
        (weights, biases): (&[f32], &[f32]),
    ) -> Self {
        let shape = Shape::of(layout.columns, plan.inputs);
        let masks = plan.masks.as_ref().map(|masks| {
            let mut own = vec![1.0; shape.len()];
            spread(shape, &layout.places, masks, &mut own);
            own
        });
        let mut own = vec![0.0; shape.len()];
        spread(shape, &layout.places, weights, &mut own);
        if let Some(masks) = &masks {
            own.iter_mut().zip(masks).for_each(|(w, mask)| *w *= mask);
        }
        for place in &layout.places {
            for c in 0..place.columns {
                own[shape.at(place.first + c, plan.inputs)] = biases[place.column + c];
            }
        }
        let heads: Vec<Head> = layout.places.iter().map(|place| plan.heads[place.head]).collect();
        let empty = |head: &Head| {
            let none = vec![0; classes(head)];
            Measures { rows: 0, loss: 0.0, seen: none.clone(), right: none.clone(), said: none }
        };
        Self {
            measures: heads.iter().map(empty).collect(),
            penalties: Penalties::new(shape, &layout.places, heads),
            sums: vec![0.0; shape.len()],
            waiting: 0,
            pending: Feed::Measure,
            solver: Solver::None,
            weights: own,
            masks,
            shape,
            layout,
        }
    }

    pub(super) fn task(&self) -> usize {
        self.layout.task
    }

    pub(super) fn places(&self) -> &[Place] {
        &self.layout.places
    }

    /// See [`crate::device::probe_ops::ProbeOps::feed`].
    pub(super) fn feed(
        &mut self,
        (x, task): (&Tensor, TaskRows<'_>),
        what: Feed,
        (scratch, threads): (&mut Scratch, usize),
    ) {
        let limit = match what {
            Feed::Train { batch } => batch,
            Feed::Gradient => RUN,
            Feed::Measure => usize::MAX,
        };
        if what != Feed::Measure {
            assert!(self.waiting == 0 || self.pending == what, "another pass has not ended");
            self.pending = what;
            self.solver.begin(what, &self.weights, self.layout.places.len());
        }
        scratch.make_room(self.shape, self.layout.places.len());
        let mut next = 0;
        while next < task.rows.len() {
            let waiting = if what == Feed::Measure { 0 } else { self.waiting };
            let rows = next..task.rows.len().min(next + CHUNK.min(limit - waiting));
            next = rows.end;
            scratch.gather(self.shape, x, &task.rows[rows.clone()]);
            let targets = &task.targets[rows.clone()];
            self.judge(scratch, (targets, what), threads);
            match what {
                Feed::Measure => self.count(scratch, targets),
                Feed::Gradient => self.solver.add_losses(&scratch.losses[..], rows.len()),
                Feed::Train { .. } => {}
            }
            if what != Feed::Measure {
                self.waiting += rows.len();
                self.add_gradients(scratch, rows.len(), (self.waiting == limit, threads));
            }
        }
    }

    /// Logits of a chunk, their losses, and gradients in the place of the logits.
    fn judge(&self, scratch: &mut Scratch, (targets, what): (&[f32], Feed), threads: usize) {
        let (shape, heads, rows) = (self.shape, self.layout.places.len(), targets.len());
        let point = match what {
            Feed::Gradient => self.solver.point(),
            _ => &self.weights[..],
        };
        let group = rows.div_ceil(threads).next_multiple_of(tile::ROWS);
        let width = shape.width;
        let mut panels: Vec<Vec<&mut [f32]>> = Vec::new();
        panels.resize_with(rows.div_ceil(group), Vec::new);
        for panel in scratch.logits.chunks_exact_mut(rows * width).take(shape.panels) {
            for (group, logits) in panels.iter_mut().zip(panel.chunks_mut(group * width)) {
                group.push(logits);
            }
        }
        let losses = scratch.losses[..rows * heads].chunks_mut(group * heads);
        let said = scratch.said[..rows * heads].chunks_mut(group * heads);
        let groups = panels.into_iter().zip(losses.zip(said)).enumerate().collect();
        let (x, loss, places) = (&scratch.x, self.layout.loss, &self.layout.places);
        each(groups, threads, |(number, (mut panels, (losses, said)))| {
            let first = number * group;
            let here = first..rows.min(first + group);
            let x = &x[first * shape.stride()..];
            logits(shape, level(), (x, point), &mut panels);
            let train = matches!(what, Feed::Train { .. });
            let mut verdicts = (!train).then_some(Verdicts { losses, said });
            gradients((loss, places), (&mut panels, width), &targets[here], &mut verdicts);
        });
    }

    /// Adds gradients of the rows of a chunk; if these are the last of a batch or a run, its step or its
    /// end comes along.
    fn add_gradients(&mut self, scratch: &Scratch, rows: usize, (last, threads): (bool, usize)) {
        let (shape, with) = (self.shape, level());
        let end = last.then(|| self.solver.ending(self.waiting, &self.weights, &self.penalties));
        let arrays = (&mut self.weights[..], &mut self.sums[..], self.masks.as_deref());
        let pieces = self.solver.pieces(shape, arrays);
        let panel = rows * shape.width;
        each(pieces, threads, |mut piece| {
            let g = (&scratch.logits[piece.panel * panel..][..panel], shape.width);
            let tiles = if rows > 0 { &mut *piece.sums } else { &mut [] };
            for (number, sums) in tiles.chunks_mut(tile::ROWS * shape.width).enumerate() {
                let values = &scratch.x[piece.first + number * tile::ROWS..];
                let tall = sums.len() / shape.width;
                let x = Rows { values, rows: tall, stride: 1, step: shape.stride() };
                tile::add(with, x, g, sums);
            }
            if let Some(end) = &end {
                end.run(&mut piece);
            }
        });
        if last {
            self.waiting = 0;
        }
    }

    /// See [`crate::device::probe_ops::ProbeOps::end_pass`].
    pub(super) fn end_pass(&mut self, what: Feed) {
        if self.waiting == 0 || what == Feed::Measure {
            return;
        }
        assert_eq!(self.pending, what, "another pass has not ended");
        self.add_gradients(&Scratch::default(), 0, (true, 1));
    }

    fn count(&mut self, scratch: &Scratch, targets: &[f32]) {
        let heads = self.measures.len();
        for (row, target) in targets.iter().enumerate() {
            for (h, measures) in self.measures.iter_mut().enumerate() {
                measures.rows += 1;
                measures.loss += scratch.losses[row * heads + h];
                if !measures.seen.is_empty() {
                    let said = scratch.said[row * heads + h] as usize;
                    let class = losses::class(*target);
                    measures.seen[class] += 1;
                    measures.said[said] += 1;
                    measures.right[class] += u64::from(said == class);
                }
            }
        }
    }

    /// See [`crate::device::probe_ops::ProbeOps::take_measures`].
    pub(super) fn take_measures(&mut self) -> Vec<Measures> {
        let empty = |measures: &Measures| {
            let none = vec![0; measures.seen.len()];
            Measures { rows: 0, loss: 0.0, seen: none.clone(), right: none.clone(), said: none }
        };
        let fresh = self.measures.iter().map(empty).collect();
        std::mem::replace(&mut self.measures, fresh)
    }

    /// See [`crate::device::probe_ops::ProbeOps::proximal`].
    pub(super) fn proximal(&mut self, steps: &[f32]) -> Vec<Progress> {
        assert_eq!(self.waiting, 0, "a pass has not ended");
        let arrays = (&mut self.weights[..], &mut self.sums[..], self.masks.as_deref());
        self.solver.proximal((self.shape, &self.penalties), arrays, steps)
    }

    /// Appends its weights and what its solver keeps.
    pub(super) fn save(&self, arrays: &mut Vec<f32>, numbers: &mut Vec<f64>) {
        assert_eq!(self.waiting, 0, "a pass has not ended");
        arrays.extend_from_slice(&self.weights);
        self.solver.save(arrays, numbers);
    }

    /// The weights and the solver that [`Self::save`] wrote for a unit of this shape; none where it did not.
    pub(super) fn saved(&self, arrays: &mut &[f32], numbers: &mut &[f64]) -> Option<Saved> {
        let (weights, rest) = arrays.split_at_checked(self.weights.len())?;
        *arrays = rest;
        let of = (weights, self.layout.places.len());
        let solver = Solver::restored(of, arrays, numbers)?;
        Some(Saved { weights: weights.to_vec(), solver })
    }

    /// Goes on from there.
    pub(super) fn restore(&mut self, saved: Saved) {
        (self.weights, self.solver) = (saved.weights, saved.solver);
        self.sums.fill(0.0);
        self.waiting = 0;
    }

    /// Writes weights `[columns, inputs]` and biases of its heads.
    pub(super) fn read(&self, (weights, biases): (&mut [f32], &mut [f32])) {
        let inputs = self.shape.steps - 1;
        for place in &self.layout.places {
            for c in 0..place.columns {
                let at = |input| self.weights[self.shape.at(place.first + c, input)];
                let to = &mut weights[(place.column + c) * inputs..][..inputs];
                to.iter_mut().enumerate().for_each(|(input, to)| *to = at(input));
                biases[place.column + c] = at(inputs);
            }
        }
    }
}

/// Values of a bank, `[columns, inputs]`, to where a unit has them.
fn spread(shape: Shape, places: &[Place], values: &[f32], to: &mut [f32]) {
    let inputs = shape.steps - 1;
    for place in places {
        for c in 0..place.columns {
            let from = &values[(place.column + c) * inputs..][..inputs];
            for (input, value) in from.iter().enumerate() {
                to[shape.at(place.first + c, input)] = *value;
            }
        }
    }
}

/// Logits of the rows of a group, `[rows, width]` for each panel.
fn logits(shape: Shape, with: Level, (x, point): (&[f32], &[f32]), panels: &mut [&mut [f32]]) {
    let (stride, width) = (shape.stride(), shape.width);
    panels.iter_mut().for_each(|panel| panel.fill(0.0));
    for first in (0..shape.steps).step_by(BLOCK) {
        let block = first * width..shape.steps.min(first + BLOCK) * width;
        for (weights, logits) in point.chunks_exact(shape.steps * width).zip(&mut *panels) {
            for (number, sums) in logits.chunks_mut(tile::ROWS * width).enumerate() {
                let values = &x[number * tile::ROWS * stride + first..];
                let rows = Rows { values, rows: sums.len() / width, stride, step: 1 };
                tile::add(with, rows, (&weights[block.clone()], width), sums);
            }
        }
    }
}
