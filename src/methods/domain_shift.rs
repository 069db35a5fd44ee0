//! `idani`: a classifier moved to another domain without training (Antverg et al. 2022). Neurons are
//! ranked by how well they tell the domains apart; the first k of a row of the target domain are
//! moved by `alpha_n (mu_source,n - mu_target,n)`, alpha falling geometrically from beta along the
//! ranking, and the frozen head classifies the result.
//!
//! k and beta are chosen on rows set aside for that; what the best choice on the test rows would have
//! given is told apart, as the oracle (the authors' code reports that one).

use std::path::Path;

use super::MethodCall;
use super::matrix::{Matrix, MatrixSource, RowLabels, Values};
use super::rank::rank;
use crate::error::{Error, Result};

/// alpha at the end of the ranking.
const LAST: f64 = 0.001;

/// A linear classifier.
#[derive(Clone, Debug, PartialEq)]
pub struct LinearHead {
    /// `[classes, N]`.
    pub weight: Matrix,
    /// `[classes]`.
    pub bias: Vec<f64>,
}

impl LinearHead {
    /// The class of a row; of equal ones the lower.
    pub fn classify(&self, row: &[f64]) -> usize {
        let logit = |class: usize| {
            let products = row.iter().enumerate().map(|(n, x)| self.weight.get(class, n) * x);
            products.sum::<f64>() + self.bias[class]
        };
        let better =
            |best: usize, class: usize| if logit(class) > logit(best) { class } else { best };
        (0..self.weight.rows()).reduce(better).unwrap_or(0)
    }
}

/// A choice of k and beta, and the share of rows it classifies right.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Choice {
    /// Neurons that are moved.
    pub k: usize,
    /// How far the first of them is moved.
    pub beta: f64,
    /// Share of the rows set aside.
    pub development: f64,
    /// Share of the test rows.
    pub test: f64,
}

/// Two domains: what moves, and where to.
#[derive(Clone, Debug, PartialEq)]
pub struct DomainShift {
    /// Neurons, the one that tells the domains apart best first.
    pub order: Vec<u32>,
    /// mu_source - mu_target, by neuron.
    pub difference: Vec<f64>,
}

impl DomainShift {
    /// From rows of both domains, without labels; `origin` is what errors name. The ranking is that
    /// of Probeless on {source, target}.
    pub fn fit(source: &Matrix, target: &Matrix, origin: &Path) -> Result<Self> {
        if source.columns() != target.columns() {
            let what = format!(
                "{} neurons in one domain, {} in the other",
                source.columns(),
                target.columns()
            );
            return Err(Error::input(origin, what, "take both from the same model and site"));
        }
        let domains = [source, target];
        let mut values = Vec::new();
        for domain in domains {
            let row = |row: usize| (0..domain.columns()).map(move |n| domain.get(row, n));
            values.extend((0..domain.rows()).flat_map(row));
        }
        let rows = source.rows() + target.rows();
        let of_row = (0..rows).map(|row| Some(u32::from(row >= source.rows()))).collect();
        let classes = vec![(0, "source".to_owned()), (1, "target".to_owned())];
        let labels = RowLabels { name: "domain".to_owned(), classes, of_row, min_count: 1 };
        let matrix = Matrix::new(rows, source.columns(), Values::F64(values));
        let both = MatrixSource::new(matrix, &labels, origin)?;
        let ranking = rank(&MethodCall::parse("probeless")?, &both)?;
        let Some(overall) = ranking.overall else {
            return Err(Error::Contradiction { what: "probeless gave no overall ranking".into() });
        };
        let mean = |domain: &Matrix, n: usize| {
            (0..domain.rows()).map(|row| domain.get(row, n)).sum::<f64>() / domain.rows() as f64
        };
        let difference = |n: usize| mean(source, n) - mean(target, n);
        Ok(Self {
            order: overall.order,
            difference: (0..source.columns()).map(difference).collect(),
        })
    }

    /// A row of the target domain with its first k neurons moved.
    pub fn moved(&self, rows: &Matrix, row: usize, (k, beta): (usize, f64)) -> Vec<f64> {
        let mut x: Vec<f64> = (0..rows.columns()).map(|n| rows.get(row, n)).collect();
        let last = (self.order.len().max(2) - 1) as f64;
        for (place, &neuron) in self.order.iter().take(k).enumerate() {
            let alpha = beta * (LAST / beta).powf(place as f64 / last);
            x[neuron as usize] += alpha * self.difference[neuron as usize];
        }
        x
    }

    /// Every choice of a grid, k = 0 first. Rows of the target with their classes: those of
    /// `development` choose, the others test.
    pub fn choices(
        &self,
        head: &LinearHead,
        (rows, classes): (&Matrix, &[usize]),
        development: &[usize],
        (sizes, betas): (&[usize], &[f64]),
    ) -> Vec<Choice> {
        let aside: std::collections::BTreeSet<usize> = development.iter().copied().collect();
        let right = |row: usize, how| head.classify(&self.moved(rows, row, how)) == classes[row];
        let share = |wanted: bool, how| {
            let mine: Vec<usize> =
                (0..rows.rows()).filter(|row| aside.contains(row) == wanted).collect();
            let count = mine.iter().filter(|&&row| right(row, how)).count();
            count as f64 / mine.len().max(1) as f64
        };
        let choice = |(k, beta)| Choice {
            k,
            beta,
            development: share(true, (k, beta)),
            test: share(false, (k, beta)),
        };
        let grid = sizes.iter().flat_map(|&k| betas.iter().map(move |&beta| (k, beta)));
        std::iter::once((0, 1.0)).chain(grid).map(choice).collect()
    }
}

/// The choice that does best on the rows set aside, the first of equal ones; and the one that does
/// best on the test rows, which nobody could have chosen.
pub fn chosen_and_oracle(choices: &[Choice]) -> Option<(Choice, Choice)> {
    let best = |value: fn(&Choice) -> f64| {
        choices.iter().copied().reduce(|a, b| if value(&b) > value(&a) { b } else { a })
    };
    best(|choice| choice.development).zip(best(|choice| choice.test))
}
