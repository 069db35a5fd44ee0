//! L2 logistic regression on few columns by Newton's method: the optimum that scikit-learn's
//! `LogisticRegression` approaches, to the last digits.

use super::rows::{Block, dot, largest, sigmoid, softplus};
use crate::error::{Error, Result};
use crate::methods::algebra::cholesky::{cholesky, solve};

/// Newton steps at most; about ten suffice.
const STEPS: usize = 200;
/// Halvings of a step at most.
const HALVINGS: usize = 40;
/// Largest slope of the objective, relative to C times the rows, at the end.
const FLAT: f64 = 1e-13;
/// Keeps the bias in a system where every row is certain.
const LEAST: f64 = 1e-12;

/// `weight / rows of the class`, for both classes together as much weight as rows: scikit-learn's
/// `class_weight="balanced"`. None without rows of both.
pub fn balanced(labels: &[bool]) -> Option<Vec<f64>> {
    let n = labels.len() as f64;
    let positive = labels.iter().filter(|&&label| label).count() as f64;
    let weight = |&label: &bool| n / (2.0 * if label { positive } else { n - positive });
    (positive > 0.0 && positive < n).then(|| labels.iter().map(weight).collect())
}

/// Two classes of which one is empty, refused.
pub(super) fn one_class(method: &str) -> Error {
    Error::config(method, "all rows are of one class", "give rows with the concept and without")
}

/// A logistic probe.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LogisticProbe {
    /// Of the columns it was trained on.
    pub weights: Vec<f64>,
    /// Not penalised.
    pub bias: f64,
    /// `1/2 |w|² + C Σ_i s_i ln(1 + exp(-y_i f_i))`.
    pub objective: f64,
    /// Largest derivative of the objective.
    pub residual: f64,
}

impl LogisticProbe {
    /// Logit of one row of the columns.
    pub fn logit(&self, row: &[f64]) -> f64 {
        dot(&self.weights, row) + self.bias
    }

    /// Logits of rows.
    pub fn logits(&self, rows: &Block) -> Vec<f64> {
        rows.rows().map(|row| self.logit(row)).collect()
    }
}

/// Minimises `1/2 |w|² + C Σ_i s_i ln(1 + exp(-y_i (w . x_i + b)))` with class-balanced s.
///
/// Refuses rows of one class, and C that is not above 0.
pub fn logistic(x: &Block, labels: &[bool], c: f64) -> Result<LogisticProbe> {
    let Some(shares) = balanced(labels).filter(|shares| shares.len() == x.len()) else {
        return Err(one_class("sparse"));
    };
    if !(c.is_finite() && c > 0.0) {
        let remedy = "give C, the inverse strength of the penalty, above 0";
        return Err(Error::config("sparse", format!("C = {c}"), remedy));
    }
    let costs: Vec<f64> = shares.iter().map(|share| c * share).collect();
    let problem = Problem { x, labels, costs };
    let mut at = vec![0.0; x.cols() + 1];
    let mut value = problem.value(&at);
    for _ in 0..STEPS {
        let (slope, hessian) = problem.derivatives(&at);
        if largest(slope.iter().copied()) <= FLAT * c * x.len() as f64 {
            break;
        }
        let Some(factor) = cholesky(hessian, slope.len()) else { break };
        let mut step = slope;
        solve(&factor, &mut step);
        let Some((next, lower)) = problem.search(&at, &step, value) else { break };
        (at, value) = (next, lower);
    }
    let (slope, _) = problem.derivatives(&at);
    let residual = largest(slope);
    if residual.is_nan() || residual > 1e-7 * c * x.len() as f64 {
        return Err(Error::config(
            "sparse",
            format!("a logistic probe did not converge: its slope is {residual:e}"),
            "divide the activations by their spread",
        ));
    }
    let bias = at.pop().unwrap_or(0.0);
    Ok(LogisticProbe { weights: at, bias, objective: value, residual })
}

struct Problem<'a> {
    x: &'a Block,
    labels: &'a [bool],
    costs: Vec<f64>,
}

impl Problem<'_> {
    /// Logit of each row; `at` is weights and then the bias.
    fn logits<'a>(&'a self, at: &'a [f64]) -> impl Iterator<Item = f64> + 'a {
        let (w, b) = at.split_at(self.x.cols());
        self.x.rows().map(move |row| dot(w, row) + b[0])
    }

    fn value(&self, at: &[f64]) -> f64 {
        let w = &at[..self.x.cols()];
        let losses = self.logits(at).zip(self.labels).zip(&self.costs);
        let loss = losses.map(|((z, &yes), cost)| cost * softplus(if yes { -z } else { z }));
        0.5 * dot(w, w) + loss.sum::<f64>()
    }

    fn derivatives(&self, at: &[f64]) -> (Vec<f64>, Vec<f64>) {
        let (k, size) = (self.x.cols(), at.len());
        let mut slope = at.to_vec();
        slope[k] = 0.0;
        let mut hessian = vec![0.0; size * size];
        (0..k).for_each(|i| hessian[i * size + i] = 1.0);
        hessian[size * size - 1] = LEAST;
        let mut extended = vec![1.0; size];
        for (((row, z), &yes), cost) in
            self.x.rows().zip(self.logits(at)).zip(self.labels).zip(&self.costs)
        {
            let p = sigmoid(z);
            let error = cost * (p - f64::from(u8::from(yes)));
            let weight = cost * p * (1.0 - p);
            extended[..k].copy_from_slice(row);
            for (i, xi) in extended.iter().enumerate() {
                slope[i] += error * xi;
                let share = weight * xi;
                let below = &mut hessian[i * size..=i * size + i];
                below.iter_mut().zip(&extended).for_each(|(h, xj)| *h += share * xj);
            }
        }
        (slope, hessian)
    }

    /// The first halving of a step down that does not raise the objective.
    fn search(&self, at: &[f64], step: &[f64], value: f64) -> Option<(Vec<f64>, f64)> {
        let mut length = 1.0;
        for _ in 0..HALVINGS {
            let next: Vec<f64> = at.iter().zip(step).map(|(a, s)| a - length * s).collect();
            let lower = self.value(&next);
            // Near the optimum the objective no longer tells steps apart, but Newton's are right.
            if lower <= value + 1e-14 * value.abs() {
                return Some((next, lower));
            }
            length *= 0.5;
        }
        None
    }
}
