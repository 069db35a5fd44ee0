//! What the probing tests share: the fixture's rows, numbers by chance, plain loops in f64.
//! Oracle: none of its own.

use std::path::Path;

use electrode::methods::probing::{Block, Rows};
use serde_json::Value;

use crate::methods::fixture_file::File;
use crate::methods::support::Random;

/// Classes of the fixture, and units of a layer.
pub(super) const CLASSES: usize = 14;
pub(super) const UNITS: usize = 384;
/// Neurons of all layers.
pub(super) const NEURONS: usize = 2688;
/// The layer that probes of one layer read.
pub(super) const LAYER: usize = 6;

pub(super) fn json(folder: &Path, name: &str) -> Value {
    let bytes = std::fs::read(folder.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
    serde_json::from_slice(&bytes).expect("it is JSON")
}

pub(super) fn toy() -> Value {
    json(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/methods")), "toy.json")
}

pub(super) fn numbers(value: &Value) -> Vec<f64> {
    let list = value.as_array().expect("a list");
    list.iter().map(|x| x.as_f64().expect("a number")).collect()
}

pub(super) fn table(value: &Value) -> Vec<Vec<f64>> {
    value.as_array().expect("a table").iter().map(numbers).collect()
}

pub(super) fn ids(value: &Value) -> Vec<u32> {
    numbers(value).into_iter().map(|x| x as u32).collect()
}

/// Activations and labels of the fixture: labelled rows that were trained on, and the others.
pub(super) struct Hidden {
    values: Vec<f32>,
    labels: Vec<f64>,
    trained: usize,
}

impl Hidden {
    pub(super) fn open(folder: &Path) -> Self {
        let inputs = File::open(folder, "inputs.safetensors");
        let tokens = json(folder, "tokens.json");
        let trained = tokens["n_train"].as_u64().expect("a count") as usize;
        assert_eq!(tokens["probe_layer"].as_u64(), Some(LAYER as u64));
        Self { values: inputs.f32("hidden_last"), labels: inputs.f64("label"), trained }
    }

    pub(super) fn rows(&self) -> Rows<'_> {
        Rows::new(&self.values, NEURONS)
    }

    /// Labelled rows of one part with their classes.
    pub(super) fn part(&self, trained: bool) -> (Vec<usize>, Vec<u32>) {
        let labelled = self.labels.iter().enumerate();
        let own =
            labelled.filter(|(row, label)| **label >= 0.0 && (*row < self.trained) == trained);
        own.map(|(row, &label)| (row, label as u32)).unzip()
    }

    /// Units of the layer, some of them, of some rows.
    pub(super) fn layer(&self, rows: &[usize], units: &[u32]) -> Block {
        let columns: Vec<u32> = units.iter().map(|unit| (LAYER * UNITS) as u32 + unit).collect();
        self.rows().block(rows, &columns)
    }
}

/// Standard normal numbers in f32.
pub(super) fn noise(random: &mut Random, n: usize) -> Vec<f32> {
    (0..n).map(|_| random.normal() as f32).collect()
}

/// The same in f64.
pub(super) fn noise_block(random: &mut Random, rows: usize, cols: usize) -> Block {
    Block::new((0..rows * cols).map(|_| random.normal()).collect(), cols)
}

/// Eigenvalues, largest first, and eigenvectors, one a row, by Jacobi's rotations.
pub(super) fn jacobi(matrix: &[f64], n: usize) -> (Vec<f64>, Vec<f64>) {
    let mut a = matrix.to_vec();
    let mut v: Vec<f64> = (0..n * n).map(|at| f64::from(u8::from(at / n == at % n))).collect();
    for _ in 0..60 {
        for p in 0..n {
            for q in p + 1..n {
                if a[p * n + q] == 0.0 {
                    continue;
                }
                let theta = (a[q * n + q] - a[p * n + p]) / (2.0 * a[p * n + q]);
                let t = theta.signum() / (theta.abs() + (theta * theta + 1.0).sqrt());
                let t = if theta == 0.0 { 1.0 } else { t };
                let c = 1.0 / (t * t + 1.0).sqrt();
                let s = t * c;
                for k in 0..n {
                    let (x, y) = (a[k * n + p], a[k * n + q]);
                    (a[k * n + p], a[k * n + q]) = (c * x - s * y, s * x + c * y);
                }
                for k in 0..n {
                    let (x, y) = (a[p * n + k], a[q * n + k]);
                    (a[p * n + k], a[q * n + k]) = (c * x - s * y, s * x + c * y);
                    let (x, y) = (v[p * n + k], v[q * n + k]);
                    (v[p * n + k], v[q * n + k]) = (c * x - s * y, s * x + c * y);
                }
            }
        }
    }
    let mut order: Vec<usize> = (0..n).collect();
    order.sort_by(|&i, &j| a[j * n + j].total_cmp(&a[i * n + i]));
    let values = order.iter().map(|&i| a[i * n + i]).collect();
    let vectors = order.iter().flat_map(|&i| v[i * n..(i + 1) * n].to_vec()).collect();
    (values, vectors)
}

/// Solves `A x = b` by Gaussian elimination with pivots: nothing of Cholesky in it.
pub(super) fn eliminate(mut a: Vec<f64>, mut b: Vec<f64>) -> Vec<f64> {
    let n = b.len();
    for i in 0..n {
        let pivot = (i..n).max_by(|&p, &q| a[p * n + i].abs().total_cmp(&a[q * n + i].abs()));
        let pivot = pivot.expect("there are rows left");
        for k in 0..n {
            a.swap(i * n + k, pivot * n + k);
        }
        b.swap(i, pivot);
        for row in i + 1..n {
            let share = a[row * n + i] / a[i * n + i];
            for k in i..n {
                a[row * n + k] -= share * a[i * n + k];
            }
            b[row] -= share * b[i];
        }
    }
    for i in (0..n).rev() {
        let rest: f64 = (i + 1..n).map(|k| a[i * n + k] * b[k]).sum();
        b[i] = (b[i] - rest) / a[i * n + i];
    }
    b
}
