//! Where evidence comes from: the design (who carries which class) and a walk over the neurons.

use std::ops::Range;
use std::path::PathBuf;

use super::evidence::Evidence;
use crate::error::Result;

/// One class that is ranked for.
#[derive(Clone, Debug, PartialEq)]
pub struct Class {
    /// Its id in the labels it came from.
    pub id: u32,
    /// Its name.
    pub name: String,
    /// Rows that carry it.
    pub rows: u64,
}

/// Which rows count, and by what name.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Design {
    /// The label column's name.
    pub label: String,
    /// The file (or column) to name in errors.
    pub origin: PathBuf,
    /// The classes with enough rows, ordered as their ids.
    pub classes: Vec<Class>,
    /// The class names are numbers, so that correlation with them has a meaning.
    pub numeric: bool,
    /// Values come one by one and not in bins.
    pub exact: bool,
    /// What a reader of the ranking must know (dropped classes).
    pub notes: Vec<String>,
}

impl Design {
    /// Labelled rows.
    pub fn rows(&self) -> u64 {
        self.classes.iter().map(|class| class.rows).sum()
    }

    /// The number each class name stands for, if all are numbers.
    pub fn numbers(&self) -> Option<Vec<f64>> {
        let parse = |class: &Class| class.name.parse::<f64>().ok().filter(|x| x.is_finite());
        self.classes.iter().map(parse).collect()
    }

    /// Splits classes by `min_count`; what is too small is left out and noted. Returns where
    /// each of the given classes went.
    pub fn keep_classes(&mut self, classes: Vec<Class>, min_count: u64) -> Vec<Option<u32>> {
        let mut places = Vec::with_capacity(classes.len());
        for class in classes {
            if class.rows >= min_count.max(1) {
                places.push(u32::try_from(self.classes.len()).ok());
                self.classes.push(class);
            } else {
                places.push(None);
                self.notes.push(format!(
                    "class '{}' dropped: {} rows, fewer than {}",
                    class.name,
                    class.rows,
                    min_count.max(1)
                ));
            }
        }
        places
    }
}

/// Which end of a neuron's values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Largest first.
    Top,
    /// Smallest first.
    Bottom,
}

/// A neuron's values at its own rows.
pub type Extremes = Vec<(u64, f64)>;

/// The neurons of one problem, one by one.
pub trait Source: Sync {
    /// Who carries which class.
    fn design(&self) -> &Design;
    /// Number of neurons; they are named 0.. here, and whoever made the source knows them.
    fn neurons(&self) -> usize;
    /// Shows the neurons of `range` in order; with their cells if `ordered`.
    fn visit(&self, range: Range<usize>, ordered: bool, see: &mut dyn FnMut(usize, &Evidence));
    /// Fails when cells cannot be had.
    fn require_order(&self) -> Result<()>;
    /// Up to `k` (row, value) pairs from one end, over all rows, ties by lower row.
    fn extremes(&self, neuron: usize, k: usize, side: Side) -> Extremes;
    /// (class, value) of the labelled rows: all of them when exact, else of the uniform sample.
    fn labelled_values(&self, neuron: usize) -> Vec<(u32, f64)>;
}
