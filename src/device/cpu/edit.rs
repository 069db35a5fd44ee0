//! edit: writes into chosen columns of chosen tokens.

use std::cmp::Reverse;

use super::buffer::Tensor;
use crate::device::edit::{Edit, Write};

/// See [`Edit`].
pub(super) fn edit(edit: &Edit, x: &mut Tensor) {
    let columns = Columns::of(edit, x.cols());
    over_rows(edit, x, |place, row| match &edit.write {
        Write::Set(values) => columns.each(row, |i, x| *x = one_of(values, i)),
        Write::Add(values) => columns.each(row, |i, x| *x += one_of(values, i)),
        Write::Scale(factor) => columns.each(row, |_, x| *x *= factor),
        Write::Rows(values) => {
            let values = &values[place * columns.len()..][..columns.len()];
            columns.each(row, |i, x| *x = values[i]);
        }
        Write::Project(direction) => project(direction, &columns, row),
        Write::Blend { gates, towards } => {
            columns.each(row, |i, x| *x = blend(one_of(gates, i), *x, one_of(towards, i)));
        }
        Write::Clamp { low, high } => {
            columns.each(row, |i, x| *x = clamp(*x, one_of(low, i), one_of(high, i)));
        }
        Write::KeepTop(keep) => keep_top(*keep, &columns, row),
    });
}

/// `g = 0` where the edit writes and `y` is 0, or at a bound.
pub(super) fn edit_mask(edit: &Edit, y: &Tensor, g: &mut Tensor) {
    let cols = g.cols();
    let columns = Columns::of(edit, cols);
    assert_eq!((y.rows(), y.cols()), (g.rows(), cols));
    over_rows(edit, g, |place, g| {
        let token = edit.tokens.as_ref().map_or(place, |tokens| tokens[place] as usize);
        let y = &y.values()[token * cols..][..cols];
        let wrote = |i: usize, y: f32| match &edit.write {
            Write::Clamp { low, high } => y <= one_of(low, i) || y >= one_of(high, i),
            _ => y == 0.0,
        };
        columns.each(g, |i, g| *g = if wrote(i, y[columns.at(i)]) { 0.0 } else { *g });
    });
}

/// Runs `f` on every row that is written, with its place among them.
fn over_rows(edit: &Edit, x: &mut Tensor, f: impl Fn(usize, &mut [f32]) + Sync) {
    let cols = x.cols();
    let Some(tokens) = &edit.tokens else {
        return x.par_rows(|first, rows| {
            rows.chunks_exact_mut(cols).enumerate().for_each(|(i, row)| f(first + i, row));
        });
    };
    for (place, &token) in tokens.iter().enumerate() {
        f(place, &mut x.values_mut()[token as usize * cols..][..cols]);
    }
}

/// The columns that are written, in the order of their values.
enum Columns<'a> {
    Listed(&'a [u32]),
    All(usize),
}

impl<'a> Columns<'a> {
    fn of(edit: &'a Edit, cols: usize) -> Self {
        edit.columns.as_deref().map_or(Self::All(cols), Self::Listed)
    }

    fn len(&self) -> usize {
        match self {
            Self::Listed(list) => list.len(),
            Self::All(cols) => *cols,
        }
    }

    fn at(&self, i: usize) -> usize {
        match self {
            Self::Listed(list) => list[i] as usize,
            Self::All(_) => i,
        }
    }

    fn each(&self, row: &mut [f32], mut f: impl FnMut(usize, &mut f32)) {
        match self {
            Self::All(_) => row.iter_mut().enumerate().for_each(|(i, x)| f(i, x)),
            Self::Listed(list) => {
                for (i, &column) in list.iter().enumerate() {
                    f(i, &mut row[column as usize]);
                }
            }
        }
    }
}

fn one_of(values: &[f32], i: usize) -> f32 {
    values[i % values.len()]
}

/// What is rounded to f32 differs from the other device's by less than their sums of f64 do.
#[expect(clippy::cast_possible_truncation, reason = "activations are f32")]
fn project(direction: &[f32], columns: &Columns<'_>, row: &mut [f32]) {
    let mut dot = 0.0;
    for (i, &u) in direction.iter().enumerate().filter(|(_, u)| **u != 0.0) {
        dot += f64::from(row[columns.at(i)]) * f64::from(u);
    }
    for (i, &u) in direction.iter().enumerate().filter(|(_, u)| **u != 0.0) {
        let x = &mut row[columns.at(i)];
        *x = (f64::from(*x) - dot * f64::from(u)) as f32;
    }
}

/// z x + (1 - z) b; a gate that is open or closed gives the bits of x or b.
#[expect(clippy::cast_possible_truncation, reason = "activations are f32")]
fn blend(z: f32, x: f32, b: f32) -> f32 {
    let gate = f64::from(z);
    match z {
        1.0 => x,
        0.0 => b,
        _ => (gate * f64::from(x) + (1.0 - gate) * f64::from(b)) as f32,
    }
}

/// By comparisons, which leave NaN as it is.
fn clamp(x: f32, low: f32, high: f32) -> f32 {
    if x < low {
        low
    } else if x > high {
        high
    } else {
        x
    }
}

fn keep_top(keep: usize, columns: &Columns<'_>, row: &mut [f32]) {
    if keep >= columns.len() {
        return;
    }
    let mut places: Vec<usize> = (0..columns.len()).map(|i| columns.at(i)).collect();
    if keep > 0 {
        let rank = |&column: &usize| (Reverse(row[column].abs().to_bits()), column);
        places.select_nth_unstable_by_key(keep - 1, rank);
    }
    for &column in &places[keep..] {
        row[column] = 0.0;
    }
}
