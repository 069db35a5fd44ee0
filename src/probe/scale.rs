//! Columns brought to mean 0 and standard deviation 1, so that weights of a probe can be compared and
//! solvers find their way: means and deviations are those of the training rows.

use std::collections::BTreeMap;
use std::ops::Range;

use rayon::prelude::*;

use super::source::{Source, Take};
use crate::device::moment_ops::MomentOps;
use crate::error::Result;

/// Columns that a thread takes at once.
const COLUMNS: usize = 64;

/// What becomes of each column of a site: (x - shift) * scale.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Scale {
    /// Means.
    pub shift: Vec<f32>,
    /// One over the standard deviation; 0 for constant columns.
    pub scale: Vec<f32>,
}

/// Sums of a site's training rows, each column by itself and row after row, so that the bits do not
/// depend on how rows come.
#[derive(Default)]
struct Sums {
    /// The first row: sums are of differences from it, so that they do not cancel.
    first: Vec<f32>,
    sums: Vec<[f64; 2]>,
    rows: u64,
}

impl Sums {
    fn add(&mut self, values: &[f32], rows: &[bool]) {
        let width = values.len() / rows.len();
        let chosen: Vec<&[f32]> = values
            .chunks_exact(width)
            .zip(rows)
            .filter_map(|(row, wanted)| wanted.then_some(row))
            .collect();
        let Some(first) = chosen.first() else { return };
        if self.rows == 0 {
            self.first = first.to_vec();
            self.sums = vec![[0.0; 2]; width];
        }
        self.rows += chosen.len() as u64;
        let first = &self.first;
        self.sums.par_chunks_mut(COLUMNS).enumerate().for_each(|(chunk, sums)| {
            let at = chunk * COLUMNS;
            for row in &chosen {
                for ((sum, x), first) in sums.iter_mut().zip(&row[at..]).zip(&first[at..]) {
                    let x = f64::from(*x) - f64::from(*first);
                    sum[0] += x;
                    sum[1] += x * x;
                }
            }
        });
    }

    fn scale(&self) -> Scale {
        let n = self.rows.max(1) as f64;
        let mut own = Scale::default();
        for (&[sum, squares], &first) in self.sums.iter().zip(&self.first) {
            let mean = sum / n;
            let variance = (squares / n - mean * mean).max(0.0);
            let whole = mean + f64::from(first);
            let constant = variance <= 1e-12 * whole * whole.max(1.0);
            #[expect(clippy::cast_possible_truncation, reason = "moments of f32 values")]
            let (shift, scale) =
                (whole as f32, if constant { 0.0 } else { (1.0 / variance.sqrt()) as f32 });
            own.shift.push(shift);
            own.scale.push(scale);
        }
        own
    }
}

/// Means and deviations of these sites over the rows that are wanted, by the site's number.
pub fn scales<O: MomentOps>(
    source: &mut dyn Source<O>,
    sites: &[usize],
    wanted: &[bool],
) -> Result<BTreeMap<usize, Scale>> {
    let mut sums: BTreeMap<usize, Sums> =
        sites.iter().map(|site| (*site, Sums::default())).collect();
    let mut values = Vec::new();
    source.each(sites, &mut |ops, site, x, at: Range<usize>| {
        ops.read(x, &mut values)?;
        sums.get_mut(&site).expect("asked for").add(&values, &wanted[at]);
        Ok(())
    })?;
    Ok(sums.into_iter().map(|(site, sums)| (site, sums.scale())).collect())
}

/// A source whose columns are scaled: once where it keeps what is written, else at each pass.
pub struct Scaled<'a, O: MomentOps> {
    inner: &'a mut dyn Source<O>,
    vectors: BTreeMap<usize, (O::Vector, O::Vector)>,
    /// Nothing is left to be done.
    done: bool,
}

impl<'a, O: MomentOps> Scaled<'a, O> {
    /// Nothing is scaled without scales; with some, each site that is asked for has one.
    pub fn new(inner: &'a mut dyn Source<O>, scales: &BTreeMap<usize, Scale>) -> Result<Self> {
        let ops = inner.ops();
        let mut vectors = BTreeMap::new();
        for (site, scale) in scales {
            let both = (ops.vector(scale.shift.clone())?, ops.vector(scale.scale.clone())?);
            vectors.insert(*site, both);
        }
        let mut own = Self { inner, vectors, done: scales.is_empty() };
        if own.inner.keeps() && !own.done {
            let all: Vec<usize> = scales.keys().copied().collect();
            own.each(&all, &mut |_, _, _, _| Ok(()))?;
            own.done = true;
        }
        Ok(own)
    }
}

impl<O: MomentOps> Source<O> for Scaled<'_, O> {
    fn ops(&self) -> &O {
        self.inner.ops()
    }

    fn together(&self, sites: usize) -> Vec<Vec<usize>> {
        self.inner.together(sites)
    }

    fn keeps(&self) -> bool {
        self.inner.keeps()
    }

    fn each(&mut self, sites: &[usize], take: Take<'_, O>) -> Result<()> {
        if self.done {
            return self.inner.each(sites, take);
        }
        let vectors = &self.vectors;
        self.inner.each(sites, &mut |ops, site, x, at| {
            let (shift, scale) = &vectors[&site];
            ops.rescale(shift, scale, x);
            take(ops, site, x, at)
        })
    }
}
