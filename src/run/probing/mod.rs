//! `electrode probe`: linear probes on the neurons of a model, from the file to tables and page.
//!
//! Labels are read first, then activations come by as often as training needs them (`probe/`): from the
//! model at each pass, or from a store that one pass has filled. Whatever is chosen, weights, layers and
//! sizes are chosen on dev rows, and test rows are only reported.

mod baselines;
mod compare;
mod config;
mod found;
mod judge;
mod kept;
mod keys;
mod manifest;
mod measured;
mod on_rows;
mod probes;
mod rankings;
mod selection;
mod tasks;
pub(in crate::run) mod weights;

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use self::baselines::Baselines;
pub use self::config::{Cache, ProbingConfig};
use self::found::{Found, Notes};
use self::judge::Judge;
use self::kept::Kept;
pub use self::keys::keys;
use self::measured::{Place, SiteResults, mark_first};
use self::rankings::Columns;
use self::tasks::Tasks;
use super::Report;
use super::devices::{self, Devices};
use super::folder::RunFolder;
use super::prepare::Prepared;
use crate::artifact::machine::{peak_memory, utc_now};
use crate::artifact::manifest::Timings;
use crate::artifact::probing::{
    AGREEMENT, CLASSES, CODES, LAYERS, METHODS, PROBES, SELECTION, SMALLEST, SPREAD, SUBSETS,
    WEIGHTS,
};
use crate::artifact::table::write_table;
use crate::artifact::tables::RANKINGS;
use crate::corpus::config::{ConceptConfig, Missing};
use crate::device::forward::Forward;
use crate::device::moment_ops::MomentOps;
use crate::device::probe_ops::ProbeOps;
use crate::device::suffix_ops::SuffixOps;
use crate::engine::fleet::{Device, Fleet, Setup, Slot};
use crate::engine::segment::RunId;
use crate::error::{Error, Result};
use crate::hash::hex;
use crate::id::Site;
use crate::methods::MethodCall;
use crate::probe::rows::RowTable;
use crate::probe::scale::{Scale, Scaled, scales};
use crate::probe::source::{Source, Streamed};
use crate::probe::split::{Part, Split};
use crate::probe::train::{Labels, SiteProbes, train};

/// A device that can do all of this.
pub trait ProbingDevice: Device + SuffixOps + ProbeOps + MomentOps {}

impl<O: Device + SuffixOps + ProbeOps + MomentOps> ProbingDevice for O {}

/// A probing run, opened and checked.
pub struct Probing {
    /// Its file.
    pub config: ProbingConfig,
    /// Model, corpus and sites.
    pub prepared: Prepared,
    /// Hash of everything that may change a number.
    pub run_id: RunId,
    split: Split,
    /// Methods that read activations as they are.
    methods: Vec<MethodCall>,
}

/// Files of a finished folder, beside the page.
const OUTPUTS: [&str; 12] = [
    PROBES, CLASSES, LAYERS, RANKINGS, METHODS, SUBSETS, SMALLEST, SELECTION, CODES, AGREEMENT,
    SPREAD, WEIGHTS,
];

/// What a finished probing run leaves.
#[derive(Clone, Debug)]
pub struct Probed {
    /// Its folder.
    pub folder: PathBuf,
    /// The page to open.
    pub report: PathBuf,
    /// Probes trained.
    pub probes: usize,
    /// Rows of the corpus.
    pub rows: usize,
    /// Where activations waited.
    pub kept: Kept,
    /// Seconds it took.
    pub seconds: f64,
}

impl Probing {
    /// Opens everything; refuses what cannot work.
    pub fn new(config: ProbingConfig) -> Result<Self> {
        let methods = on_rows::parse(&config)?;
        let mut run = config.as_run();
        for column in on_rows::pair_columns(&methods) {
            if run.concepts.iter().all(|own| own.column != column) {
                run.concepts.push(every_class(column));
            }
        }
        let prepared = Prepared::new(run)?;
        let split = Split::new(&config.split, &prepared.plan)?;
        let run_id = *blake3::Hasher::new()
            .update(&prepared.run_id)
            .update(config.identity().to_string().as_bytes())
            .finalize()
            .as_bytes();
        Ok(Self { config, prepared, run_id, split, methods })
    }

    fn places(&self) -> Vec<Place> {
        let width = |site: &Site| self.prepared.model.spec.site_width(*site);
        self.prepared.sites.iter().map(|site| Place::of(*site, width(site))).collect()
    }
}

/// A label column with all of its classes.
fn every_class(column: String) -> ConceptConfig {
    let missing = Missing::default();
    ConceptConfig { column, classes: None, min_count: 1, most_frequent: None, missing }
}

/// Runs everything where the file says; of several GPUs on the first.
pub fn probe(probing: &Probing, stop: &AtomicBool, report: Report<'_>) -> Result<Probed> {
    match &probing.prepared.devices {
        Devices::Cpu => probe_on(probing, vec![devices::cpu()], stop, report),
        Devices::Cuda(found) => {
            let slots = devices::gpus(found, probing.config.model.dtype);
            probe_on(probing, slots, stop, report)
        }
    }
}

/// As [`probe`], on these devices: the first that works does everything.
pub fn probe_on<O: ProbingDevice>(
    probing: &Probing,
    slots: Vec<Slot<'_, O>>,
    stop: &AtomicBool,
    report: Report<'_>,
) -> Result<Probed> {
    let folder = RunFolder::open_at(probing.config.out.clone(), hex(&probing.run_id))?;
    let (start, clock) = (utc_now(), Instant::now());
    let prepared = &probing.prepared;
    report("reading labels", 0, 0.0);
    let table = RowTable::read(&prepared.block_rules(), &probing.split)?;
    check_parts(&table)?;
    let labels = (&prepared.plan.labels, &on_rows::pair_columns(&probing.methods));
    let tasks = tasks::tasks(&probing.config.probes, labels, &table)?;
    on_rows::check(&probing.methods, &tasks)?;
    folder.own()?;
    let wanted: BTreeSet<Site> = prepared.sites.iter().copied().collect();
    let setup = Setup::forward(&prepared.model, prepared.limits, &wanted);
    let mut fleet = Fleet::new(slots, setup);
    let work = Work {
        probing,
        folder: &folder,
        table: &table,
        tasks: &tasks,
        stop,
        report: RefCell::new(&mut *report),
        tokens: Cell::new(0),
    };
    let (kept, probes, notes) = fleet.on_one(|forward| work.run(forward))?;
    let tokens = work.tokens.get();
    prepared.model.check_unchanged()?;
    prepared.plan.check_unchanged(&prepared.config.corpus)?;
    let seconds = clock.elapsed().as_secs_f64();
    let timings = Timings {
        start,
        seconds,
        tokens,
        tokens_per_second: tokens as f64 / seconds,
        peak_memory_bytes: peak_memory(),
    };
    let notes: Vec<String> = notes.into_iter().chain(manifest::lost(fleet.lost())).collect();
    let facts = (timings, kept, &notes[..]);
    manifest::write(probing, &folder, (&table, &tasks), facts, &OUTPUTS)?;
    report("drawing the report", tokens, 1.0);
    let page = crate::report::build(folder.path())?;
    let folder = folder.path().to_path_buf();
    Ok(Probed { folder, report: page, probes, rows: table.len(), kept, seconds })
}

/// Each part needs rows: weights, choices and reports are made of them.
fn check_parts(table: &RowTable) -> Result<()> {
    for part in Part::ALL {
        if table.count(part) == 0 {
            let what = format!("no row of the corpus is a {} row", part.name());
            let remedy = "read more documents, split by = \"sentence\", or name files";
            return Err(Error::config("split", what, remedy));
        }
    }
    Ok(())
}

/// Everything between labels and manifest.
struct Work<'a> {
    probing: &'a Probing,
    folder: &'a RunFolder,
    table: &'a RowTable,
    tasks: &'a Tasks,
    stop: &'a AtomicBool,
    report: RefCell<Report<'a>>,
    /// Tokens run.
    tokens: Cell<u64>,
}

impl Work<'_> {
    fn tell(&self, stage: &'static str, share: f64) {
        (self.report.borrow_mut())(stage, self.tokens.get(), share);
    }

    fn run<O: ProbingDevice>(&self, forward: &mut Forward<O>) -> Result<(Kept, usize, Notes)> {
        let prepared = &self.probing.prepared;
        let (rules, rows) = (prepared.block_rules(), self.table.len());
        let kept = self::kept::choose(self.probing, rows)?;
        tracing::info!(%kept, rows, "activations between passes");
        let mut streamed = Streamed::new(
            &mut *forward,
            (&rules, &prepared.sites, prepared.batch_tokens()),
            self.stop,
            Box::new(|tokens, share| {
                self.tokens.set(self.tokens.get() + tokens);
                self.tell("reading neurons", share);
            }),
        )?;
        let store = kept.fill(&mut streamed, self.folder, (rows, self.joined()))?;
        let (probes, notes) = match store {
            None => self.with(&mut streamed)?,
            Some(mut store) => {
                drop(streamed);
                self.with(&mut store.on(forward.ops(), self.stop))?
            }
        };
        Ok((kept, probes, notes))
    }

    fn joined(&self) -> bool {
        self.probing.config.probes.all_sites
    }

    /// With the rows at hand: everything that is trained, and every table.
    fn with<O: ProbingDevice>(&self, source: &mut dyn Source<O>) -> Result<(usize, Notes)> {
        let config = &self.probing.config;
        let mut places = self.probing.places();
        let mut scaling = Vec::new();
        if config.probes.standardise {
            let training: Vec<bool> = self.table.parts.iter().map(|p| *p == Part::Train).collect();
            scaling = scales(source, places.len(), &training)?;
            if self.joined() {
                scaling.push(Scale::joined(&scaling));
            }
        }
        if self.joined() {
            places.push(Place::all(&places));
        }
        let mut source = Scaled::new(source, &scaling)?;
        let list = probes::probes(config, self.tasks);
        let asked = (0..places.len()).filter(|at| match places[*at].is_all() {
            true => true,
            false => config.probes.each_site,
        });
        let site = |at: usize| SiteProbes {
            site: at,
            width: places[at].width,
            probes: list.iter().map(|(_, probe)| probe.clone()).collect(),
            begin: None,
        };
        let asked: Vec<SiteProbes> = asked.map(site).collect();
        let labels = Labels { tasks: &self.tasks.list, try_on: &Part::ALL };
        let solver = probes::solver(config);
        let mut told = |share| self.tell("training probes", share);
        let trained = train(&mut source, &asked, labels, (solver, &mut told))?;
        let sites: Vec<SiteResults<'_>> = asked
            .iter()
            .zip(trained)
            .map(|(asked, trained)| {
                let which = list.iter().map(|(which, _)| *which);
                let list = which.zip(trained).collect();
                SiteResults::new((config, self.tasks), (asked.site, &places[asked.site]), list)
            })
            .collect();
        self.write(&sites)?;
        let mut found = self.put_to(&mut source, &sites)?;
        found.write(self.folder)?;
        weights::write(&self.folder.path().join(WEIGHTS), &sites, &scaling)?;
        Ok((sites.len() * list.len(), found.notes))
    }

    /// Rankings of every site, and what they are put to.
    fn put_to<O: ProbingDevice>(
        &self,
        source: &mut Scaled<'_, O>,
        sites: &[SiteResults<'_>],
    ) -> Result<Found> {
        let config = &self.probing.config;
        let mut found = Found::default();
        for (done, site) in sites.iter().enumerate() {
            let mut told = |share| {
                self.tell("judging rankings", (done as f64 + share) / sites.len() as f64);
            };
            let mut ranked = rankings::of_probes(site);
            let columns = self.columns(site.at);
            let on_rows = on_rows::find(site, &self.probing.methods, source, &columns)?;
            ranked.extend(on_rows.ranked);
            found.methods.extend(on_rows.tried);
            found.notes.extend(on_rows.notes);
            let mut judge = Judge { site, source, told: &mut told };
            let subsets = judge.subsets(&ranked)?;
            if config.judge.select && site.place.is_all() {
                let widths = self.probing.places().into_iter().map(|place| place.width);
                let mut end = 0;
                let ends: Vec<usize> = widths
                    .map(|width| {
                        end += width;
                        end
                    })
                    .collect();
                found.selection.extend(judge.selection(&columns, &ends)?);
            }
            if config.judge.code_length {
                found.codes.extend(judge.codes()?);
            }
            found.smallest.extend(judge::smallest(site, &subsets));
            found.subsets.extend(subsets);
            found.agreement.extend(compare::agreement(site, &ranked)?);
            found.spread.extend(compare::spread(site, &ranked)?);
            let rows_of = |label: usize| {
                self.tasks.list[self.tasks.labels[label].task].part(Part::Train).len() as u64
            };
            let rows = rankings::rows(
                (site.place, &columns),
                &self.tasks.labels,
                (&ranked, rows_of),
                config.output.keep,
            );
            found.rankings.extend(rows);
        }
        Ok(found)
    }

    /// The model's sites behind a place.
    fn columns(&self, place: usize) -> Columns {
        let sites: Vec<(Site, usize)> = self
            .probing
            .prepared
            .sites
            .iter()
            .zip(self.probing.places())
            .map(|(site, place)| (*site, place.width))
            .collect();
        match sites.get(place) {
            Some(site) => Columns::new(&[*site]),
            None => Columns::new(&sites),
        }
    }

    /// What the probes did.
    fn write(&self, sites: &[SiteResults<'_>]) -> Result<()> {
        let baselines = Baselines::new(self.tasks);
        let (path, id) = (self.folder.path(), self.folder.run_id());
        let rows = sites.iter().flat_map(|site| site.probe_rows(&baselines));
        write_table(&path.join(PROBES), id, rows)?;
        let rows = sites.iter().flat_map(SiteResults::class_rows);
        write_table(&path.join(CLASSES), id, rows)?;
        let mut layers: Vec<_> =
            sites.iter().flat_map(|site| site.layer_rows(&baselines)).collect();
        mark_first(&mut layers);
        write_table(&path.join(LAYERS), id, layers.into_iter())?;
        Ok(())
    }
}
