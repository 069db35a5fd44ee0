//! Probes at their optimum: FISTA (Beck & Teboulle 2009) in step for all banks whose rows come together,
//! so that one pass over the rows serves them all.
//!
//! The step is one over the curvature of the loss: c λ(S) + 2 l2, S the second moments of a task's rows
//! with a 1 beside them for the bias; c is 1/2 for a softmax, 1/4 for a logistic and 2 for a squared
//! loss. λ of the rows with the 1 is at most that of the rows, plus 1.

use std::ops::Range;

use super::source::Source;
use super::split::Part;
use super::tasks::{Labelled, Shifted};
use super::train::{Labels, Work, pass};
use crate::device::moment_ops::MomentOps;
use crate::device::probe_ops::{Feed, ProbeLoss, ProbeOps};
use crate::error::Result;

/// Steps of the power iteration, and what is added to its result, which comes from below.
const POWER_STEPS: usize = 200;
const MARGIN: f64 = 1.02;

/// Moves every probe of these banks to its optimum.
pub(super) fn solve<O: ProbeOps + MomentOps>(
    source: &mut dyn Source<O>,
    work: &mut [Work<'_, O>],
    labels: Labels<'_>,
    (tolerance, iterations): (f64, u32),
) -> Result<()> {
    let rows = labels.part(Part::Train);
    let mut steps = steps(source, work, &rows)?;
    let mut first: Vec<Vec<f64>> = Vec::new();
    for one in work.iter_mut() {
        one.residuals = Some(vec![1.0; one.asked.probes.len()]);
    }
    for iteration in 0..iterations {
        pass(source, work, &rows, Feed::Gradient)?;
        let mut open = false;
        for (place, one) in work.iter_mut().enumerate() {
            source.ops().end_pass(&mut one.bank, Feed::Gradient);
            let progress = source.ops().proximal(&mut one.bank, &steps[place])?;
            one.passes += 1;
            if iteration == 0 {
                first
                    .push(progress.iter().map(|own| own.residual.max(f64::MIN_POSITIVE)).collect());
            }
            let residuals = one.residuals.as_mut().expect("set above");
            for (head, own) in progress.iter().enumerate() {
                if steps[place][head] > 0.0 {
                    residuals[head] = own.residual / first[place][head];
                    if residuals[head] <= tolerance {
                        steps[place][head] = 0.0;
                    }
                }
                open |= steps[place][head] > 0.0;
            }
        }
        if !open {
            break;
        }
    }
    Ok(())
}

/// The step of each head of each bank.
fn steps<O: ProbeOps + MomentOps>(
    source: &mut dyn Source<O>,
    work: &[Work<'_, O>],
    rows: &[&Labelled],
) -> Result<Vec<Vec<f32>>> {
    // Tasks with the same rows (control labels, say) share their moments.
    let mut sets: Vec<&Labelled> = Vec::new();
    let mut set_of = Vec::with_capacity(rows.len());
    for own in rows {
        let known = sets.iter().position(|set| set.rows == own.rows);
        set_of.push(known.unwrap_or(sets.len()));
        if known.is_none() {
            sets.push(own);
        }
    }
    let mut curvature: Vec<Vec<f64>> = vec![Vec::new(); work.len()];
    for set in &sets {
        let largest = largest(source, work, set)?;
        curvature.iter_mut().zip(largest).for_each(|(own, one)| own.push(one));
    }
    let step = |place: usize, one: &Work<'_, O>| {
        let own = one.asked.probes.iter().map(|probe| {
            let factor = match probe.loss {
                ProbeLoss::Softmax => 0.5,
                ProbeLoss::Logistic => 0.25,
                ProbeLoss::Squared => 2.0,
            };
            let curved = factor * curvature[place][set_of[probe.task]] + 2.0 * probe.l2;
            #[expect(clippy::cast_possible_truncation, reason = "a step is applied in f32")]
            let step = (1.0 / curved) as f32;
            step
        });
        own.collect()
    };
    Ok(work.iter().enumerate().map(|(place, one)| step(place, one)).collect())
}

/// For each site a bound of the largest eigenvalue of the mean of `(x, 1) (x, 1)^T` over these rows.
fn largest<O: ProbeOps + MomentOps>(
    source: &mut dyn Source<O>,
    work: &[Work<'_, O>],
    set: &Labelled,
) -> Result<Vec<f64>> {
    let sites: Vec<usize> = work.iter().map(|one| one.asked.site).collect();
    let mut moments = Vec::with_capacity(work.len());
    for one in work {
        moments.push(source.ops().moments(one.asked.width, None, 1)?);
    }
    source.each(&sites, &mut |ops, site, x, at: Range<usize>| {
        let place = sites.iter().position(|own| *own == site).expect("asked for");
        let one = [set];
        let shifted = Shifted::new(&one, &at);
        let rows = shifted.rows()[0].rows;
        ops.add_moments(&mut moments[place], (x, None), (rows, &vec![0; rows.len()]));
        Ok(())
    })?;
    let count = set.len().max(1) as f64;
    let mut found = Vec::with_capacity(work.len());
    for (moments, one) in moments.into_iter().zip(work) {
        let sums = source.ops().take_moments(moments)?;
        found.push(MARGIN * (power(&sums[0], one.asked.width) / count + 1.0));
    }
    Ok(found)
}

/// The largest eigenvalue of a symmetric matrix with none below 0.
fn power(matrix: &[f64], n: usize) -> f64 {
    let mut v: Vec<f64> = (0..n).map(|at| 1.0 + (at % 7) as f64 * 0.1).collect();
    let mut value = 0.0;
    for _ in 0..POWER_STEPS {
        let norm = v.iter().map(|x| x * x).sum::<f64>().sqrt();
        if norm == 0.0 {
            return 0.0;
        }
        v.iter_mut().for_each(|x| *x /= norm);
        let next: Vec<f64> = matrix
            .chunks_exact(n)
            .map(|row| row.iter().zip(&v).map(|(a, b)| a * b).sum())
            .collect();
        value = next.iter().map(|x| x * x).sum::<f64>().sqrt();
        v = next;
    }
    value
}
