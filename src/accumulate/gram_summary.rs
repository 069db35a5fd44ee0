//! What is read out of second moments: means, scatters, covariances and correlations, of all rows and of
//! those of a class, as row-major matrices in f64.

use std::sync::Arc;

use super::gram::{GramPlan, GramState};
use crate::corpus::block::Counts;
use crate::id::Site;

/// A column is constant if its variance is at most this times the larger of 1 and its squared mean.
const CONSTANT: f64 = 1e-12;

/// Which rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// All of them.
    All,
    /// Those of a label group of the plan.
    Group(u32),
    /// Those of none of the plan's groups.
    Other,
}

/// The finished moments.
#[derive(Clone, Debug, PartialEq)]
pub struct GramSummary {
    state: GramState,
}

/// Moments of a pair in some rows: sums of x - shift, of z - shift, and of their products.
struct Moments {
    rows: f64,
    left: Vec<f64>,
    right: Vec<f64>,
    /// `[left, right]`.
    products: Vec<f64>,
}

impl GramSummary {
    pub(super) fn new(state: GramState) -> Self {
        Self { state }
    }

    /// What was collected.
    pub fn plan(&self) -> &Arc<GramPlan> {
        &self.state.plan
    }

    /// What was read and what was lost.
    pub fn counts(&self) -> Counts {
        self.state.counts
    }

    /// Number of rows; none if the plan has no such class.
    pub fn rows(&self, class: Class) -> Option<u64> {
        Some(self.places(class)?.map(|place| self.state.rows[place]).sum())
    }

    /// Means of a site's columns, `[N]`; the shifts where there is no row. None if the plan has no such site
    /// or class.
    pub fn means(&self, site: Site, class: Class) -> Option<Vec<f64>> {
        let (place, rows) = (self.state.plan.place(site)?, self.rows(class)? as f64);
        let sums = self.add_up(&self.state.sums[place], class)?;
        let shift = &self.state.plan.sites()[place].shift;
        Some(sums.iter().zip(shift).map(|(sum, s)| f64::from(*s) + sum / rows.max(1.0)).collect())
    }

    /// Centred scatter of two sites, `sum (x - mean x)(z - mean z)^T`, `[left, right]`; 0 where there is no
    /// row. None if the plan has no such pair (in either order) or class.
    pub fn scatter(&self, left: Site, right: Site, class: Class) -> Option<Vec<f64>> {
        let Moments { rows, left: x, right: z, mut products } = self.moments(left, right, class)?;
        if rows > 0.0 {
            for (of_row, x) in products.chunks_mut(z.len()).zip(&x) {
                of_row.iter_mut().zip(&z).for_each(|(sum, z)| *sum -= x * z / rows);
            }
        }
        if left == right {
            // A constant column's rounding may fall below 0.
            let diagonal = products.iter_mut().step_by(x.len() + 1);
            diagonal.for_each(|square| *square = square.max(0.0));
        }
        Some(products)
    }

    /// Population covariance (ddof 0) of two sites, `[left, right]`; as [`Self::scatter`].
    pub fn covariance(&self, left: Site, right: Site, class: Class) -> Option<Vec<f64>> {
        let rows = (self.rows(class)? as f64).max(1.0);
        let mut scatter = self.scatter(left, right, class)?;
        scatter.iter_mut().for_each(|sum| *sum /= rows);
        Some(scatter)
    }

    /// Pearson correlation of two sites, `[left, right]`: 0 where a column is constant, but 1 on the diagonal
    /// of a site with itself; as [`Self::scatter`].
    pub fn correlation(&self, left: Site, right: Site, class: Class) -> Option<Vec<f64>> {
        let mut values = self.scatter(left, right, class)?;
        let [x, z] = [self.spreads(left, class)?, self.spreads(right, class)?];
        for (row, x) in values.chunks_mut(z.len()).zip(&x) {
            for (value, z) in row.iter_mut().zip(&z) {
                let constant = *x == 0.0 || *z == 0.0;
                *value = if constant { 0.0 } else { (*value / x / z).clamp(-1.0, 1.0) };
            }
        }
        if left == right {
            values.iter_mut().step_by(x.len() + 1).for_each(|own| *own = 1.0);
        }
        Some(values)
    }

    /// Which columns of a site are constant, `[N]`. None if the plan has no such site or class.
    pub fn constant(&self, site: Site, class: Class) -> Option<Vec<bool>> {
        Some(self.spreads(site, class)?.into_iter().map(|spread| spread == 0.0).collect())
    }

    /// The root of each column's scatter with itself; 0 of a constant one.
    fn spreads(&self, site: Site, class: Class) -> Option<Vec<f64>> {
        let (means, scatter) = (self.means(site, class)?, self.scatter(site, site, class)?);
        let rows = (self.rows(class)? as f64).max(1.0);
        let spread = |(square, mean): (&f64, &f64)| {
            let constant = square / rows <= CONSTANT * (mean * mean).max(1.0);
            if constant { 0.0 } else { square.sqrt() }
        };
        Some(scatter.iter().step_by(means.len() + 1).zip(&means).map(spread).collect())
    }

    fn moments(&self, left: Site, right: Site, class: Class) -> Option<Moments> {
        let plan = &self.state.plan;
        let (left, right) = (plan.place(left)?, plan.place(right)?);
        let (pair, turned) = plan.pair(left, right)?;
        let mut products = self.add_up(&self.state.products[pair], class)?;
        if turned {
            let (rows, columns) = plan.widths((left, right));
            let cells = (0..rows * columns).map(|at| products[at % columns * rows + at / columns]);
            products = cells.collect();
        }
        Some(Moments {
            rows: self.rows(class)? as f64,
            left: self.add_up(&self.state.sums[left], class)?,
            right: self.add_up(&self.state.sums[right], class)?,
            products,
        })
    }

    /// The classes that are meant, in order.
    fn places(&self, class: Class) -> Option<std::ops::Range<usize>> {
        let plan = &self.state.plan;
        Some(match class {
            Class::All => 0..plan.classes(),
            Class::Other => 0..1,
            Class::Group(group) => {
                let place = plan.groups().iter().position(|known| *known == group)? + 1;
                place..place + 1
            }
        })
    }

    /// The sum of an array over the classes that are meant.
    fn add_up(&self, classes: &[Vec<f64>], class: Class) -> Option<Vec<f64>> {
        let mut places = self.places(class)?;
        let mut all = classes[places.next()?].clone();
        for place in places {
            all.iter_mut().zip(&classes[place]).for_each(|(sum, more)| *sum += more);
        }
        Some(all)
    }
}
