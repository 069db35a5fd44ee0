//! Support vector machines on few columns: hinge loss, a ridge on the weights, a free bias.
//!
//! Minimises `P(w, b) = Σ_i c_i max(0, 1 - y_i f_i) + ridge / 2 |w|²` by Newton's method on hinges whose
//! corner is a parabola of width δ (Chapelle 2007), with δ made ten times smaller again and again. At the
//! optimum for any δ the multipliers `α_i = c_i clip((1 - y_i f_i) / δ, 0, 1)` are feasible for the dual of
//! the *true* hinge, so every stage gives a lower bound of P beside the upper one: the gap is a proof.

use super::rows::{Block, dot, largest};
use crate::methods::algebra::cholesky::{cholesky, solve};

/// Smallest width of a corner.
const SHARPEST: f64 = 1e-9;
/// Newton steps for one width at most; with exact lengths a piecewise parabola takes a few.
const STEPS: usize = 100;
/// Halvings of the interval in which a step's length is sought, and the longest one.
const HALVINGS: usize = 52;
const LONGEST: f64 = 1e12;
/// Slope, relative to the costs, at which a stage is over.
const FLAT: f64 = 1e-12;
/// Keeps the bias in a system where no row is on a corner, relative to the costs.
const LEAST: f64 = 1e-7;

/// Rows with labels and costs.
#[derive(Clone, Copy, Debug)]
pub struct HingeProblem<'a> {
    /// `[rows, columns]`.
    pub x: &'a Block,
    /// Whether each has the concept.
    pub labels: &'a [bool],
    /// Cost of a unit of hinge loss of each.
    pub costs: &'a [f64],
    /// Weight of half the squared norm.
    pub ridge: f64,
}

/// A support vector machine.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HingeProbe {
    /// Of the columns it was trained on.
    pub weights: Vec<f64>,
    /// Not penalised.
    pub bias: f64,
    /// The value of the objective at these.
    pub objective: f64,
    /// No weights have a smaller one.
    pub bound: f64,
    /// `α_i y_i` of each row, a dual point that gives the bound.
    pub multipliers: Vec<f64>,
}

impl HingeProbe {
    /// Scores of rows.
    pub fn scores(&self, rows: &Block) -> Vec<f64> {
        rows.rows().map(|row| dot(&self.weights, row) + self.bias).collect()
    }
}

/// Where a stage stands: weights, then the bias.
struct Stage<'a> {
    problem: HingeProblem<'a>,
    width: f64,
    total: f64,
}

fn side(label: bool) -> f64 {
    if label { 1.0 } else { -1.0 }
}

impl Stage<'_> {
    /// 1 - margin of each row.
    fn short(&self, at: &[f64]) -> Vec<f64> {
        let (w, b) = at.split_at(self.problem.x.cols());
        let margin = |(row, &label): (&[f64], &bool)| 1.0 - side(label) * (dot(w, row) + b[0]);
        self.problem.x.rows().zip(self.problem.labels).map(margin).collect()
    }

    fn derivatives(&self, at: &[f64]) -> (Vec<f64>, Vec<f64>) {
        let (k, size) = (self.problem.x.cols(), at.len());
        let mut slope: Vec<f64> = at.iter().map(|w| self.problem.ridge * w).collect();
        slope[k] = 0.0;
        let mut hessian = vec![0.0; size * size];
        (0..k).for_each(|i| hessian[i * size + i] = self.problem.ridge);
        hessian[size * size - 1] = LEAST * self.total;
        let mut extended = vec![1.0; size];
        for (row, short) in self.short(at).into_iter().enumerate().filter(|(_, s)| *s > 0.0) {
            let cost = self.problem.costs[row];
            let corner = short < self.width;
            let share = if corner { short / self.width } else { 1.0 };
            let pull = -cost * share * side(self.problem.labels[row]);
            extended[..k].copy_from_slice(self.problem.x.row(row));
            slope.iter_mut().zip(&extended).for_each(|(s, x)| *s += pull * x);
            if !corner {
                continue;
            }
            for (i, xi) in extended.iter().enumerate() {
                let along = cost / self.width * xi;
                let below = &mut hessian[i * size..=i * size + i];
                below.iter_mut().zip(&extended).for_each(|(h, xj)| *h += along * xj);
            }
        }
        (slope, hessian)
    }

    /// Descends from `at` until the slope is flat or Newton's step promises nothing.
    fn descend(&self, at: &mut [f64]) {
        for _ in 0..STEPS {
            let (slope, hessian) = self.derivatives(at);
            if largest(slope.iter().copied()) <= FLAT * self.total {
                return;
            }
            let Some(factor) = cholesky(hessian, at.len()) else { return };
            let mut step = slope.clone();
            solve(&factor, &mut step);
            if dot(&slope, &step) <= FLAT * FLAT * self.total {
                return;
            }
            step.iter_mut().for_each(|s| *s = -*s);
            let length = self.search(at, &step);
            at.iter_mut().zip(&step).for_each(|(a, s)| *a += length * s);
        }
    }

    /// The length at which the objective is smallest along a step down. Its slope rises along the step,
    /// so that it is found between bounds. A step of Newton knows only the corners that rows are on now:
    /// with narrow corners full steps jump over many, and halvings of them hardly move.
    fn search(&self, at: &[f64], step: &[f64]) -> f64 {
        let k = self.problem.x.cols();
        let start = self.short(at);
        let along =
            |(row, &label): (&[f64], &bool)| -side(label) * (dot(&step[..k], row) + step[k]);
        let rates: Vec<f64> = self.problem.x.rows().zip(self.problem.labels).map(along).collect();
        let (linear, square) = (dot(&at[..k], &step[..k]), dot(&step[..k], &step[..k]));
        let slope = |t: f64| {
            let rows = start.iter().zip(&rates).zip(self.problem.costs);
            let pulls =
                rows.map(|((s, rate), c)| c * rate * ((s + t * rate) / self.width).clamp(0.0, 1.0));
            pulls.sum::<f64>() + self.problem.ridge * (linear + t * square)
        };
        let (mut low, mut high) = (0.0, 1.0);
        while slope(high) < 0.0 && high < LONGEST {
            (low, high) = (high, 2.0 * high);
        }
        for _ in 0..HALVINGS {
            let middle = 0.5 * (low + high);
            if slope(middle) < 0.0 { low = middle } else { high = middle }
        }
        0.5 * (low + high)
    }
}

impl HingeProblem<'_> {
    /// The objective.
    pub fn objective(&self, weights: &[f64], bias: f64) -> f64 {
        let rows = self.x.rows().zip(self.labels).zip(self.costs);
        let loss = |((row, &label), cost): ((&[f64], &bool), &f64)| {
            cost * (1.0 - side(label) * (dot(weights, row) + bias)).max(0.0)
        };
        rows.map(loss).sum::<f64>() + 0.5 * self.ridge * dot(weights, weights)
    }

    /// A lower bound of the objective from multipliers `α_i y_i` that sum to 0 with 0 <= α_i <= c_i:
    /// `Σ α - |Σ α_i y_i x_i|² / (2 ridge)`, by the columns of `x`.
    pub fn bound(&self, multipliers: &[f64]) -> f64 {
        let mut along = vec![0.0; self.x.cols()];
        for (row, m) in self.x.rows().zip(multipliers) {
            along.iter_mut().zip(row).for_each(|(sum, x)| *sum += m * x);
        }
        let total: f64 = multipliers.iter().map(|m| m.abs()).sum();
        total - dot(&along, &along) / (2.0 * self.ridge)
    }

    /// Fits until the gap between objective and bound is 1e-8 of the objective (or as far as f64 goes), or
    /// until the bound reaches `give_up`: it is then known that no weights get below that.
    pub fn fit(&self, give_up: f64) -> HingeProbe {
        let k = self.x.cols();
        let total: f64 = self.costs.iter().sum();
        let mut at = vec![0.0; k + 1];
        let mut best = HingeProbe {
            objective: f64::INFINITY,
            bound: f64::NEG_INFINITY,
            ..HingeProbe::default()
        };
        let mut width = 2.0;
        while width > SHARPEST {
            let stage = Stage { problem: *self, width, total };
            stage.descend(&mut at);
            let objective = self.objective(&at[..k], at[k]);
            if objective < best.objective {
                (best.objective, best.bias) = (objective, at[k]);
                best.weights = at[..k].to_vec();
            }
            let multipliers = self.multipliers(&stage.short(&at), width);
            let bound = self.bound(&multipliers);
            if bound > best.bound {
                (best.bound, best.multipliers) = (bound, multipliers);
            }
            let close = best.objective - best.bound <= 1e-8 * best.objective;
            if close || best.bound >= give_up {
                break;
            }
            width /= 10.0;
        }
        best
    }

    /// `α_i y_i`, the larger side scaled down so that they sum to 0.
    fn multipliers(&self, short: &[f64], width: f64) -> Vec<f64> {
        let one = |(s, cost): (&f64, &f64)| cost * (s / width).clamp(0.0, 1.0);
        let alpha: Vec<f64> = short.iter().zip(self.costs).map(one).collect();
        let of = |which: bool| {
            let some = alpha.iter().zip(self.labels).filter(|&(_, &label)| label == which);
            some.map(|(a, _)| a).sum::<f64>()
        };
        let (yes, no) = (of(true), of(false));
        let common = yes.min(no);
        let scale = |all: f64| if all > 0.0 { common / all } else { 0.0 };
        let (yes, no) = (scale(yes), -scale(no));
        let signed = |(a, &label): (&f64, &bool)| a * if label { yes } else { no };
        alpha.iter().zip(self.labels).map(signed).collect()
    }
}
