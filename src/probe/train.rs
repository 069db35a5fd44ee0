//! The training of banks: Adam over epochs, or FISTA to the optimum, and their trial on each part of
//! the data. Probes of all sites whose rows come together are trained together.

use super::bank::{Probe, Weights, bank, divide};
use super::optimum::optimum;
use super::source::Source;
use super::split::Part;
use super::tasks::{Labelled, Shifted, Task};
use crate::device::moment_ops::MomentOps;
use crate::device::probe_ops::{BankState, Feed, Measures, ProbeOps};
use crate::device::probe_solve::Solve;
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

/// The probes of a site between two passes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Midway {
    /// Passes so far.
    pub passes: u32,
    /// Weights and moments.
    pub bank: BankState,
    /// [`Solve::numbers`](crate::device::probe_solve::Solve::numbers) of FISTA; empty for Adam.
    pub solve: Vec<f64>,
}

/// Keeps training that is on its way, where passes are dear.
pub trait Keeper {
    /// Where an earlier attempt left a site, by its number.
    fn begun(&mut self, site: usize) -> Option<Midway>;
    /// Whether it is time; asked after each pass, and after the `last`.
    fn is_due(&self, last: bool) -> bool;
    /// Takes the sites of a pass, by their numbers.
    fn keep(&mut self, sites: Vec<(usize, Midway)>) -> Result<()>;
}

/// Keeps nothing.
struct Nothing;

impl Keeper for Nothing {
    fn begun(&mut self, _: usize) -> Option<Midway> {
        None
    }
    fn is_due(&self, _: bool) -> bool {
        false
    }
    fn keep(&mut self, _: Vec<(usize, Midway)>) -> Result<()> {
        Ok(())
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
    /// Where FISTA was left, if it was.
    pub(super) solve: Vec<f64>,
}

/// Trains the probes of every site and tries them; the results are in the order of the probes asked
/// for. `told` hears the share of sites done.
pub fn train<O: ProbeOps + MomentOps>(
    source: &mut dyn Source<O>,
    asked: &[SiteProbes],
    labels: Labels<'_>,
    how: (Solver, &mut dyn FnMut(f64)),
) -> Result<Vec<Vec<Trained>>> {
    train_kept(source, asked, labels, how, &mut Nothing)
}

/// As [`train`]; goes on where `keeper` knows of an earlier attempt, with the same bits.
pub fn train_kept<O: ProbeOps + MomentOps>(
    source: &mut dyn Source<O>,
    asked: &[SiteProbes],
    labels: Labels<'_>,
    (solver, told): (Solver, &mut dyn FnMut(f64)),
    keeper: &mut dyn Keeper,
) -> Result<Vec<Vec<Trained>>> {
    let mut results: Vec<Vec<Trained>> = vec![Vec::new(); asked.len()];
    let groups = source.together(asked.len());
    let total = groups.len().max(1) as f64;
    for (done, group) in groups.into_iter().enumerate() {
        let mut work = Vec::with_capacity(group.len());
        for &at in &group {
            let begun = keeper.begun(asked[at].site);
            work.push(begin(source.ops(), &asked[at], (labels.tasks.len(), begun))?);
        }
        let share = |inside: f64| (done as f64 + inside) / total;
        match solver {
            Solver::Adam { epochs, batch, shuffle } => {
                // Sites of one group may have been left at several.
                let first = work.iter().map(|one| one.passes).min().unwrap_or(0);
                for epoch in first..epochs {
                    work.iter_mut().for_each(|one| one.reads = one.passes == epoch);
                    let order = shuffle.map(|seed| seed ^ u64::from(epoch) << 32);
                    epoch_of_adam(source, &mut work, labels, (batch, order))?;
                    keep(source.ops(), (&work, &[]), (epoch + 1 == epochs, &mut *keeper))?;
                    told(share(f64::from(epoch + 1) / f64::from(epochs)));
                }
                work.iter_mut().for_each(|one| one.reads = true);
            }
            Solver::Fista { tolerance, iterations } => {
                let passes = iterations as usize;
                optimum(source, &mut work, labels, ((tolerance, passes), &mut *keeper))?;
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

fn begin<'a, O: ProbeOps>(
    ops: &O,
    asked: &'a SiteProbes,
    (tasks, begun): (usize, Option<Midway>),
) -> Result<Work<'a, O>> {
    let (plan, mut first) = bank(asked.width, tasks, &asked.probes);
    if let Some(given) = &asked.begin {
        first = Weights::default();
        for own in given {
            first.weights.extend_from_slice(&own.weights);
            first.biases.extend_from_slice(&own.biases);
        }
    }
    let bank = ops.bank(&plan, &first.weights, &first.biases)?;
    let mut own = Work { asked, bank, passes: 0, residuals: None, reads: true, solve: Vec::new() };
    if let Some(Midway { passes, bank, solve }) = begun
        && ops.restore_bank(&mut own.bank, &bank)?
    {
        tracing::info!(site = asked.site, passes, "training goes on");
        (own.passes, own.solve) = (passes, solve);
    }
    Ok(own)
}

/// Lets the keeper have what was trained in a pass, if it is time. `solves` are those of FISTA, by bank.
pub(super) fn keep<O: ProbeOps>(
    ops: &O,
    (work, solves): (&[Work<'_, O>], &[Solve]),
    (last, keeper): (bool, &mut dyn Keeper),
) -> Result<()> {
    if !keeper.is_due(last) {
        return Ok(());
    }
    let mut sites = Vec::with_capacity(work.len());
    for (at, one) in work.iter().enumerate() {
        let (bank, solve) = (ops.save_bank(&one.bank)?, solves.get(at).map(Solve::numbers));
        let solve = solve.unwrap_or_default();
        sites.push((one.asked.site, Midway { passes: one.passes, bank, solve }));
    }
    keeper.keep(sites)
}

/// One pass over the rows of each task.
pub(super) fn pass<O: ProbeOps>(
    source: &mut dyn Source<O>,
    work: &mut [Work<'_, O>],
    labelled: &[&Labelled],
    what: Feed,
) -> Result<()> {
    let sites: Vec<usize> = work.iter().filter(|one| one.reads).map(|one| one.asked.site).collect();
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
    for one in work.iter_mut().filter(|one| one.reads) {
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
