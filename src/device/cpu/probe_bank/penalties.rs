//! What heads add to their losses, and the gradients of it.

use super::super::dispatch::multiversion;
use super::WIDEST;
use super::unit::Shape;
use crate::device::probe_ops::Head;
use crate::device::probe_units::Place;

/// Penalties by column of a unit.
#[derive(Debug)]
pub(super) struct Penalties {
    pub(super) shape: Shape,
    heads: Vec<Head>,
    /// Number of each column's head within the unit; padding columns have none.
    owners: Vec<Option<usize>>,
}

impl Penalties {
    pub(super) fn new(shape: Shape, places: &[Place], heads: Vec<Head>) -> Self {
        let mut owners = vec![None; shape.panels * shape.width];
        for (h, place) in places.iter().enumerate() {
            owners[place.first..][..place.columns].fill(Some(h));
        }
        Self { shape, heads, owners }
    }

    pub(super) fn heads(&self) -> &[Head] {
        &self.heads
    }

    /// Number of each column's head within the unit; padding columns have none.
    pub(super) fn owners(&self) -> &[Option<usize>] {
        &self.owners
    }

    /// A number of each column from its head; 0 for padding.
    pub(super) fn by_column(&self, of: impl Fn(&Head) -> f32) -> Vec<f32> {
        self.owners.iter().map(|owner| owner.map_or(0.0, |h| of(&self.heads[h]))).collect()
    }

    /// What a weight is multiplied with to give the gradient of the second penalty, by column: 2 l2; or
    /// l2 / |W|, and 0 where W is.
    pub(super) fn shrinking(&self, weights: &[f32]) -> Vec<f32> {
        let normed = self.heads.iter().any(|head| head.norm && head.l2 > 0.0);
        let squares = if normed { self.squares(weights) } else { vec![0.0; self.heads.len()] };
        #[expect(clippy::cast_possible_truncation, reason = "it multiplies f32 weights")]
        let of = |h: usize| match (&self.heads[h], squares[h] > 0.0) {
            (head, _) if !head.norm => 2.0 * head.l2,
            (head, true) => (f64::from(head.l2) / squares[h].sqrt()) as f32,
            (_, false) => 0.0,
        };
        self.owners.iter().map(|owner| owner.map_or(0.0, of)).collect()
    }

    /// The squared norm of each head's weights, without biases: f64 by column, then over columns.
    fn squares(&self, weights: &[f32]) -> Vec<f64> {
        let Shape { steps, width, .. } = self.shape;
        let mut out = vec![0.0; self.heads.len()];
        let panels = weights.chunks_exact(steps * width);
        for (panel, owners) in panels.zip(self.owners.chunks_exact(width)) {
            let mut columns = [0.0_f64; WIDEST];
            add_squares(&panel[..(steps - 1) * width], &mut columns[..width]);
            for (owner, square) in owners.iter().zip(columns) {
                if let Some(h) = owner {
                    out[*h] += square;
                }
            }
        }
        out
    }
}

multiversion! {
    /// Adds the squares of rows to their columns.
    fn add_squares(rows: &[f32], columns: &mut [f64]) {
        for row in rows.chunks_exact(columns.len()) {
            for (sum, w) in columns.iter_mut().zip(row) {
                *sum += f64::from(*w) * f64::from(*w);
            }
        }
    }
}
