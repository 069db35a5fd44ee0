//! Probes at their optimum: FISTA (Beck & Teboulle 2009) in step for all banks whose rows come together,
//! so that one pass over the rows serves them all.

use std::ops::Range;

use super::bank::Probe;
use super::source::Source;
use super::split::Part;
use super::tasks::{Labelled, Shifted};
use super::train::{Keeper, Labels, Work, keep, pass};
use crate::device::moment_ops::MomentOps;
use crate::device::probe_ops::{Feed, ProbeOps};
use crate::device::probe_solve::{Solve, Stop, largest_eigenvalue, step_length};
use crate::error::Result;

/// Moves every probe of these banks to its optimum.
pub(super) fn optimum<O: ProbeOps + MomentOps>(
    source: &mut dyn Source<O>,
    work: &mut [Work<'_, O>],
    labels: Labels<'_>,
    ((tolerance, passes), keeper): ((f64, usize), &mut dyn Keeper),
) -> Result<()> {
    let rows = labels.part(Part::Train);
    let stop = Stop { tolerance, passes, scales: None };
    let restored = |one: &Work<'_, O>| Solve::restored(one.asked.probes.len(), &stop, &one.solve);
    let begun: Vec<Option<Solve>> = work.iter().map(restored).collect();
    let fresh: Vec<&Work<'_, O>> =
        work.iter().zip(&begun).filter(|(_, begun)| begun.is_none()).map(|(one, _)| one).collect();
    let mut steps = steps(source, &fresh, &rows)?.into_iter();
    let mut new = || Solve::new(&steps.next().expect("steps of every bank that begins"), &stop);
    let mut solves: Vec<Solve> =
        begun.into_iter().map(|begun| begun.unwrap_or_else(&mut new)).collect();
    work.iter_mut().zip(&solves).for_each(|(one, solve)| one.reads = solve.is_open());
    while solves.iter().any(Solve::is_open) {
        pass(source, work, &rows, Feed::Gradient)?;
        for (one, solve) in work.iter_mut().zip(&mut solves).filter(|(one, _)| one.reads) {
            solve.step(source.ops(), &mut one.bank)?;
            one.passes += 1;
            // What comes of a bank does not depend on who else is there.
            one.reads = solve.is_open();
        }
        let last = !solves.iter().any(Solve::is_open);
        keep(source.ops(), (work, &solves), (last, &mut *keeper))?;
    }
    for (one, solve) in work.iter_mut().zip(solves) {
        one.reads = true;
        one.residuals = Some(solve.finish().iter().map(|solved| solved.residual).collect());
    }
    Ok(())
}

/// The step of each head of each bank.
fn steps<O: ProbeOps + MomentOps>(
    source: &mut dyn Source<O>,
    work: &[&Work<'_, O>],
    rows: &[&Labelled],
) -> Result<Vec<Vec<f32>>> {
    if work.is_empty() {
        return Ok(Vec::new());
    }
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
    let step = |place: usize, one: &&Work<'_, O>| {
        let heads = one.asked.probes.iter().map(Probe::head);
        heads.map(|head| step_length(&head, curvature[place][set_of[head.task]])).collect()
    };
    Ok(work.iter().enumerate().map(|(place, one)| step(place, one)).collect())
}

/// For each site a bound of the largest eigenvalue of the mean of `(x, 1) (x, 1)^T` over these rows: that of
/// x x^T, plus 1.
fn largest<O: ProbeOps + MomentOps>(
    source: &mut dyn Source<O>,
    work: &[&Work<'_, O>],
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
        found.push(largest_eigenvalue(&sums[0], one.asked.width) / count + 1.0);
    }
    Ok(found)
}
