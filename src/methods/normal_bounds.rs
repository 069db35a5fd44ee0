//! `badacts`: inputs that drive neurons where clean ones do not (Yi et al. 2024). Each neuron has a
//! normal distribution on clean rows; the score of a row is the share of its neurons within
//! `mu +- delta sigma`, and a row scores as suspicious below a quantile of held-out clean rows.

use std::path::Path;

use super::MethodCall;
use super::matrix::{Matrix, MatrixSource, RowLabels, Values};
use super::rank::rank;
use crate::error::{Error, Result};
use crate::hash::{GAMMA, mix};

/// Half the width of the interval of a neuron that is constant on clean rows.
const POINT: f64 = 1e-6;

/// How rows are judged.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Settings {
    /// Deviations on either side; the authors' script has 3.
    pub delta: f64,
    /// Share of clean rows that may be flagged.
    pub false_rejections: f64,
    /// Chooses the half of the clean rows that is fitted.
    pub seed: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self { delta: 3.0, false_rejections: 0.05, seed: 0 }
    }
}

/// The intervals of all neurons, and the score below which a row is suspicious.
#[derive(Clone, Debug, PartialEq)]
pub struct NormalBounds {
    /// Lower and upper end, by neuron.
    pub intervals: Vec<(f64, f64)>,
    /// Rows that score less are flagged.
    pub threshold: f64,
    /// Scores of the clean rows that were held out.
    pub held_out: Vec<f64>,
}

impl NormalBounds {
    /// Fits half of the clean rows `[R, N]` and takes the threshold from the other half; `origin` is
    /// what errors name.
    pub fn fit(clean: &Matrix, settings: &Settings, origin: &Path) -> Result<Self> {
        let Settings { delta, false_rejections, seed } = *settings;
        let finite = delta.is_finite() && delta > 0.0;
        if !finite || !(0.0..1.0).contains(&false_rejections) {
            let what = format!("delta {delta} and a share of {false_rejections}");
            return Err(Error::config("badacts", what, "choose delta 3 and a share of 0.05"));
        }
        if clean.rows() < 4 {
            let what = format!("{} clean rows, of which half are fitted", clean.rows());
            return Err(Error::input(origin, what, "give at least 4, better hundreds"));
        }
        let mut order: Vec<usize> = (0..clean.rows()).collect();
        order.sort_by_key(|&row| mix(mix(seed ^ GAMMA) ^ (row as u64).wrapping_add(GAMMA)));
        let (fitted, held_out) = order.split_at(clean.rows().div_ceil(2));
        let interval = |neuron: usize| {
            let n = fitted.len() as f64;
            let mean = fitted.iter().map(|&row| clean.get(row, neuron)).sum::<f64>() / n;
            let square = |&row: &usize| (clean.get(row, neuron) - mean).powi(2);
            let deviation = (fitted.iter().map(square).sum::<f64>() / n).sqrt();
            let half = if deviation > 0.0 { delta * deviation } else { POINT };
            (mean - half, mean + half)
        };
        let intervals: Vec<(f64, f64)> = (0..clean.columns()).map(interval).collect();
        if let Some(bad) =
            intervals.iter().position(|(low, high)| !(low.is_finite() && high.is_finite()))
        {
            let what = format!("neuron {bad} is NaN or infinite in a clean row");
            return Err(Error::input(origin, what, "leave such rows out"));
        }
        let mut bounds = Self { intervals, threshold: 0.0, held_out: Vec::new() };
        bounds.held_out = held_out.iter().map(|&row| bounds.score(clean, row)).collect();
        let mut sorted = bounds.held_out.clone();
        sorted.sort_by(f64::total_cmp);
        // At most that share of them is below the one at this place.
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a place")]
        let place = (false_rejections * sorted.len() as f64).floor() as usize;
        bounds.threshold = sorted[place.min(sorted.len() - 1)];
        Ok(bounds)
    }

    /// Share of a row's neurons inside their intervals. NaN is outside.
    pub fn score(&self, rows: &Matrix, row: usize) -> f64 {
        let inside = |(neuron, (low, high)): (usize, &(f64, f64))| {
            (*low..=*high).contains(&rows.get(row, neuron))
        };
        let count = self.intervals.iter().enumerate().filter(|pair| inside(*pair)).count();
        count as f64 / self.intervals.len().max(1) as f64
    }

    /// Scores of all rows.
    pub fn scores(&self, rows: &Matrix) -> Vec<f64> {
        (0..rows.rows()).map(|row| self.score(rows, row)).collect()
    }

    /// Rows that are suspicious.
    pub fn flagged(&self, scores: &[f64]) -> Vec<bool> {
        scores.iter().map(|score| *score < self.threshold).collect()
    }

    /// A row purified: each neuron clamped into its interval. (The paper optimises tighter bounds.)
    pub fn purified(&self, rows: &Matrix, row: usize) -> Vec<f64> {
        let clamp =
            |(neuron, (low, high)): (usize, &(f64, f64))| rows.get(row, neuron).clamp(*low, *high);
        self.intervals.iter().enumerate().map(clamp).collect()
    }
}

/// The chance that a suspicious row scores less than a clean one, ties counted half: AUROC.
pub fn auroc(clean: &[f64], suspicious: &[f64], origin: &Path) -> Result<f64> {
    let all: Vec<f64> = clean.iter().chain(suspicious).copied().collect();
    let of_row = (0..all.len()).map(|row| Some(u32::from(row < clean.len()))).collect();
    let classes = vec![(0, "suspicious".to_owned()), (1, "clean".to_owned())];
    let labels = RowLabels { name: "row".to_owned(), classes, of_row, min_count: 1 };
    let matrix = Matrix::new(all.len(), 1, Values::F64(all));
    let source = MatrixSource::new(matrix, &labels, origin)?;
    let ranking = rank(&MethodCall::parse("auroc")?, &source)?;
    let clean = ranking.groups.iter().find(|group| group.id == 1);
    Ok(clean.map_or(0.5, |group| group.values[0]))
}
