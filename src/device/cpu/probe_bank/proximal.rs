//! FISTA (Beck & Teboulle 2009, section 4), restarted by the gradient rule of O'Donoghue & Candes (2015,
//! section 3.2): where the last step and the generalised gradient point the same way.

use super::super::dispatch::multiversion;
use super::WIDEST;
use super::penalties::Penalties;
use super::solver::Arrays;
use super::unit::Shape;
use crate::device::probe_ops::{Progress, momentum};

/// What FISTA keeps beside the weights.
#[derive(Debug)]
pub(super) struct Fista {
    /// Where the next step starts from: the weights, and some of the last step once more.
    pub(super) point: Vec<f32>,
    /// Gradients of a pass there.
    pub(super) totals: Vec<f64>,
    /// Losses by head.
    losses: Vec<f64>,
    rows: u64,
    /// t of each head.
    momenta: Vec<f64>,
}

/// Numbers of a step by column of a panel, and what is found out about it.
#[derive(Debug)]
struct Columns {
    /// Length of the step; 0 where nothing moves.
    step: [f64; WIDEST],
    l1: [f64; WIDEST],
    l2: [f64; WIDEST],
    /// Part of the step that the next point has in advance.
    ahead: [f64; WIDEST],
    /// Largest change and generalised gradient.
    change: [f64; WIDEST],
    residual: [f64; WIDEST],
    /// Generalised gradient times the step.
    uphill: [f64; WIDEST],
}

impl Fista {
    pub(super) fn new(weights: &[f32], heads: usize) -> Self {
        Self {
            point: weights.to_vec(),
            totals: vec![0.0; weights.len()],
            losses: vec![0.0; heads],
            rows: 0,
            momenta: vec![1.0; heads],
        }
    }

    /// Between two passes, at this point.
    pub(super) fn at(point: Vec<f32>, momenta: &[f64]) -> Self {
        Self { momenta: momenta.to_vec(), ..Self::new(&point, momenta.len()) }
    }

    pub(super) fn momenta(&self) -> &[f64] {
        &self.momenta
    }

    pub(super) fn add_losses(&mut self, losses: &[f64], rows: usize) {
        let heads = self.losses.len();
        for losses in losses.chunks_exact(heads).take(rows) {
            self.losses.iter_mut().zip(losses).for_each(|(sum, loss)| *sum += loss);
        }
        self.rows += rows as u64;
    }

    /// A step of each head of the unit; gradients are spent.
    pub(super) fn step(
        &mut self,
        (shape, penalties): (Shape, &Penalties),
        (weights, next, masks): Arrays<'_>,
        steps: &[f32],
    ) -> Vec<Progress> {
        let moves = |h: usize| self.rows > 0 && steps[h] > 0.0;
        for (h, head) in penalties.heads().iter().enumerate() {
            assert!(!(head.norm && head.l2 > 0.0 && moves(h)), "a norm is not smooth: use Adam");
        }
        let mut columns: Vec<Columns> = penalties
            .owners()
            .chunks_exact(shape.width)
            .map(|owners| {
                Columns::new(owners, penalties, |h| if moves(h) { steps[h] } else { 0.0 })
            })
            .collect();
        let panel = shape.steps * shape.width;
        for (p, columns) in columns.iter_mut().enumerate() {
            let own = p * panel..(p + 1) * panel;
            let from = (&weights[own.clone()], &self.point[own.clone()]);
            let masks = masks.map(|masks| &masks[own.clone()]);
            let gradient = (&self.totals[own.clone()], 1.0 / self.rows.max(1) as f64);
            shrink((columns, shape.width), from, (gradient, masks), &mut next[own]);
        }
        let progress = self.judge(penalties, &columns, steps);
        for (columns, owners) in
            columns.iter_mut().zip(penalties.owners().chunks_exact(shape.width))
        {
            for (ahead, owner) in columns.ahead.iter_mut().zip(owners) {
                *ahead = owner.map_or(0.0, |h| progress.1[h]);
            }
        }
        for (p, columns) in columns.iter().enumerate() {
            let own = p * panel..(p + 1) * panel;
            let to = (&mut weights[own.clone()], &mut self.point[own.clone()]);
            advance((columns, shape.width), to, &mut next[own]);
        }
        self.totals.fill(0.0);
        self.losses.fill(0.0);
        self.rows = 0;
        progress.0
    }

    /// How the step of each head went, and what part of it the next point has in advance.
    fn judge(
        &mut self,
        penalties: &Penalties,
        columns: &[Columns],
        steps: &[f32],
    ) -> (Vec<Progress>, Vec<f64>) {
        let heads = penalties.heads().len();
        let mut progress = vec![Progress::default(); heads];
        let mut uphill = vec![0.0; heads];
        let width = penalties.shape.width;
        for (column, owner) in penalties.owners().iter().enumerate() {
            let (panel, at) = (&columns[column / width], column % width);
            if let Some(h) = *owner {
                progress[h].change = larger(progress[h].change, panel.change[at]);
                progress[h].residual = larger(progress[h].residual, panel.residual[at]);
                uphill[h] += panel.uphill[at];
            }
        }
        let mut ahead = vec![0.0; heads];
        for h in 0..heads {
            progress[h].loss = self.losses[h] / self.rows.max(1) as f64;
            if self.rows > 0 && steps[h] > 0.0 {
                (self.momenta[h], ahead[h]) = momentum(self.momenta[h], uphill[h] > 0.0);
            }
        }
        (progress, ahead)
    }
}

impl Columns {
    fn new(owners: &[Option<usize>], penalties: &Penalties, step: impl Fn(usize) -> f32) -> Self {
        let zero = [0.0; WIDEST];
        let mut out = Self {
            step: zero,
            l1: zero,
            l2: zero,
            ahead: zero,
            change: zero,
            residual: zero,
            uphill: zero,
        };
        for (at, owner) in owners.iter().enumerate() {
            if let Some(h) = *owner {
                let head = &penalties.heads()[h];
                out.step[at] = f64::from(step(h));
                (out.l1[at], out.l2[at]) = (f64::from(head.l1), f64::from(head.l2));
            }
        }
        out
    }
}

/// The larger one; NaN is larger than all.
#[inline(always)]
fn larger(a: f64, b: f64) -> f64 {
    if b > a || b.is_nan() { b } else { a }
}

multiversion! {
    /// `next = soft(point - step (gradient + 2 l2 point), step l1)` of a panel; the last row bears no
    /// penalty. What does not move keeps its weight.
    fn shrink(
        columns: (&mut Columns, usize),
        from: (&[f32], &[f32]),
        gradient: ((&[f64], f64), Option<&[f32]>),
        next: &mut [f32],
    ) {
        let ((by, width), ((totals, mean), masks)) = (columns, gradient);
        let rows = next.len() / width;
        for row in 0..rows {
            let penalty = if row + 1 == rows { 0.0 } else { 1.0 };
            for at in 0..width {
                let cell = row * width + at;
                let (old, point) = (f64::from(from.0[cell]), f64::from(from.1[cell]));
                let step = by.step[at];
                let moves = masks.is_none_or(|masks| masks[cell] != 0.0) && step > 0.0;
                let g = totals[cell] * mean + penalty * 2.0 * by.l2[at] * point;
                let there = point - step * g;
                let cut = step * by.l1[at] * penalty;
                // NaN is not at most anything: it goes through.
                let new = if there.abs() <= cut { 0.0 } else { there - cut.copysign(there) };
                let new = if moves { new } else { old };
                let residual = if moves { (point - new) / step } else { 0.0 };
                by.residual[at] = larger(by.residual[at], residual.abs());
                by.change[at] = larger(by.change[at], (new - old).abs());
                by.uphill[at] += residual * (new - old);
                next[cell] = new as f32;
            }
        }
    }

    /// `point = next + ahead (next - weights)`, `weights = next`, `next = 0`, where anything moves.
    fn advance(
        columns: (&Columns, usize),
        to: (&mut [f32], &mut [f32]),
        next: &mut [f32],
    ) {
        let ((by, width), (weights, point)) = (columns, to);
        for (cell, next) in next.iter_mut().enumerate() {
            let at = cell % width;
            if by.step[at] > 0.0 {
                let (new, old) = (f64::from(*next), f64::from(weights[cell]));
                point[cell] = (new + by.ahead[at] * (new - old)) as f32;
                weights[cell] = *next;
            }
            *next = 0.0;
        }
    }
}
