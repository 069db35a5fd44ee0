//! What the CPU device keeps in memory.

use std::sync::Arc;

use rayon::prelude::*;

use super::panels::Panels;

/// Activations, row-major, with room for `capacity / cols` rows.
#[derive(Debug)]
pub struct Tensor {
    data: Vec<f32>,
    rows: usize,
    cols: usize,
}

impl Tensor {
    pub(super) fn new(capacity: usize, cols: usize) -> Self {
        Self { data: vec![0.0; capacity * cols], rows: 0, cols }
    }

    /// Sets the rows in use.
    pub(super) fn set_rows(&mut self, rows: usize) {
        assert!(rows * self.cols <= self.data.len(), "{rows} rows over the planned room");
        self.rows = rows;
    }

    /// Rows in use.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Columns.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// The rows in use.
    pub fn values(&self) -> &[f32] {
        &self.data[..self.rows * self.cols]
    }

    pub(super) fn values_mut(&mut self) -> &mut [f32] {
        &mut self.data[..self.rows * self.cols]
    }

    /// Runs `f` on groups of whole rows in parallel: `(first row, rows)`. The groups do not depend
    /// on the number of threads.
    pub(super) fn par_rows(&mut self, f: impl Fn(usize, &mut [f32]) + Sync) {
        let cols = self.cols.max(1);
        let group = (16_384 / cols).max(1);
        self.values_mut()
            .par_chunks_mut(group * cols)
            .enumerate()
            .for_each(|(index, rows)| f(index * group, rows));
    }
}

/// A weight `[out, in]` and its bias.
#[derive(Debug)]
pub struct Matrix {
    pub(super) weight: Panels,
    /// The same row-major, where a table has it anyway (tied embeddings).
    pub(super) rows: Option<Arc<[f32]>>,
    pub(super) bias: Option<Vec<f32>>,
}

/// A table of rows.
#[derive(Debug)]
pub struct Table {
    pub(super) cols: usize,
    pub(super) values: Arc<[f32]>,
}

impl Table {
    pub(super) fn row(&self, row: u32) -> &[f32] {
        &self.values[row as usize * self.cols..][..self.cols]
    }
}
