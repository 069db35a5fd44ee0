//! The sites of a run, shared out over its devices: each is trained, judged and put away by itself, so
//! that a stopped run goes on with those that are missing.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::baselines::Baselines;
use super::finished::Finished;
use super::kept::{self, Kept};
use super::measured::Place;
use super::probes::{self, Which};
use super::tasks::Tasks;
use super::{Probing, ProbingDevice};
use crate::device::forward::Forward;
use crate::engine::fleet::Fleet;
use crate::engine::share::{Told, share_until};
use crate::error::Result;
use crate::probe::bank::Probe;
use crate::probe::rows::RowTable;
use crate::probe::source::Streamed;
use crate::probe::split::Part;
use crate::probe::store::Files;
use crate::run::Report;
use crate::run::pieces::{Pieces, Stage};

/// Everything between labels and tables that no device changes.
pub(super) struct Work<'a> {
    pub(super) probing: &'a Probing,
    pub(super) table: &'a RowTable,
    pub(super) tasks: &'a Tasks,
    pub(super) baselines: Baselines,
    /// Every place, that of all sites side by side last.
    pub(super) places: Vec<Place>,
    /// Numbers of the places that have probes: the pieces of the work, in order.
    pub(super) asked: Vec<usize>,
    /// The probes of each.
    pub(super) list: Vec<(Which, Probe)>,
    /// By row, whether it is a training row.
    pub(super) training: Vec<bool>,
    /// Where activations are kept in files, and where training is on its way.
    folder: PathBuf,
    pub(super) training_folder: PathBuf,
    stop: &'a AtomicBool,
    /// Tokens run, on all devices.
    pub(super) tokens: AtomicU64,
}

/// What was done.
pub(super) struct Worked {
    pub(super) finished: Finished,
    /// Where activations waited.
    pub(super) kept: Kept,
    /// Sites that earlier attempts had finished.
    pub(super) resumed: usize,
}

/// Where finished sites go.
pub(super) type Shelf<'a> = Mutex<Stage<'a, Finished>>;

impl<'a> Work<'a> {
    pub(super) fn new(
        probing: &'a Probing,
        (table, tasks): (&'a RowTable, &'a Tasks),
        (activations, states, stop): (&Path, PathBuf, &'a AtomicBool),
    ) -> Self {
        let asked = &probing.config.probes;
        let mut places = probing.places();
        if asked.all_sites {
            places.push(Place::all(&places));
        }
        let with_probes = |at: &usize| places[*at].is_all() || asked.each_site;
        Self {
            asked: (0..places.len()).filter(with_probes).collect(),
            baselines: Baselines::new(tasks),
            list: probes::probes(&probing.config, tasks),
            training: table.parts.iter().map(|part| *part == Part::Train).collect(),
            tokens: AtomicU64::new(0),
            probing,
            table,
            tasks,
            places,
            folder: activations.to_path_buf(),
            training_folder: states.join("training"),
            stop,
        }
    }

    /// Does every site that no earlier attempt did.
    pub(super) fn run<O: ProbingDevice>(
        &self,
        fleet: &mut Fleet<'_, O, Forward<O>>,
        pieces: &Pieces<'_>,
        report: Report<'_>,
    ) -> Result<Worked> {
        let stage = pieces.stage::<Finished>(("sites", &[]), (), number(self.asked.len()))?;
        // Sites are few and take long: each is on the disk as soon as it is done.
        let stage = stage.commit_every(Duration::ZERO);
        let todo = stage.missing();
        let resumed = self.asked.len() - todo.len();
        let mut parts = self.parts(&todo, fleet.len());
        let sites = |part: &Vec<u32>| part.iter().map(|at| self.asked[*at as usize]).collect();
        let by_number: Vec<Vec<usize>> = parts.iter().map(sites).collect();
        let rows = self.table.len();
        let kept = kept::choose(self.probing, rows, &by_number)?;
        tracing::info!(%kept, rows, resumed, "activations between passes");
        let shelf = Mutex::new(stage);
        let mut files = None;
        if let (Kept::Disk(_), false) = (kept, todo.is_empty()) {
            files = Some(self.files(fleet, (pieces.folder().run_id(), &shelf), &mut *report)?);
            // Whoever is free takes the next site.
            parts = todo.iter().map(|at| vec![*at]).collect();
        }
        self.share(fleet, (parts, (kept, files.as_ref()), &shelf), report)?;
        let finished = shelf.into_inner().unwrap_or_else(PoisonError::into_inner).finish()?;
        Ok(Worked { finished, kept, resumed })
    }

    /// The pieces of each device where it holds, or runs, its own sites: runs of them about as wide. All
    /// sites side by side are one device's alone where there are others.
    fn parts(&self, todo: &[u32], devices: usize) -> Vec<Vec<u32>> {
        if devices < 2 {
            return if todo.is_empty() { Vec::new() } else { vec![todo.to_vec()] };
        }
        let place = |at: u32| &self.places[self.asked[at as usize]];
        let (all, single): (Vec<u32>, Vec<u32>) = todo.iter().partition(|at| place(**at).is_all());
        let mut parts: Vec<Vec<u32>> = all.into_iter().map(|at| vec![at]).collect();
        let total: usize = single.iter().map(|at| place(*at).width).sum();
        let mut runs = vec![Vec::new(); devices];
        let mut before = 0;
        for at in single {
            let width = place(at).width;
            // By the middle of the site, so that no run is left without one for a rounding.
            runs[(2 * before + width) * devices / (2 * total)].push(at);
            before += width;
        }
        parts.extend(runs.into_iter().filter(|run| !run.is_empty()));
        parts
    }

    /// The files of an earlier attempt, or new ones: one pass of the model.
    fn files<O: ProbingDevice>(
        &self,
        fleet: &mut Fleet<'_, O, Forward<O>>,
        (run_id, shelf): (&str, &Shelf<'_>),
        report: Report<'_>,
    ) -> Result<Files> {
        let widths: Vec<usize> = self.probing.places().iter().map(|place| place.width).collect();
        let rows = self.table.len();
        if let Some(files) = Files::open(&self.folder, run_id, (rows, &widths)) {
            tracing::info!("activations of an earlier attempt are used again");
            return Ok(files);
        }
        let prepared = &self.probing.prepared;
        let rules = prepared.block_rules();
        let go_on = || lock(shelf).check_stop();
        fleet.on_one(|forward| {
            let told = Box::new(|tokens, share| {
                report("reading neurons", self.count(tokens), share);
            });
            let how = (&rules, &prepared.sites[..], prepared.batch_tokens());
            let mut streamed = Streamed::new(forward, how, &go_on, told)?;
            Files::fill(&mut streamed, &self.folder, (run_id, rows))
        })
    }

    /// Lends the parts to the devices.
    fn share<O: ProbingDevice>(
        &self,
        fleet: &mut Fleet<'_, O, Forward<O>>,
        (parts, kept, shelf): (Vec<Vec<u32>>, (Kept, Option<&Files>), &Shelf<'_>),
        report: Report<'_>,
    ) -> Result<()> {
        let total: usize = parts.iter().map(Vec::len).sum();
        let mut running = vec![0.0; fleet.len()];
        let mut done = 0.0;
        let told = |place: usize, told: Told<usize>| {
            running[place] = 0.0;
            match told {
                Told::Part(_, share) => running[place] = share,
                Told::Done(sites) => done += sites as f64,
            }
            let share = (done + running.iter().sum::<f64>()) / total.max(1) as f64;
            report("training and judging probes", self.tokens.load(Ordering::Relaxed), share);
            Ok(())
        };
        let parts = parts.into_iter().map(Ok);
        share_until(
            fleet,
            (parts, self.stop),
            |forward: &mut Forward<O>, part, underway| {
                self.part((forward, underway), part, (kept, shelf))?;
                Ok(part.len())
            },
            told,
        )
    }

    /// Tokens run so far, with these.
    pub(super) fn count(&self, tokens: u64) -> u64 {
        self.tokens.fetch_add(tokens, Ordering::Relaxed) + tokens
    }
}

/// The shelf for as long as somebody puts something there.
pub(super) fn lock<'s, 'a>(shelf: &'s Shelf<'a>) -> MutexGuard<'s, Stage<'a, Finished>> {
    shelf.lock().unwrap_or_else(PoisonError::into_inner)
}

fn number(n: usize) -> u32 {
    u32::try_from(n).expect("sites are few")
}
