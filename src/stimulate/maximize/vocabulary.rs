//! Products with the token table: mixtures of tokens, and how well each token fits a direction.
//! On the device, in pieces of rows, so that no more than `CELLS` numbers are there at once.

use rayon::prelude::*;

use crate::device::gradient_ops::GradientOps;
use crate::device::ops::Epilogue;
use crate::error::{Error, Result};
use crate::model::{Model, Param};

/// Numbers of a piece `[rows, V]`, at most, unless one row has more.
const CELLS: usize = 1 << 24;

/// The token table as a weight, both ways.
pub struct Vocabulary<O: GradientOps> {
    /// Rows V.
    size: usize,
    /// Width E.
    width: usize,
    /// `scale * table`, `[V, E]`.
    vectors: Vec<f32>,
    /// Length of each row.
    lengths: Vec<f64>,
    /// Tokens that texts may be made of, ascending.
    allowed: Vec<u32>,
    /// `[V, E]`.
    table: O::Matrix,
    /// `[E, V]`.
    transposed: O::Matrix,
    /// Rows of a piece.
    room: usize,
    narrow: O::Tensor,
    wide: O::Tensor,
}

impl<O: GradientOps> Vocabulary<O> {
    /// Uploads the table; `allowed` are the tokens that texts may be made of, ascending.
    pub fn new(ops: &O, model: &Model, allowed: Vec<u32>) -> Result<Self> {
        let (size, width) = (model.spec.vocab, model.spec.embedding.width);
        if allowed.last().is_none_or(|&last| last as usize >= size) {
            let what = format!("no tokens to choose from, or some beyond the table of {size} rows");
            return Err(Error::input("tokenizer.json", what, "use the tokenizer of this model"));
        }
        let mut vectors = model.tensor(Param::Tokens)?.data;
        vectors.par_iter_mut().for_each(|x| *x *= model.spec.embedding.scale);
        let length = |row: &[f32]| row.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt();
        let lengths = vectors.par_chunks_exact(width).map(length).collect();
        let table = ops.matrix(size, vectors.clone(), None)?;
        let transposed = ops.transposed(&table)?;
        let room = (CELLS / size).max(1);
        let (narrow, wide) = (ops.tensor(room, width)?, ops.tensor(room, size)?);
        Ok(Self { size, width, vectors, lengths, allowed, table, transposed, room, narrow, wide })
    }

    /// Tokens V of the table.
    pub fn size(&self) -> usize {
        self.size
    }

    /// Tokens that texts may be made of.
    pub fn allowed(&self) -> &[u32] {
        &self.allowed
    }

    /// The vector of a token, `[E]`.
    pub fn vector(&self, token: u32) -> &[f32] {
        &self.vectors[token as usize * self.width..][..self.width]
    }

    /// The vectors of tokens, `[R, E]`.
    pub fn vectors(&self, tokens: &[u32]) -> Vec<f32> {
        tokens.iter().flat_map(|&token| self.vector(token)).copied().collect()
    }

    /// The root mean square of the table's numbers.
    pub fn scale(&self) -> f32 {
        let sum: f64 = self.lengths.iter().map(|length| length * length).sum();
        #[expect(clippy::cast_possible_truncation, reason = "a scale of f32 numbers")]
        {
            (sum / self.vectors.len().max(1) as f64).sqrt() as f32
        }
    }

    /// Mixtures `[R, E]` by weights `[R, V]`.
    pub fn mix(&mut self, ops: &O, weights: &[f32]) -> Result<Vec<f32>> {
        let (mut all, mut part) = (Vec::new(), Vec::new());
        for piece in weights.chunks(self.room * self.size) {
            let rows = piece.len() / self.size;
            ops.set_rows(&mut self.wide, rows);
            ops.set_rows(&mut self.narrow, rows);
            ops.write(&mut self.wide, piece)?;
            ops.linear(&self.transposed, &self.wide, Epilogue::Store, &mut self.narrow);
            ops.read(&self.narrow, &mut part)?;
            all.extend_from_slice(&part);
        }
        Ok(all)
    }

    /// Products of directions `[R, E]` with all tokens, a piece `[r, V]` at a time: `each` gets its
    /// first row and the products.
    pub fn products(
        &mut self,
        ops: &O,
        directions: &[f32],
        mut each: impl FnMut(usize, &[f32]),
    ) -> Result<()> {
        let mut part = Vec::new();
        for (at, piece) in directions.chunks(self.room * self.width).enumerate() {
            let rows = piece.len() / self.width;
            ops.set_rows(&mut self.narrow, rows);
            ops.set_rows(&mut self.wide, rows);
            ops.write(&mut self.narrow, piece)?;
            ops.linear(&self.table, &self.narrow, Epilogue::Store, &mut self.wide);
            ops.read(&self.wide, &mut part)?;
            each(at * self.room, &part);
        }
        Ok(())
    }

    /// The `count` allowed tokens nearest to each vector `[R, E]` by cosine, nearest first; of equal
    /// ones the lower id.
    pub fn nearest(
        &mut self,
        ops: &O,
        vectors: &[f32],
        count: usize,
    ) -> Result<Vec<Vec<(u32, f64)>>> {
        let (width, size) = (self.width, self.size);
        let (lengths, allowed) = (self.lengths.clone(), self.allowed.clone());
        let mut found = Vec::with_capacity(vectors.len() / width.max(1));
        self.products(ops, vectors, |first, products| {
            let of_row = |(r, products): (usize, &[f32])| {
                let vector = &vectors[(first + r) * width..][..width];
                let length = vector.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt();
                let cosine = |token: u32| {
                    let both = length * lengths[token as usize];
                    if both > 0.0 { f64::from(products[token as usize]) / both } else { 0.0 }
                };
                largest(&allowed, count, cosine)
            };
            found.par_extend(products.par_chunks_exact(size).enumerate().map(of_row));
        })?;
        Ok(found)
    }
}

/// The `count` tokens with the largest numbers, largest first; of equal ones the lower id. What is
/// not a number comes last.
pub(super) fn largest(
    tokens: &[u32],
    count: usize,
    number: impl Fn(u32) -> f64,
) -> Vec<(u32, f64)> {
    let key = |token: u32| {
        let number = number(token);
        if number.is_nan() { f64::NEG_INFINITY } else { number }
    };
    let mut all: Vec<(u32, f64)> = tokens.iter().map(|&token| (token, key(token))).collect();
    let order = |a: &(u32, f64), b: &(u32, f64)| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0));
    if count < all.len() {
        all.select_nth_unstable_by(count, order);
        all.truncate(count);
    }
    all.sort_unstable_by(order);
    all
}
