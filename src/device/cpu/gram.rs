//! gram: second moments of columns, `sum x x^T` or `sum x z^T` over the rows of a class.
//!
//! Rows wait in panels of 64 columns until their class has a tile of 512, which is then multiplied at
//! once: `x^T z` is a product whose inner dimension is the rows. The tile's sums are f32, from its first row
//! on in their order, and are added to f64: neither threads nor the cut of rows into calls changes a bit.
//! Of x with itself the panels below the diagonal are left out.

use rayon::prelude::*;

use super::buffer::Tensor;
use super::dispatch::{level, multiversion};
use super::panels::PANEL;
use super::tile::{self, Rows};
use crate::device::moment_ops::{TILE, mirror};

/// Elements of a panel of waiting rows, `[512, 64]`.
const HELD: usize = TILE * PANEL;

/// Second moments while they are filled.
#[derive(Debug)]
pub struct Moments {
    /// Columns of x.
    left: usize,
    /// Columns of z; none where x is multiplied with itself.
    right: Option<usize>,
    classes: Vec<Class>,
    /// The columns of x in a tile as rows, `[panels of x][64][512]`.
    turned: Vec<f32>,
}

/// One class.
#[derive(Clone, Debug)]
struct Class {
    /// Rows that wait.
    rows: usize,
    /// Of x, `[panels][512][64]`; past the last column 0.
    x: Vec<f32>,
    /// Of z; empty without.
    z: Vec<f32>,
    /// `[left, right]`.
    sums: Vec<f64>,
}

impl Moments {
    pub(super) fn new((left, right): (usize, Option<usize>), classes: usize) -> Self {
        assert!(left > 0 && right != Some(0) && classes > 0, "moments of something");
        let held = |columns: usize| vec![0.0; columns.div_ceil(PANEL) * HELD];
        let class = Class {
            rows: 0,
            x: held(left),
            z: right.map_or_else(Vec::new, held),
            sums: vec![0.0; left * right.unwrap_or(left)],
        };
        Self { left, right, classes: vec![class; classes], turned: held(left) }
    }

    /// See [`crate::device::moment_ops::MomentOps::add_moments`].
    ///
    /// # Panics
    /// If the shapes do not belong together.
    pub(super) fn add(
        &mut self,
        (x, z): (&Tensor, Option<&Tensor>),
        (rows, classes): (&[u32], &[u32]),
    ) {
        assert_eq!((x.cols(), z.map(Tensor::cols)), (self.left, self.right));
        assert!(z.is_none_or(|z| z.rows() == x.rows()), "both have the same rows");
        assert_eq!(rows.len(), classes.len());
        let row_of = |x: &Tensor, row: u32| row as usize * x.cols()..(row as usize + 1) * x.cols();
        for (&row, &class) in rows.iter().zip(classes) {
            assert!((row as usize) < x.rows(), "row {row} is beyond the tensor's");
            let own = &mut self.classes[class as usize];
            hold(&mut own.x, own.rows, &x.values()[row_of(x, row)]);
            if let Some(z) = z {
                hold(&mut own.z, own.rows, &z.values()[row_of(z, row)]);
            }
            own.rows += 1;
            if own.rows == TILE {
                self.multiply(class as usize);
            }
        }
    }

    /// Multiplies the rows of a class that wait.
    fn multiply(&mut self, class: usize) {
        let (right, alone) = (self.right.unwrap_or(self.left), self.right.is_none());
        let Class { rows, x, z, sums } = &mut self.classes[class];
        let rows = std::mem::take(rows);
        let z = if alone { &*x } else { &*z };
        let pieces = sums.par_chunks_mut(PANEL * right).zip(self.turned.par_chunks_mut(HELD));
        pieces.enumerate().for_each(|(piece, (sums, turned))| {
            turn(&x[piece * HELD..][..rows * PANEL], turned);
            let first = if alone { piece } else { 0 };
            for panel in first..right.div_ceil(PANEL) {
                let values = &z[panel * HELD..][..rows * PANEL];
                add_product(turned, values, sums, (right, panel * PANEL));
            }
        });
    }

    /// Hands them over, rows that still wait included.
    pub(super) fn take(mut self) -> Vec<Vec<f64>> {
        for class in 0..self.classes.len() {
            if self.classes[class].rows > 0 {
                self.multiply(class);
            }
        }
        let mut all: Vec<Vec<f64>> = self.classes.into_iter().map(|class| class.sums).collect();
        if self.right.is_none() {
            all.iter_mut().for_each(|sums| mirror(sums, self.left));
        }
        all
    }
}

/// Puts a row where rows of its class wait.
fn hold(panels: &mut [f32], at: usize, row: &[f32]) {
    for (panel, values) in panels.chunks_exact_mut(HELD).zip(row.chunks(PANEL)) {
        panel[at * PANEL..][..values.len()].copy_from_slice(values);
    }
}

/// The columns of a panel `[rows, 64]` as rows `[64, 512]`: 16 rows at a time, a line of each column.
fn turn(panel: &[f32], turned: &mut [f32]) {
    for (block, rows) in panel.chunks(16 * PANEL).enumerate() {
        for (column, line) in turned.chunks_exact_mut(TILE).enumerate() {
            for (to, row) in line[16 * block..].iter_mut().zip(rows.chunks_exact(PANEL)) {
                *to = row[column];
            }
        }
    }
}

/// Adds the products of a panel's columns of x, `[64, 512]`, with a panel of z, `[rows, 64]`, to rows of
/// the sums, `columns` wide, from column `first` on.
fn add_product(turned: &[f32], panel: &[f32], sums: &mut [f64], (columns, first): (usize, usize)) {
    let width = PANEL.min(columns - first);
    let mut own = [0.0; tile::ROWS * PANEL];
    let tiles = turned.chunks(tile::ROWS * TILE).zip(sums.chunks_mut(tile::ROWS * columns));
    for (values, sums) in tiles {
        let a = Rows { values, rows: sums.len() / columns, stride: TILE, step: 1 };
        own.fill(0.0);
        tile::add(level(), a, (panel, PANEL), &mut own);
        for (sums, own) in sums.chunks_exact_mut(columns).zip(own.chunks_exact(PANEL)) {
            widen(&own[..width], &mut sums[first..][..width]);
        }
    }
}

multiversion! {
    /// `sums += own`.
    fn widen(own: &[f32], sums: &mut [f64]) {
        for (sum, own) in sums.iter_mut().zip(own) {
            *sum += f64::from(*own);
        }
    }
}
