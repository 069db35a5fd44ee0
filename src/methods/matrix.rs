//! A matrix of activations at hand, and exact evidence from it. Columns are gathered in small
//! blocks, so memory beyond the matrix is a few columns per thread.

use std::ops::Range;
use std::path::Path;

use super::evidence::{Cells, ClassStat, Evidence};
use super::source::{Class, Design, Extremes, Side, Source};
use crate::error::{Error, Result};

/// Columns gathered together: one 64-byte line of f32.
const BLOCK: usize = 16;
/// Share of non-finite activations that is refused (methods.md 1.6).
const MAX_NON_FINITE: f64 = 1e-6;

/// The numbers of a matrix, row by row.
#[derive(Clone, Debug, PartialEq)]
pub enum Values {
    /// From f32, f16 or bf16.
    F32(Vec<f32>),
    /// From f64.
    F64(Vec<f64>),
}

/// Rows are positions, columns are neurons.
#[derive(Clone, Debug, PartialEq)]
pub struct Matrix {
    rows: usize,
    columns: usize,
    values: Values,
}

impl Matrix {
    /// `values` row by row; its length must be rows * columns.
    pub fn new(rows: usize, columns: usize, values: Values) -> Self {
        let len = match &values {
            Values::F32(values) => values.len(),
            Values::F64(values) => values.len(),
        };
        assert_eq!(len, rows * columns, "a matrix of {rows} x {columns}");
        Self { rows, columns, values }
    }

    /// Positions.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Neurons.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// One number.
    pub fn get(&self, row: usize, column: usize) -> f64 {
        let at = row * self.columns + column;
        match &self.values {
            Values::F32(values) => f64::from(values[at]),
            Values::F64(values) => values[at],
        }
    }

    /// Columns `range`, each as one run of `out`.
    fn gather(&self, range: &Range<usize>, out: &mut Vec<f64>) {
        out.clear();
        out.resize(range.len() * self.rows, 0.0);
        for row in 0..self.rows {
            for (i, column) in range.clone().enumerate() {
                out[i * self.rows + row] = self.get(row, column);
            }
        }
    }
}

/// The labels of a matrix's rows.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RowLabels {
    /// The column's name.
    pub name: String,
    /// (id, name) of each class.
    pub classes: Vec<(u32, String)>,
    /// Index into `classes` of each row, if it has a label.
    pub of_row: Vec<Option<u32>>,
    /// Classes with fewer rows are dropped.
    pub min_count: u64,
}

/// Exact evidence.
#[derive(Clone, Debug)]
pub struct MatrixSource {
    matrix: Matrix,
    design: Design,
    /// Class of each row as an index into the design.
    class_of: Vec<Option<u32>>,
}

impl MatrixSource {
    /// Every row, in one class: for methods that read no labels.
    pub fn unlabelled(matrix: Matrix, origin: &Path) -> Result<Self> {
        let labels = RowLabels {
            name: String::new(),
            classes: vec![(0, "*".to_owned())],
            of_row: vec![Some(0); matrix.rows()],
            min_count: 1,
        };
        Self::new(matrix, &labels, origin)
    }

    /// Rows with their labels; `origin` is the file that errors name.
    pub fn new(matrix: Matrix, labels: &RowLabels, origin: &Path) -> Result<Self> {
        if labels.of_row.len() != matrix.rows() {
            return Err(Error::input(
                origin,
                format!("{} labels for {} rows", labels.of_row.len(), matrix.rows()),
                "give one label for each row of the activations",
            ));
        }
        let mut rows = vec![0_u64; labels.classes.len()];
        for &class in labels.of_row.iter().flatten() {
            rows[class as usize] += 1;
        }
        let named = labels.classes.iter().zip(rows);
        let classes = named.map(|((id, name), rows)| Class { id: *id, name: name.clone(), rows });
        let mut design = Design {
            label: labels.name.clone(),
            origin: origin.to_path_buf(),
            exact: true,
            ..Design::default()
        };
        let places = design.keep_classes(classes.collect(), labels.min_count);
        let class_of: Vec<Option<u32>> =
            labels.of_row.iter().map(|class| places[class.as_ref().copied()? as usize]).collect();
        let source = Self { matrix, design, class_of };
        source.refuse_non_finite()?;
        Ok(source)
    }

    /// The matrix.
    pub fn matrix(&self) -> &Matrix {
        &self.matrix
    }

    fn refuse_non_finite(&self) -> Result<()> {
        let columns = 0..self.matrix.columns();
        let labelled = || (0..self.matrix.rows()).filter(|&row| self.class_of[row].is_some());
        let bad = |row: usize| {
            let not_finite = |&column: &usize| !self.matrix.get(row, column).is_finite();
            columns.clone().filter(not_finite).count()
        };
        let count: usize = labelled().map(bad).sum();
        let all = labelled().count() * self.matrix.columns();
        if count as f64 <= MAX_NON_FINITE * all as f64 {
            return Ok(());
        }
        let first = labelled().find(|&row| bad(row) > 0).unwrap_or(0);
        Err(Error::input(
            &self.design.origin,
            format!("{count} of {all} activations are NaN or infinite, first in row {first}"),
            "leave those rows unlabelled, or mend the activations",
        ))
    }

    fn evidence(&self, column: &[f64], ordered: bool) -> Evidence {
        let mut classes = vec![ClassStat::default(); self.design.classes.len()];
        let labelled = || {
            let known = column.iter().zip(&self.class_of);
            known.filter_map(|(&x, class)| class.filter(|_| x.is_finite()).map(|c| (x, c)))
        };
        for (x, class) in labelled() {
            let stat = &mut classes[class as usize];
            stat.n += 1;
            stat.mean += x;
            stat.min = stat.min.min(x);
            stat.max = stat.max.max(x);
            stat.firing += u64::from(x > 0.0);
        }
        for stat in classes.iter_mut().filter(|stat| stat.n > 0) {
            stat.mean /= stat.count();
        }
        for (x, class) in labelled() {
            let stat = &mut classes[class as usize];
            stat.m2 += (x - stat.mean).powi(2);
        }
        let cells = if ordered {
            Cells::from_values(&mut labelled().collect::<Vec<_>>())
        } else {
            Cells::default()
        };
        Evidence::new(classes, cells)
    }
}

impl Source for MatrixSource {
    fn design(&self) -> &Design {
        &self.design
    }

    fn neurons(&self) -> usize {
        self.matrix.columns()
    }

    fn visit(&self, range: Range<usize>, ordered: bool, see: &mut dyn FnMut(usize, &Evidence)) {
        let mut columns = Vec::new();
        let mut start = range.start;
        while start < range.end {
            let block = start..(start + BLOCK).min(range.end);
            self.matrix.gather(&block, &mut columns);
            for (i, neuron) in block.clone().enumerate() {
                let column = &columns[i * self.matrix.rows()..(i + 1) * self.matrix.rows()];
                see(neuron, &self.evidence(column, ordered));
            }
            start = block.end;
        }
    }

    fn require_order(&self) -> Result<()> {
        Ok(())
    }

    fn extremes(&self, neuron: usize, k: usize, side: Side) -> Extremes {
        let value = |row: usize| self.matrix.get(row, neuron);
        let mut pairs: Extremes = (0..self.matrix.rows())
            .map(|row| (row as u64, value(row)))
            .filter(|(_, x)| x.is_finite())
            .collect();
        // + 0.0 makes -0 and 0 equal.
        let order = |a: &(u64, f64), b: &(u64, f64)| {
            let values = match side {
                Side::Top => (b.1 + 0.0).total_cmp(&(a.1 + 0.0)),
                Side::Bottom => (a.1 + 0.0).total_cmp(&(b.1 + 0.0)),
            };
            values.then(a.0.cmp(&b.0))
        };
        if k < pairs.len() && k > 0 {
            pairs.select_nth_unstable_by(k - 1, order);
        }
        pairs.truncate(k);
        pairs.sort_unstable_by(order);
        pairs
    }

    fn labelled_values(&self, neuron: usize) -> Vec<(u32, f64)> {
        let known = |row: usize| {
            let x = self.matrix.get(row, neuron);
            self.class_of[row].filter(|_| x.is_finite()).map(|class| (class, x))
        };
        (0..self.matrix.rows()).filter_map(known).collect()
    }
}
