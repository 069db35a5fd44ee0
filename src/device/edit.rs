//! What is written into a site, and what that does to a gradient on its way back.

use std::ops::Range;

use crate::error::{Error, Result};

/// One change to a site: what is written into which columns of which tokens.
#[derive(Clone, Debug, PartialEq)]
pub struct Edit {
    /// Columns, or none for all.
    pub columns: Option<Vec<u32>>,
    /// Tokens of the batch (sequences, at a site with a row for each), or none for all.
    pub tokens: Option<Vec<u32>>,
    /// What is written.
    pub write: Write,
}

/// See [`Edit::write`]. What is listed twice is written twice, in order.
#[derive(Clone, Debug, PartialEq)]
pub enum Write {
    /// x = value; one per column listed, or one for all.
    Set(Vec<f32>),
    /// x = factor * x.
    Scale(f32),
    /// x = x + value; one per column listed, or one for all.
    Add(Vec<f32>),
    /// x = value; one for each token listed and each column listed, row-major.
    Rows(Vec<f32>),
    /// x = x - (x . u) u over the columns listed, none twice: u is a number for each and has
    /// length 1. Summed in f64. A column where u is 0 is neither read nor written.
    Project(Vec<f32>),
    /// x = z x + (1 - z) b, in f64: gates z from 0 to 1 and values b, one per column listed, or one
    /// for all. A gate of 1 leaves x as it is, one of 0 gives b.
    Blend {
        /// z.
        gates: Vec<f32>,
        /// b.
        towards: Vec<f32>,
    },
    /// x = low where it is below, high where it is above; NaN stays. One of each per column listed, or one
    /// for all; -inf and inf are no bounds.
    Clamp {
        /// Lower bounds.
        low: Vec<f32>,
        /// Upper bounds, none below its lower bound.
        high: Vec<f32>,
    },
    /// x = 0 but for so many entries of each token: those of the largest |x| among the columns
    /// listed, none twice. Of equal ones the lower column stays; NaN is the largest.
    KeepTop(usize),
}

impl Write {
    /// What takes a direction out, or none if it has no length.
    pub fn project(direction: &[f32]) -> Option<Self> {
        let length = direction.iter().map(|&u| f64::from(u).powi(2)).sum::<f64>().sqrt();
        #[expect(clippy::cast_possible_truncation, reason = "weights are f32")]
        let unit = |&u: &f32| (f64::from(u) / length) as f32;
        let there = length.is_finite() && length > 0.0;
        there.then(|| Self::Project(direction.iter().map(unit).collect()))
    }
}

/// Whether no lower bound is above its upper bound; one stands for all. NaN is in no order.
pub(crate) fn in_order(low: &[f32], high: &[f32]) -> bool {
    let count = low.len().max(high.len());
    (0..count).all(|at| low[at % low.len()] <= high[at % high.len()])
}

/// What an edit does to a gradient on its way back.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum EditGradient {
    /// Nothing.
    Same,
    /// This is written into it.
    Write(Edit),
    /// It is 0 where the edit may have written what stands there: 0, or a bound
    /// ([`Ops::edit_mask`](super::ops::Ops::edit_mask)).
    Mask,
}

impl Edit {
    /// Everything there is becomes 0.
    pub fn zero() -> Self {
        Self { columns: None, tokens: None, write: Write::Set(vec![0.0]) }
    }

    /// See [`EditGradient`].
    pub(super) fn gradient(&self) -> EditGradient {
        let write = match &self.write {
            Write::Add(_) => return EditGradient::Same,
            Write::KeepTop(_) | Write::Clamp { .. } => return EditGradient::Mask,
            Write::Set(_) | Write::Rows(_) => Write::Set(vec![0.0]),
            Write::Scale(factor) => Write::Scale(*factor),
            Write::Project(direction) => Write::Project(direction.clone()),
            Write::Blend { gates, .. } => Write::Blend { gates: gates.clone(), towards: vec![0.0] },
        };
        EditGradient::Write(Self { write, ..self.clone_place() })
    }

    fn clone_place(&self) -> Self {
        let (columns, tokens) = (self.columns.clone(), self.tokens.clone());
        Self { columns, tokens, ..Self::zero() }
    }

    /// The part that concerns these tokens of a batch, counted from the first of them; none if
    /// nothing is left. `columns` is the width of the site.
    pub fn within(&self, range: Range<usize>, columns: usize) -> Option<Self> {
        let index = |n: usize| u32::try_from(n).expect("a batch has fewer than 2^32 tokens");
        let width = self.columns.as_ref().map_or(columns, Vec::len);
        let places: Vec<usize> = match &self.tokens {
            None => range.clone().collect(),
            Some(tokens) => {
                let here = |place: &usize| range.contains(&(tokens[*place] as usize));
                (0..tokens.len()).filter(here).collect()
            }
        };
        let shift = |&place: &usize| {
            let token = self.tokens.as_ref().map_or(place, |tokens| tokens[place] as usize);
            index(token - range.start)
        };
        let write = match &self.write {
            Write::Rows(values) => {
                let row = |&place: &usize| &values[place * width..][..width];
                Write::Rows(places.iter().flat_map(row).copied().collect())
            }
            other => other.clone(),
        };
        let tokens = self.tokens.as_ref().map(|_| places.iter().map(shift).collect());
        (!places.is_empty()).then(|| Self { columns: self.columns.clone(), tokens, write })
    }

    /// Refuses what does not fit a site of so many rows and columns. Devices take no edit that was
    /// not checked.
    pub fn check(&self, place: &str, (rows, width): (usize, usize)) -> Result<()> {
        let refuse = |what: String, remedy: String| Err(Error::config(place, what, remedy));
        let beyond = |list: &Option<Vec<u32>>, end: usize| {
            list.iter().flatten().find(|&&one| one as usize >= end).copied()
        };
        if let Some(column) = beyond(&self.columns, width) {
            let remedy = format!("columns are 0 to {}", width - 1);
            return refuse(format!("column {column} is out of range"), remedy);
        }
        if let Some(token) = beyond(&self.tokens, rows) {
            return refuse(format!("token {token} is out of range"), format!("there are {rows}"));
        }
        let columns = self.columns.as_ref().map_or(width, Vec::len);
        let tokens = self.tokens.as_ref().map_or(rows, Vec::len);
        let one_or_each = |values: &[f32]| values.len() == 1 || values.len() == columns;
        let (fits, found) = match &self.write {
            Write::Set(values) | Write::Add(values) => (one_or_each(values), values.len()),
            Write::Rows(values) => (values.len() == tokens * columns, values.len()),
            Write::Project(direction) => (direction.len() == columns, direction.len()),
            Write::Blend { gates, towards } => {
                (one_or_each(gates) && one_or_each(towards), gates.len().max(towards.len()))
            }
            Write::Clamp { low, high } => {
                (one_or_each(low) && one_or_each(high), low.len().max(high.len()))
            }
            Write::Scale(_) | Write::KeepTop(_) => (true, 0),
        };
        if !fits {
            let what = format!("{found} values for {columns} columns of {tokens} tokens");
            return refuse(what, "give one for each that is written".into());
        }
        if let Write::Clamp { low, high } = &self.write
            && !in_order(low, high)
        {
            let remedy = "give a lower bound that is at most the upper one";
            return refuse("bounds of a clamp are crossed, or no numbers".into(), remedy.into());
        }
        if matches!(self.write, Write::Project(_) | Write::KeepTop(_)) {
            let mut sorted = self.columns.clone().unwrap_or_default();
            sorted.sort_unstable();
            if let Some(pair) = sorted.windows(2).find(|pair| pair[0] == pair[1]) {
                return refuse(format!("column {} twice", pair[0]), "list it once".into());
            }
        }
        Ok(())
    }
}
