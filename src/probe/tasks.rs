//! What probes learn: for each task the rows that have a label, part by part, and what the label is.

use std::borrow::Cow;
use std::ops::Range;

use super::rows::{NONE, RowTable};
use super::split::Part;
use crate::device::probe_ops::TaskRows;
use crate::hash::{GAMMA, mix};

/// Rows with a label, in order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Labelled {
    /// Their numbers in the corpus.
    pub rows: Vec<u32>,
    /// Class, or number, of each.
    pub targets: Vec<f32>,
}

impl Labelled {
    /// Number of rows.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    fn push(&mut self, row: usize, target: f32) {
        self.rows.push(u32::try_from(row).expect("rows are counted in u32"));
        self.targets.push(target);
    }

    /// Rows by class.
    pub fn counts(&self, classes: usize) -> Vec<u64> {
        let mut counts = vec![0; classes];
        self.targets.iter().for_each(|target| counts[*target as usize] += 1);
        counts
    }

    /// Those of a run of rows.
    fn within(&self, rows: &Range<usize>) -> Range<usize> {
        // All of them need not be in order: shuffled rows are.
        if rows.start == 0 && self.rows.iter().all(|row| (*row as usize) < rows.end) {
            return 0..self.len();
        }
        let below = |end: usize| self.rows.partition_point(|row| (*row as usize) < end);
        below(rows.start)..below(rows.end)
    }

    /// A run of them.
    pub fn slice(&self, range: Range<usize>) -> Self {
        Self { rows: self.rows[range.clone()].to_vec(), targets: self.targets[range].to_vec() }
    }

    /// The same rows in the order of the corpus.
    #[must_use]
    pub fn in_order(&self) -> Self {
        let mut pairs: Vec<(u32, f32)> =
            self.rows.iter().copied().zip(self.targets.iter().copied()).collect();
        pairs.sort_unstable_by_key(|(row, _)| *row);
        let (rows, targets) = pairs.into_iter().unzip();
        Self { rows, targets }
    }

    /// The same rows in an order drawn by a seed (Fisher & Yates).
    pub fn shuffled(&self, seed: u64) -> Self {
        let mut own = self.clone();
        for at in (1..own.len()).rev() {
            let bits = mix((at as u64).wrapping_mul(GAMMA) ^ mix(seed));
            let other = usize::try_from(bits % (at as u64 + 1)).expect("below a length");
            own.rows.swap(at, other);
            own.targets.swap(at, other);
        }
        own
    }
}

/// Labels of one kind on all parts.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Task {
    /// Classes; 0 for numbers.
    pub classes: usize,
    /// By part, in the order of [`Part::ALL`].
    pub parts: [Labelled; 3],
}

impl Task {
    /// The classes of a label column, less those that are not kept: `keep[class]` is its new number.
    pub fn of_column(table: &RowTable, column: usize, keep: &[Option<u32>]) -> Self {
        let classes = keep.iter().flatten().count();
        Self::build(table, classes, |row| match table.classes[column][row] {
            NONE => None,
            class => keep[class as usize].map(|class| class as f32),
        })
    }

    /// Any labels.
    pub fn build(table: &RowTable, classes: usize, label: impl Fn(usize) -> Option<f32>) -> Self {
        let mut task = Self { classes, ..Self::default() };
        for (row, part) in table.parts.iter().enumerate() {
            if let Some(target) = label(row) {
                task.parts[*part as usize].push(row, target);
            }
        }
        task
    }

    /// The same rows with other labels.
    #[must_use]
    pub fn relabelled(&self, mut label: impl FnMut(u32, f32) -> f32) -> Self {
        let mut task = self.clone();
        for part in &mut task.parts {
            for (row, target) in part.rows.iter().zip(&mut part.targets) {
                *target = label(*row, *target);
            }
        }
        task
    }

    /// Rows of a part.
    pub fn part(&self, part: Part) -> &Labelled {
        &self.parts[part as usize]
    }
}

/// Rows of many tasks as a tensor has them that begins somewhere in the corpus.
pub struct Shifted<'a> {
    lists: Vec<(Cow<'a, [u32]>, &'a [f32])>,
}

impl<'a> Shifted<'a> {
    /// Those of corpus rows `at`, counted from the first of these. Rows that are not in order must
    /// all be there.
    pub fn new(labelled: &[&'a Labelled], at: &Range<usize>) -> Self {
        let first = u32::try_from(at.start).expect("rows are counted in u32");
        let list = |own: &&'a Labelled| {
            let within = own.within(at);
            let rows = &own.rows[within.clone()];
            let rows = match first {
                0 => Cow::Borrowed(rows),
                _ => Cow::Owned(rows.iter().map(|row| row - first).collect()),
            };
            (rows, &own.targets[within])
        };
        Self { lists: labelled.iter().map(list).collect() }
    }

    /// As devices read them.
    pub fn rows(&self) -> Vec<TaskRows<'_>> {
        self.lists.iter().map(|(rows, targets)| TaskRows { rows, targets }).collect()
    }
}
