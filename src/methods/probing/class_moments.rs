//! Second moments inside classes: what Gaussian and mean-difference probes are made from.

use super::rows::Rows;
use crate::error::{Error, Result};

/// Moments of one class over D columns.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ClassMoments {
    /// Rows.
    pub rows: u64,
    /// Their mean, `[D]`.
    pub mean: Vec<f64>,
    /// `Σ (x - mean)(x - mean)^T`, `[D, D]`.
    pub scatter: Vec<f64>,
}

impl ClassMoments {
    /// Rows as a float.
    pub fn count(&self) -> f64 {
        self.rows as f64
    }

    /// Columns.
    pub fn dims(&self) -> usize {
        self.mean.len()
    }
}

/// Moments of every class from rows at hand, in two passes; rows without a label take no part.
///
/// Refuses labels that are not one for each row, or name no class.
pub fn class_moments(
    rows: Rows<'_>,
    labels: &[Option<u32>],
    classes: usize,
) -> Result<Vec<ClassMoments>> {
    if labels.len() != rows.len() {
        return Err(Error::config(
            "labels",
            format!("{} labels for {} rows", labels.len(), rows.len()),
            "give one label for each row of the activations",
        ));
    }
    if let Some(class) = labels.iter().flatten().find(|&&class| class as usize >= classes) {
        return Err(Error::config(
            "labels",
            format!("there is no class {class} among {classes}"),
            "number the classes from 0",
        ));
    }
    let d = rows.cols();
    let empty = ClassMoments { rows: 0, mean: vec![0.0; d], scatter: vec![0.0; d * d] };
    let mut all = vec![empty; classes];
    let labelled = || labels.iter().enumerate().filter_map(|(row, class)| Some((row, (*class)?)));
    for (row, class) in labelled() {
        let moments = &mut all[class as usize];
        moments.rows += 1;
        let pairs = moments.mean.iter_mut().zip(rows.row(row));
        pairs.for_each(|(sum, &x)| *sum += f64::from(x));
    }
    for moments in all.iter_mut().filter(|moments| moments.rows > 0) {
        let n = moments.count();
        moments.mean.iter_mut().for_each(|sum| *sum /= n);
    }
    let mut centred = vec![0.0; d];
    for (row, class) in labelled() {
        let ClassMoments { mean, scatter, .. } = &mut all[class as usize];
        for ((c, &x), mean) in centred.iter_mut().zip(rows.row(row)).zip(mean) {
            *c = f64::from(x) - *mean;
        }
        add_outer(scatter, &centred);
    }
    all.iter_mut().for_each(|moments| mirror(&mut moments.scatter, d));
    Ok(all)
}

/// Adds `x x^T` to the upper triangle of a square matrix.
pub(super) fn add_outer(matrix: &mut [f64], x: &[f64]) {
    let d = x.len();
    for (i, &xi) in x.iter().enumerate() {
        let row = &mut matrix[i * d + i..(i + 1) * d];
        row.iter_mut().zip(&x[i..]).for_each(|(sum, &xj)| *sum += xi * xj);
    }
}

/// Copies the upper triangle of a square matrix into the lower.
pub(super) fn mirror(matrix: &mut [f64], d: usize) {
    for i in 0..d {
        for j in 0..i {
            matrix[i * d + j] = matrix[j * d + i];
        }
    }
}
