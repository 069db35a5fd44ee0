//! The passes that one measure after the other makes, each in pieces; and what the next one looks at.

use super::Measured;
use crate::accumulate::tally::Tally;
use crate::corpus::batch::Batch;
use crate::device::gradient_ops::GradientOps;
use crate::engine::fleet::{Device, Fleet};
use crate::engine::pass::BlockWork;
use crate::engine::share::Underway;
use crate::error::Result;
use crate::run::pieces::Pieces;
use crate::stimulate::sparsity::curve::{Curve, Point};
use crate::stimulate::sparsity::perplexity::{Cut, Means, Probe, Pruned, bisect};
use crate::stimulate::sparsity::tallies::{self, Measure};
use crate::stimulate::sparsity::{Firing, Sparsity};

/// Passes that narrow thresholds down, after the first.
const REFINEMENTS: u32 = 2;
/// Passes for one strength that bring every layer's CETT near it, at most.
const NEARER: u32 = 8;

/// A model and its tokens. A batch is a piece, kept with those before it.
pub(super) struct Passes<'a, O: GradientOps> {
    pub(super) fleet: Fleet<'a, O, Sparsity<O>>,
    /// Layers of the model, and neurons of each.
    pub(super) shape: (usize, usize),
    pub(super) batches: &'a [Batch],
    pub(super) pieces: &'a Pieces<'a>,
    pub(super) told: &'a mut dyn FnMut(u64, f64),
    /// Passes that are done, and about how many there will be.
    pub(super) passes: (u32, u32),
    /// Tokens of the batches of those passes, of earlier attempts too.
    pub(super) tokens: u64,
}

/// One measure of every batch.
struct Measuring<'a> {
    batches: &'a [Batch],
    measure: &'a Measure<'a>,
}

impl<O: GradientOps> BlockWork<Sparsity<O>> for Measuring<'_> {
    type Block = u32;
    type State = Tally;

    fn blocks(&self) -> u32 {
        u32::try_from(self.batches.len()).expect("batches are few")
    }

    fn index(&self, batch: &u32) -> u32 {
        *batch
    }

    fn run(&self, on: &mut Sparsity<O>, batch: &u32, underway: &Underway<'_>) -> Result<Tally> {
        underway.go_on()?;
        on.tally(&self.batches[*batch as usize..][..1], self.measure)
    }
}

impl<O: Device + GradientOps> Passes<'_, O> {
    fn pass(&mut self, measure: &Measure<'_>) -> Result<Tally> {
        let Self { fleet, shape, batches, told, passes: (done, all), tokens, .. } = self;
        let name = format!("{done:03}-{}", measure.name());
        let identity = format!("{measure:?}");
        let work = Measuring { batches, measure };
        let before = *tokens;
        let tally = self.pieces.each(
            (&name, identity.as_bytes()),
            measure.plan(*shape),
            (fleet, &work),
            |progress| {
                let share = f64::from(*done) + progress.blocks / batches.len() as f64;
                told(before + progress.tokens, (share / f64::from(*all)).min(1.0));
            },
        )?;
        *tokens += tally.counts.tokens;
        *done += 1;
        Ok(tally)
    }

    /// What fires at a threshold, by layer.
    pub(super) fn firing(&mut self, eps: f32) -> Result<Vec<Firing>> {
        let tally = self.pass(&Measure::Firing(eps))?;
        Ok(tallies::firing(&tally, self.shape))
    }

    /// Adds points at thresholds to the curves; without a threshold there is nothing to do.
    fn add(&mut self, curves: &mut [Curve], thresholds: &[Vec<f32>]) -> Result<()> {
        if thresholds.iter().all(Vec::is_empty) {
            return Ok(());
        }
        let tally = self.pass(&Measure::Cett(thresholds))?;
        let points = tallies::points(&tally, thresholds, self.shape.1);
        curves.iter_mut().zip(points).for_each(|(curve, points)| curve.add(points));
        Ok(())
    }

    fn pruned(&mut self, cut: &Cut) -> Result<Pruned> {
        let tally = self.pass(&Measure::Pruned(cut))?;
        tallies::pruned(&tally, self.shape.1)
    }

    /// CETT by threshold, of every layer: J thresholds over the whole range, then as many around each
    /// share asked for, twice.
    pub(super) fn curves(
        &mut self,
        firing: &[Firing],
        (shares, count): (&[f64], u32),
    ) -> Result<Vec<Curve>> {
        let first = firing.iter().map(|layer| Curve::range(layer.largest, count));
        let mut curves = vec![Curve::default(); firing.len()];
        self.add(&mut curves, &first.collect::<Vec<_>>())?;
        for _ in 0..REFINEMENTS {
            let of = |curve: &Curve| {
                shares.iter().flat_map(|&c| curve.between(c, count)).collect::<Vec<f32>>()
            };
            let thresholds: Vec<Vec<f32>> = curves.iter().map(of).collect();
            self.add(&mut curves, &thresholds)?;
        }
        Ok(curves)
    }

    /// Measures more of each curve until its points around a share are near enough.
    fn look_nearer(&mut self, curves: &mut [Curve], share: f64, tolerance: f64) -> Result<()> {
        for _ in 0..NEARER {
            let thresholds: Vec<Vec<f32>> =
                curves.iter().map(|curve| curve.nearer(share, tolerance)).collect();
            if thresholds.iter().all(Vec::is_empty) {
                break;
            }
            self.add(curves, &thresholds)?;
        }
        Ok(())
    }

    /// The most that each means can cut within the perplexity allowed (PPL-p%, Luo et al. 2024):
    /// strengths are bisected to the tolerance, and thresholds are those whose CETT was measured.
    pub(super) fn search(
        &mut self,
        curves: &mut [Curve],
        (allowed, tolerance): (f64, f64),
        measured: &mut Measured,
    ) -> Result<()> {
        let neurons = self.shape.1;
        let dense = self.pruned(&Cut::Nothing)?;
        let most = (1.0 + allowed) * dense.perplexity;
        measured.row_of_dense(&dense);
        let largest = measured.firing.iter().map(|layer| layer.largest_value).fold(0.0, f32::max);
        for means in Means::ALL {
            // Nothing is cut at c = 0, which is within whatever is allowed.
            let start = Cut::Tail(vec![0.0; curves.len()]);
            let mut known = vec![(start.clone(), dense.clone())];
            let mut tried = bisect(tolerance, |strength| {
                if means == Means::Cett {
                    self.look_nearer(curves, strength, tolerance)?;
                }
                let (cut, parameter) = means.cut(strength, curves, (neurons, largest));
                let again = known.iter().find(|(other, _)| *other == cut);
                let pruned = match again.map(|(_, pruned)| pruned.clone()) {
                    Some(pruned) => pruned,
                    None => self.pruned(&cut)?,
                };
                known.push((cut.clone(), pruned.clone()));
                let within = pruned.perplexity <= most;
                Ok(Probe { means, parameter, cut, pruned, within })
            })?;
            // Neighbouring strengths may keep the same k.
            let mut told = Vec::new();
            tried.retain(|probe| {
                let new = !told.contains(&probe.parameter);
                told.push(probe.parameter);
                new
            });
            measured.rows_of_probes(means, &tried, dense.perplexity);
            if means == Means::Cett {
                let none = Probe {
                    means,
                    parameter: 0.0,
                    cut: start,
                    pruned: dense.clone(),
                    within: true,
                };
                let best = tried.iter().rfind(|probe| probe.within).unwrap_or(&none);
                measured.rows_of_ppl(best, curves);
            }
        }
        Ok(())
    }
}

/// About how many passes there are.
pub(super) fn about(tolerance: Option<f64>) -> u32 {
    let probes = tolerance.map_or(0, |tolerance| {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "at most 30")]
        {
            (1.0 / tolerance).log2().ceil() as u32
        }
    });
    // A pass for what fires, one more in three for a curve that is looked at more nearly.
    2 + REFINEMENTS + u32::from(probes > 0) + 4 * probes
}

/// The point of each curve at a share.
pub(super) fn points_at(curves: &[Curve], share: f64) -> Vec<Point> {
    curves.iter().map(|curve| curve.around(share).0).collect()
}
