//! The training of banks: Adam over epochs, or FISTA to the optimum, and their trial on each part of
//! the data. Probes of all sites whose rows come together are trained together.

use super::bank::{Probe, Weights, bank, divide};
use super::optimum::optimum;
use super::source::Source;
use super::split::Part;
use super::tasks::{Labelled, Shifted, Task};
use crate::device::moment_ops::MomentOps;
use crate::device::probe_ops::{Feed, Measures, ProbeOps};
use crate::error::Result;

/// How weights are found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Solver {
    /// Mini-batches, in the order of the rows, unless shuffled.
    Adam {
        /// Passes over the training rows.
        epochs: u32,
        /// Rows of a step.
        batch: usize,
        /// Of a new order of the rows at each epoch.
        shuffle: Option<u64>,
    },
    /// Full passes until the generalised gradient is this small against the one at 0.
    Fista {
        /// See above.
        tolerance: f64,
        /// Passes at most.
        iterations: u32,
    },
    /// The weights given stay as they are.
    Keep,
}

/// The probes of one site.
#[derive(Clone, Debug, Default)]
pub struct SiteProbes {
    /// The site's number.
    pub site: usize,
    /// Its columns.
    pub width: usize,
    /// Its probes.
    pub probes: Vec<Probe>,
    /// Weights to begin with, by probe, instead of those drawn.
    pub begin: Option<Vec<Weights>>,
}

/// What came of one probe.
#[derive(Clone, Debug, Default)]
pub struct Trained {
    /// Its weights.
    pub weights: Weights,
    /// On each part asked for.
    pub measures: Vec<(Part, Measures)>,
    /// Passes over the training rows.
    pub passes: u32,
    /// The generalised gradient against that at 0; none for Adam.
    pub residual: Option<f64>,
}

impl Trained {
    /// What it did on a part.
    pub fn on(&self, part: Part) -> Option<&Measures> {
        self.measures.iter().find(|(own, _)| *own == part).map(|(_, measures)| measures)
    }
}

/// Labels, and which parts are tried.
#[derive(Clone, Copy)]
pub struct Labels<'a> {
    /// Tasks, by number.
    pub tasks: &'a [Task],
    /// Parts on which every probe is tried in the end.
    pub try_on: &'a [Part],
}

impl<'a> Labels<'a> {
    pub(super) fn part(&self, part: Part) -> Vec<&'a Labelled> {
        self.tasks.iter().map(|task| task.part(part)).collect()
    }
}

/// A bank at work.
pub(super) struct Work<'a, O: ProbeOps> {
    pub(super) asked: &'a SiteProbes,
    pub(super) bank: O::Bank,
    pub(super) passes: u32,
    pub(super) residuals: Option<Vec<f64>>,
    /// Whether rows are fed to it.
    pub(super) reads: bool,
}

/// Trains the probes of every site and tries them; the results are in the order of the probes asked
/// for. `told` hears the share of sites done.
pub fn train<O: ProbeOps + MomentOps>(
    source: &mut dyn Source<O>,
    asked: &[SiteProbes],
    labels: Labels<'_>,
    (solver, told): (Solver, &mut dyn FnMut(f64)),
) -> Result<Vec<Vec<Trained>>> {
    let mut results: Vec<Vec<Trained>> = vec![Vec::new(); asked.len()];
    let groups = source.together(asked.len());
    let total = groups.len().max(1) as f64;
    for (done, group) in groups.into_iter().enumerate() {
        let mut work = Vec::with_capacity(group.len());
        for &at in &group {
            work.push(begin(source.ops(), &asked[at], labels.tasks.len())?);
        }
        let share = |inside: f64| (done as f64 + inside) / total;
        match solver {
            Solver::Adam { epochs, batch, shuffle } => {
                for epoch in 0..epochs {
                    let order = shuffle.map(|seed| seed ^ u64::from(epoch) << 32);
                    epoch_of_adam(source, &mut work, labels, (batch, order))?;
                    told(share(f64::from(epoch + 1) / f64::from(epochs)));
                }
            }
            Solver::Fista { tolerance, iterations } => {
                let passes = iterations as usize;
                optimum(source, &mut work, labels, (tolerance, passes))?;
            }
            Solver::Keep => {}
        }
        for (at, trained) in group.iter().zip(finish(source, work, labels)?) {
            results[*at] = trained;
        }
        told(share(1.0));
    }
    Ok(results)
}

fn begin<'a, O: ProbeOps>(ops: &O, asked: &'a SiteProbes, tasks: usize) -> Result<Work<'a, O>> {
    let (plan, mut first) = bank(asked.width, tasks, &asked.probes);
    if let Some(given) = &asked.begin {
        first = Weights::default();
        for own in given {
            first.weights.extend_from_slice(&own.weights);
            first.biases.extend_from_slice(&own.biases);
        }
    }
    let bank = ops.bank(&plan, &first.weights, &first.biases)?;
    Ok(Work { asked, bank, passes: 0, residuals: None, reads: true })
}

/// One pass over the rows of each task.
pub(super) fn pass<O: ProbeOps>(
    source: &mut dyn Source<O>,
    work: &mut [Work<'_, O>],
    labelled: &[&Labelled],
    what: Feed,
) -> Result<()> {
    let sites: Vec<usize> =
        work.iter().filter(|one| one.reads).map(|one| one.asked.site).collect();
    source.each(&sites, &mut |ops, site, x, at| {
        let place = work.iter().position(|one| one.asked.site == site).expect("asked for");
        let rows = Shifted::new(labelled, &at);
        ops.feed(&mut work[place].bank, x, &rows.rows(), what);
        Ok(())
    })?;
    Ok(())
}

fn epoch_of_adam<O: ProbeOps>(
    source: &mut dyn Source<O>,
    work: &mut [Work<'_, O>],
    labels: Labels<'_>,
    (batch, order): (usize, Option<u64>),
) -> Result<()> {
    let rows = labels.part(Part::Train);
    let what = Feed::Train { batch };
    match order {
        None => pass(source, work, &rows, what)?,
        Some(seed) => {
            let drawn: Vec<Labelled> = rows.iter().map(|rows| rows.shuffled(seed)).collect();
            pass(source, work, &drawn.iter().collect::<Vec<_>>(), what)?;
        }
    }
    for one in work {
        source.ops().end_pass(&mut one.bank, what);
        one.passes += 1;
    }
    source.ops().check()
}

/// Tries every probe on the parts asked for, and hands over its weights.
fn finish<O: ProbeOps>(
    source: &mut dyn Source<O>,
    mut work: Vec<Work<'_, O>>,
    labels: Labels<'_>,
) -> Result<Vec<Vec<Trained>>> {
    let mut results: Vec<Vec<Trained>> = Vec::with_capacity(work.len());
    for one in &work {
        let (weights, biases) = source.ops().read_bank(&one.bank)?;
        let own = divide(one.asked.width, &one.asked.probes, (&weights, &biases));
        let trained = own.into_iter().enumerate().map(|(at, weights)| Trained {
            weights,
            measures: Vec::new(),
            passes: one.passes,
            residual: one.residuals.as_ref().map(|all| all[at]),
        });
        results.push(trained.collect());
    }
    for &part in labels.try_on {
        pass(source, &mut work, &labels.part(part), Feed::Measure)?;
        for (one, results) in work.iter_mut().zip(&mut results) {
            source.ops().end_pass(&mut one.bank, Feed::Measure);
            let measures = source.ops().take_measures(&mut one.bank)?;
            results.iter_mut().zip(measures).for_each(|(own, m)| own.measures.push((part, m)));
        }
    }
    Ok(results)
}
