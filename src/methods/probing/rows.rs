//! Activations at hand as probes read them: borrowed f32 rows, and chosen columns of them in f64.

/// Activations `[rows, cols]`, row-major, of another's.
#[derive(Clone, Copy, Debug)]
pub struct Rows<'a> {
    values: &'a [f32],
    cols: usize,
}

impl<'a> Rows<'a> {
    /// `values` must be whole rows of `cols` columns.
    pub fn new(values: &'a [f32], cols: usize) -> Self {
        assert!(cols > 0 && values.len().is_multiple_of(cols), "rows of {cols} columns");
        Self { values, cols }
    }

    /// Rows.
    pub fn len(&self) -> usize {
        self.values.len() / self.cols
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// Columns, which are neurons.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// One row.
    pub fn row(&self, row: usize) -> &'a [f32] {
        &self.values[row * self.cols..(row + 1) * self.cols]
    }

    /// One number.
    pub fn get(&self, row: usize, column: usize) -> f64 {
        f64::from(self.values[row * self.cols + column])
    }

    /// Chosen columns of chosen rows, in the order given.
    pub fn block(&self, rows: &[usize], columns: &[u32]) -> Block {
        let pick = |&row: &usize| {
            let values = self.row(row);
            columns.iter().map(move |&column| f64::from(values[column as usize]))
        };
        Block::new(rows.iter().flat_map(pick).collect(), columns.len())
    }

    /// Every column of every row.
    pub fn all(&self) -> Block {
        Block::new(self.values.iter().map(|&x| f64::from(x)).collect(), self.cols)
    }

    /// Mean of each column, 0 without rows.
    pub fn means(&self) -> Vec<f64> {
        let mut means = vec![0.0; self.cols];
        for row in self.values.chunks_exact(self.cols) {
            means.iter_mut().zip(row).for_each(|(sum, &x)| *sum += f64::from(x));
        }
        let n = self.len().max(1) as f64;
        means.iter_mut().for_each(|sum| *sum /= n);
        means
    }
}

/// Numbers `[rows, cols]` in f64, row-major: chosen activations, or the weights of a probe
/// `[columns, inputs]`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Block {
    values: Vec<f64>,
    cols: usize,
}

impl Block {
    /// `values` must be whole rows of `cols` columns.
    pub fn new(values: Vec<f64>, cols: usize) -> Self {
        assert!(cols > 0 && values.len().is_multiple_of(cols), "rows of {cols} columns");
        Self { values, cols }
    }

    /// Weights as devices give them.
    pub fn from_f32(values: &[f32], cols: usize) -> Self {
        Rows::new(values, cols).all()
    }

    /// Rows.
    pub fn len(&self) -> usize {
        self.values.len() / self.cols
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// Columns.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// One row.
    pub fn row(&self, row: usize) -> &[f64] {
        &self.values[row * self.cols..(row + 1) * self.cols]
    }

    /// The rows in order.
    pub fn rows(&self) -> impl ExactSizeIterator<Item = &[f64]> + Clone {
        self.values.chunks_exact(self.cols)
    }

    /// The rows in order, to be changed.
    pub fn rows_mut(&mut self) -> impl ExactSizeIterator<Item = &mut [f64]> {
        self.values.chunks_exact_mut(self.cols)
    }

    /// All numbers.
    pub fn values(&self) -> &[f64] {
        &self.values
    }

    /// One column.
    pub fn column(&self, column: usize) -> Vec<f64> {
        self.rows().map(|row| row[column]).collect()
    }

    /// Chosen columns of chosen rows, in the order given.
    pub fn pick(&self, rows: &[usize], columns: &[u32]) -> Self {
        let pick = |&row: &usize| {
            let values = self.row(row);
            columns.iter().map(move |&column| values[column as usize])
        };
        Self::new(rows.iter().flat_map(pick).collect(), columns.len())
    }
}

/// Sums that a product of rows is added up in, so that they can be added side by side.
const LANES: usize = 8;

/// `Σ a_i b_i`, in an order that depends on the length alone.
pub(super) fn dot(a: &[f64], b: &[f64]) -> f64 {
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<LANES>(), b.as_chunks::<LANES>());
    let mut sums = [0.0; LANES];
    for (a, b) in a.iter().zip(b) {
        for ((sum, a), b) in sums.iter_mut().zip(a).zip(b) {
            *sum += a * b;
        }
    }
    let rest: f64 = a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum();
    sums.iter().sum::<f64>() + rest
}

/// `ln Σ exp x_i`, without overflow.
pub fn log_sum_exp(x: &[f64]) -> f64 {
    let top = x.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    if top.is_infinite() {
        return top;
    }
    top + x.iter().map(|x| (x - top).exp()).sum::<f64>().ln()
}

/// The place of the largest number, the first of equal ones.
pub fn argmax(x: &[f64]) -> usize {
    let better = |best: usize, i: usize| if x[i] > x[best] { i } else { best };
    (1..x.len()).fold(0, better)
}

/// 1 / (1 + e^-x).
pub fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

/// `ln(1 + e^x)`, without overflow.
pub fn softplus(x: f64) -> f64 {
    x.max(0.0) + (-x.abs()).exp().ln_1p()
}

/// Largest magnitude; NaN if there is one.
pub(super) fn largest(x: impl IntoIterator<Item = f64>) -> f64 {
    x.into_iter().map(f64::abs).fold(0.0, |top, x| if x <= top { top } else { x })
}
