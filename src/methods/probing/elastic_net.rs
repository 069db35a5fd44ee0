//! Linear probes with an elastic-net penalty, solved to convergence in f64 on rows at hand: what probes
//! that were trained elsewhere are held against, and the solver for few columns (`lca`, `lasso`, `ridge`,
//! `noreg`, `probe-reg`).
//!
//! Minimises `Σ_i s_i loss_i / Σ_i s_i + l1 Σ|W| + l2 Σ W²`, biases free, by FISTA (Beck & Teboulle 2009)
//! with restarts (O'Donoghue & Candès 2015) on centred columns, which is the same problem because biases
//! are not penalised.

use super::rows::{Block, argmax, dot, largest, log_sum_exp, sigmoid, softplus};
use crate::error::{Error, Result};

/// Steps between two looks at the optimality conditions.
const LOOK: usize = 10;
/// Steps of the power method that bounds the curvature, and what it may have missed.
const POWER: (usize, f64) = (100, 1.05);

/// What is learned, one for each row.
#[derive(Clone, Copy, Debug)]
pub enum Targets<'a> {
    /// Classes below a number of them: -ln softmax at the class.
    Classes(&'a [u32], usize),
    /// Yes or no: -ln of the logistic function, one column of weights.
    Binary(&'a [bool]),
    /// Numbers: the squared difference, one column of weights.
    Numbers(&'a [f64]),
}

impl Targets<'_> {
    fn len(&self) -> usize {
        match self {
            Self::Classes(of_row, _) => of_row.len(),
            Self::Binary(of_row) => of_row.len(),
            Self::Numbers(of_row) => of_row.len(),
        }
    }

    fn columns(&self) -> usize {
        if let Self::Classes(_, classes) = self { *classes } else { 1 }
    }

    /// The loss of a row with these logits, which become its derivatives by them.
    fn loss(&self, row: usize, logits: &mut [f64]) -> f64 {
        match self {
            Self::Classes(of_row, _) => {
                let class = of_row[row] as usize;
                let norm = log_sum_exp(logits);
                let loss = norm - logits[class];
                logits.iter_mut().for_each(|z| *z = (*z - norm).exp());
                logits[class] -= 1.0;
                loss
            }
            Self::Binary(of_row) => {
                let z = logits[0];
                logits[0] = sigmoid(z) - f64::from(u8::from(of_row[row]));
                if of_row[row] { softplus(-z) } else { softplus(z) }
            }
            Self::Numbers(of_row) => {
                let error = logits[0] - of_row[row];
                logits[0] = 2.0 * error;
                error * error
            }
        }
    }

    /// Largest second derivative by logits.
    fn curvature(&self) -> f64 {
        match self {
            Self::Classes(..) => 0.5,
            Self::Binary(_) => 0.25,
            Self::Numbers(_) => 2.0,
        }
    }
}

/// The solver's settings.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ElasticNet {
    /// Of the magnitudes of weights.
    pub l1: f64,
    /// Of the squares of weights.
    pub l2: f64,
    /// Largest violation of an optimality condition at the end.
    pub tolerance: f64,
    /// Steps after which it gives up.
    pub steps: usize,
}

impl Default for ElasticNet {
    fn default() -> Self {
        Self { l1: 0.0, l2: 0.0, tolerance: 1e-9, steps: 60_000 }
    }
}

/// A trained linear probe.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LinearProbe {
    /// `[columns, inputs]`: a row for each class, or one.
    pub weights: Block,
    /// `[columns]`; those of classes sum to 0, which is all that the objective leaves open.
    pub biases: Vec<f64>,
    /// The value of the objective.
    pub objective: f64,
    /// Largest violation of an optimality condition: `|w - soft(w - g, l1)|`, `|g_b|`.
    pub residual: f64,
    /// Steps it took.
    pub steps: usize,
}

impl LinearProbe {
    /// `W x + b` for one row.
    pub fn logits(&self, row: &[f64]) -> Vec<f64> {
        self.weights.rows().zip(&self.biases).map(|(w, b)| dot(w, row) + b).collect()
    }

    /// ln p(class | row), `[rows, classes]`; two classes, no and yes, for one column.
    pub fn log_posteriors(&self, rows: &Block) -> Block {
        let one = |row: &[f64]| {
            let logits = self.logits(row);
            match logits[..] {
                [z] => vec![-softplus(z), -softplus(-z)],
                _ => {
                    let norm = log_sum_exp(&logits);
                    logits.into_iter().map(|z| z - norm).collect()
                }
            }
        };
        Block::new(rows.rows().flat_map(one).collect(), self.biases.len().max(2))
    }

    /// The likeliest class of each row.
    pub fn classify(&self, rows: &Block) -> Vec<u32> {
        rows.rows().map(|row| decide(&self.logits(row))).collect()
    }
}

/// The class with the largest logit, the first of equal ones; one logit says 1 above 0.
pub fn decide(logits: &[f64]) -> u32 {
    match logits {
        [z] => u32::from(*z > 0.0),
        _ => argmax(logits) as u32,
    }
}

/// Weights and biases while they move.
#[derive(Clone)]
struct Point {
    w: Vec<f64>,
    b: Vec<f64>,
}

/// The smooth part of the objective on centred columns.
struct Problem<'a> {
    x: Block,
    targets: Targets<'a>,
    /// Shares of the rows, which sum to 1.
    shares: Vec<f64>,
    l2: f64,
}

impl Problem<'_> {
    /// Value and gradient.
    fn gradient(&self, at: &Point) -> (f64, Point) {
        let (d, c) = (self.x.cols(), at.b.len());
        let mut slope =
            Point { w: at.w.iter().map(|w| 2.0 * self.l2 * w).collect(), b: vec![0.0; c] };
        let mut value = self.l2 * dot(&at.w, &at.w);
        let mut logits = vec![0.0; c];
        for (row, (x, &share)) in self.x.rows().zip(&self.shares).enumerate() {
            let columns = at.w.chunks_exact(d).zip(&at.b);
            logits.iter_mut().zip(columns).for_each(|(z, (w, b))| *z = dot(w, x) + b);
            value += share * self.targets.loss(row, &mut logits);
            for ((w, b), z) in slope.w.chunks_exact_mut(d).zip(&mut slope.b).zip(&logits) {
                let z = share * z;
                *b += z;
                w.iter_mut().zip(x).for_each(|(w, x)| *w += z * x);
            }
        }
        (value, slope)
    }

    /// A bound of the curvature: that of the loss times the largest eigenvalue of `Σ s [x, 1][x, 1]^T`.
    fn curvature(&self) -> f64 {
        let mut v = vec![1.0; self.x.cols()];
        let mut eigenvalue = 0.0;
        for _ in 0..POWER.0 {
            let mut next = vec![0.0; v.len()];
            for (x, share) in self.x.rows().zip(&self.shares) {
                let along = share * dot(x, &v);
                next.iter_mut().zip(x).for_each(|(n, x)| *n += along * x);
            }
            eigenvalue = dot(&next, &next).sqrt();
            if eigenvalue == 0.0 {
                break;
            }
            v = next.into_iter().map(|x| x / eigenvalue).collect();
        }
        self.targets.curvature() * (POWER.1 * eigenvalue).max(1.0) * 1.0001 + 2.0 * self.l2
    }
}

fn soft(x: f64, threshold: f64) -> f64 {
    x.signum() * (x.abs() - threshold).max(0.0)
}

impl ElasticNet {
    /// Fits a probe; `row_weights` are 1 where there are none.
    ///
    /// Fails on lengths that differ, classes that are not there, and where the tolerance is not reached:
    /// without a penalty classes that a plane divides have no optimum.
    pub fn fit(
        &self,
        x: &Block,
        targets: Targets<'_>,
        row_weights: Option<&[f64]>,
    ) -> Result<LinearProbe> {
        let ones = vec![1.0; x.len()];
        let row_weights = row_weights.unwrap_or(&ones);
        self.check(x, targets, row_weights)?;
        let total: f64 = row_weights.iter().sum();
        let shares: Vec<f64> = row_weights.iter().map(|w| w / total).collect();
        let mut means = vec![0.0; x.cols()];
        for (row, share) in x.rows().zip(&shares) {
            means.iter_mut().zip(row).for_each(|(sum, x)| *sum += share * x);
        }
        let mut centred = x.clone();
        for row in centred.rows_mut() {
            row.iter_mut().zip(&means).for_each(|(x, mean)| *x -= mean);
        }
        let problem = Problem { x: centred, targets, shares, l2: self.l2 };
        let (point, steps) = self.descend(&problem)?;
        let (smooth, slope) = problem.gradient(&point);
        let residual = self.residual(&point, &slope);
        let objective = smooth + self.l1 * point.w.iter().map(|w| w.abs()).sum::<f64>();
        let weights = Block::new(point.w, x.cols());
        let mut biases: Vec<f64> =
            weights.rows().zip(&point.b).map(|(w, b)| b - dot(w, &means)).collect();
        if let Targets::Classes(_, classes) = targets {
            let mean = biases.iter().sum::<f64>() / classes as f64;
            biases.iter_mut().for_each(|b| *b -= mean);
        }
        Ok(LinearProbe { weights, biases, objective, residual, steps })
    }

    fn check(&self, x: &Block, targets: Targets<'_>, row_weights: &[f64]) -> Result<()> {
        let refuse = |what: String, remedy: &str| Err(Error::config("probe", what, remedy));
        if x.is_empty() || targets.len() != x.len() || row_weights.len() != x.len() {
            let what = format!("{} labels for {} rows", targets.len(), x.len());
            return refuse(what, "give one label for each row, and at least one row");
        }
        if let Targets::Classes(of_row, classes) = targets
            && let Some(class) = of_row.iter().find(|&&class| class as usize >= classes)
        {
            let what = format!("there is no class {class} among {classes}");
            return refuse(what, "number the classes from 0");
        }
        if x.values().iter().any(|x| !x.is_finite()) {
            return refuse("activations are NaN or infinite".into(), "leave those rows out");
        }
        let positive = |x: f64| x.is_finite() && x >= 0.0;
        if !positive(self.l1) || !positive(self.l2) || !row_weights.iter().all(|&w| positive(w)) {
            return refuse(
                format!("penalties l1 = {}, l2 = {} and weights of rows", self.l1, self.l2),
                "give numbers from 0 up",
            );
        }
        Ok(())
    }

    fn descend(&self, problem: &Problem<'_>) -> Result<(Point, usize)> {
        let length = problem.curvature();
        let columns = problem.targets.columns();
        let mut now = Point { w: vec![0.0; columns * problem.x.cols()], b: vec![0.0; columns] };
        let (mut from, mut t) = (now.clone(), 1.0_f64);
        for step in 1..=self.steps {
            let (_, slope) = problem.gradient(&from);
            let move_w = |(v, g): (&f64, &f64)| soft(v - g / length, self.l1 / length);
            let next = Point {
                w: from.w.iter().zip(&slope.w).map(move_w).collect(),
                b: from.b.iter().zip(&slope.b).map(|(v, g)| v - g / length).collect(),
            };
            if uphill(&from.w, &next.w, &now.w) + uphill(&from.b, &next.b, &now.b) > 0.0 {
                t = 1.0;
            }
            let grown = 0.5 * (1.0 + (1.0 + 4.0 * t * t).sqrt());
            let ahead = |(next, now): (&f64, &f64)| next + (t - 1.0) / grown * (next - now);
            from.w = next.w.iter().zip(&now.w).map(ahead).collect();
            from.b = next.b.iter().zip(&now.b).map(ahead).collect();
            (now, t) = (next, grown);
            if step % LOOK == 0 {
                let (_, slope) = problem.gradient(&now);
                if self.residual(&now, &slope) < self.tolerance {
                    return Ok((now, step));
                }
            }
        }
        Err(Error::config(
            "probe",
            format!("no optimum to {:e} after {} steps", self.tolerance, self.steps),
            "standardise the activations, or raise l2: without a penalty classes that a plane divides \
             have no optimum",
        ))
    }

    fn residual(&self, at: &Point, slope: &Point) -> f64 {
        let of_weight = |(w, g): (&f64, &f64)| w - soft(w - g, self.l1);
        let weights = at.w.iter().zip(&slope.w).map(of_weight);
        largest(weights.chain(slope.b.iter().copied()))
    }
}

/// `(from - next) . (next - now)`: above 0 where momentum carried it past the descent.
fn uphill(from: &[f64], next: &[f64], now: &[f64]) -> f64 {
    let terms = from.iter().zip(next).zip(now);
    terms.map(|((from, next), now)| (from - next) * (next - now)).sum()
}
