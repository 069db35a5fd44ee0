//! Rows of a site at hand for a method: those of each part, at most so many, drawn by a seed. What is
//! found is fitted on train rows and chosen on dev rows; test rows are only reported.

use crate::device::ops::Ops;
use crate::error::{Error, Result};
use crate::methods::probing::Rows;
use crate::methods::probing::sparse;
use crate::probe::source::Source;
use crate::probe::split::Part;
use crate::probe::tasks::{Labelled, Task};

/// Rows of a part, in the order of the corpus.
#[derive(Clone, Debug, Default)]
pub(super) struct PartRows {
    values: Vec<f32>,
    width: usize,
    /// Their numbers in the corpus.
    pub(super) numbers: Vec<u32>,
    /// Their classes.
    pub(super) targets: Vec<u32>,
}

impl PartRows {
    /// Activations `[rows, width]`.
    pub(super) fn rows(&self) -> Rows<'_> {
        Rows::new(&self.values, self.width)
    }

    /// Chosen columns of all rows, row-major.
    pub(super) fn columns(&self, columns: &[u32]) -> Vec<f32> {
        let pick = |row: &[f32]| columns.iter().map(|&n| row[n as usize]).collect::<Vec<f32>>();
        self.values.chunks_exact(self.width).flat_map(pick).collect()
    }

    /// The activations of one row.
    pub(super) fn row(&self, row: usize) -> &[f32] {
        &self.values[row * self.width..(row + 1) * self.width]
    }
}

/// Rows of all parts of a site.
#[derive(Clone, Debug, Default)]
pub(super) struct Parts {
    /// Columns.
    pub(super) width: usize,
    parts: [PartRows; 3],
}

impl Parts {
    /// Reads these rows, each list in the order of the corpus, in one pass over the site.
    pub(super) fn read<O: Ops>(
        source: &mut dyn Source<O>,
        (site, width): (usize, usize),
        wanted: &[Labelled; 3],
    ) -> Result<Self> {
        let mut all: Vec<(u32, usize)> = Vec::new();
        for (part, labelled) in wanted.iter().enumerate() {
            all.extend(labelled.rows.iter().map(|row| (*row, part)));
        }
        all.sort_unstable();
        let rows = all.iter().map(|(row, _)| *row).collect();
        let values = super::rows(source, (site, width), &Labelled { rows, targets: Vec::new() })?;
        if let Some(at) = values.iter().position(|x| !x.is_finite()) {
            let what = format!("neuron {} of the site is not finite on some row", at % width);
            let remedy = "leave the site or its methods out, or run with model.dtype = \"f32\"";
            return Err(Error::config("methods", what, remedy));
        }
        let empty = |labelled: &Labelled| PartRows {
            values: Vec::with_capacity(labelled.len() * width),
            width,
            numbers: labelled.rows.clone(),
            // Classes are whole numbers that f32 holds.
            targets: labelled.targets.iter().map(|target| *target as u32).collect(),
        };
        let mut own = Self { width, parts: [0, 1, 2].map(|part| empty(&wanted[part])) };
        for ((_, part), row) in all.iter().zip(values.chunks_exact(width)) {
            own.parts[*part].values.extend_from_slice(row);
        }
        Ok(own)
    }

    /// Some of these rows, by their numbers in the corpus, with other classes.
    ///
    /// # Panics
    /// If a row is not there.
    pub(super) fn pick(&self, wanted: [Labelled; 3]) -> Self {
        let pick = |part: Part| {
            let (labelled, own) = (&wanted[part as usize], self.of(part));
            let at = |row: &u32| own.numbers.binary_search(row).expect("it was read");
            PartRows {
                values: labelled.rows.iter().flat_map(|row| own.row(at(row)).to_vec()).collect(),
                width: self.width,
                numbers: labelled.rows.clone(),
                targets: labelled.targets.iter().map(|target| *target as u32).collect(),
            }
        };
        Self { width: self.width, parts: Part::ALL.map(pick) }
    }

    /// Rows of one part.
    pub(super) fn of(&self, part: Part) -> &PartRows {
        &self.parts[part as usize]
    }
}

/// At most `most` rows of each part, drawn by a seed, in the order of the corpus.
pub(super) fn sample(task: &Task, most: usize, seed: u64) -> [Labelled; 3] {
    Part::ALL.map(|part| {
        let own = task.part(part);
        match own.len() <= most {
            true => own.clone(),
            false => own.shuffled(seed).slice(0..most).in_order(),
        }
    })
}

/// Rows of one class against all others.
#[derive(Clone, Debug)]
pub(super) struct OneClass<'a> {
    pub(super) parts: &'a Parts,
    labels: [Vec<bool>; 3],
}

impl<'a> OneClass<'a> {
    pub(super) fn new(parts: &'a Parts, class: u32) -> Self {
        let is = |part| parts.of(part).targets.iter().map(|target| *target == class).collect();
        Self { parts, labels: Part::ALL.map(is) }
    }

    /// Whether each row of a part is of the class.
    pub(super) fn labels(&self, part: Part) -> &[bool] {
        &self.labels[part as usize]
    }

    /// Rows and labels of a part.
    pub(super) fn on(&self, part: Part) -> sparse::Labelled<'_> {
        sparse::Labelled { rows: self.parts.of(part).rows(), labels: self.labels(part) }
    }

    /// Whether a part has rows of the class and others.
    pub(super) fn has_both(&self, part: Part) -> bool {
        let labels = self.labels(part);
        labels.contains(&true) && labels.contains(&false)
    }
}
