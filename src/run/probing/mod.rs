//! `electrode probe`: linear probes on the neurons of a model, from the file to tables and page.
//!
//! Labels are read first, then activations come by as often as training needs them (`probe/`): from the
//! model at each pass, or from a store that one pass has filled. Devices share the sites, and a site that is
//! done is put away at once: a stopped run goes on with those that are missing. Whatever is chosen, weights, layers and
//! sizes are chosen on dev rows, and test rows are only reported.

mod baselines;
mod compare;
mod config;
mod finished;
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
mod sites;
mod tasks;
mod training;
pub(in crate::run) mod weights;
mod work;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

pub use self::config::{Cache, ProbingConfig};
use self::kept::Kept;
pub use self::keys::keys;
use self::measured::Place;
use self::work::{Work, Worked};
use super::Report;
use super::devices::{self, Devices};
use super::pieces::Pieces;
use super::prepare::Prepared;
use crate::artifact::machine::{peak_memory, utc_now};
use crate::artifact::manifest::Timings;
use crate::artifact::probing::{
    AGREEMENT, CLASSES, CODES, LAYERS, METHODS, PROBES, SELECTION, SMALLEST, SPREAD, SUBSETS,
    WEIGHTS,
};
use crate::artifact::tables::RANKINGS;
use crate::corpus::config::{ConceptConfig, Missing};
use crate::device::moment_ops::MomentOps;
use crate::device::probe_ops::ProbeOps;
use crate::device::suffix_ops::SuffixOps;
use crate::engine::fleet::{Device, Fleet, Setup, Slot};
use crate::engine::segment::RunId;
use crate::error::{Error, Result};
use crate::id::Site;
use crate::methods::MethodCall;
use crate::probe::rows::RowTable;
use crate::probe::split::{Part, Split};
use crate::probe::store;

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
    /// Sites that earlier attempts had finished.
    pub resumed: usize,
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

/// Runs everything where the file says; goes on where an earlier attempt in the same folder stopped.
pub fn probe(probing: &Probing, stop: &AtomicBool, report: Report<'_>) -> Result<Probed> {
    match &probing.prepared.devices {
        Devices::Cpu => {
            probe_on(probing, vec![devices::cpu(probing.config.model.dtype)], stop, report)
        }
        Devices::Cuda(found) => {
            let slots = devices::gpus(found, probing.config.model.dtype);
            probe_on(probing, slots, stop, report)
        }
    }
}

/// As [`probe`], on these devices, which share the sites.
pub fn probe_on<O: ProbingDevice>(
    probing: &Probing,
    slots: Vec<Slot<'_, O>>,
    stop: &AtomicBool,
    report: Report<'_>,
) -> Result<Probed> {
    let pieces = Pieces::of_folder(probing.config.out.clone(), probing.run_id, stop)?;
    let (start, clock) = (utc_now(), Instant::now());
    let prepared = &probing.prepared;
    report("reading labels", 0, 0.0);
    let table = RowTable::read(&prepared.block_rules(), &probing.split)?;
    check_parts(&table)?;
    let labels = (&prepared.plan.labels, &on_rows::pair_columns(&probing.methods));
    let tasks = tasks::tasks(&probing.config.probes, labels, &table)?;
    on_rows::check(&probing.methods, &tasks)?;
    let wanted: BTreeSet<Site> = prepared.sites.iter().copied().collect();
    let setup = Setup::forward(&prepared.model, prepared.limits, &wanted);
    let mut fleet = Fleet::new(slots, setup);
    let activations = pieces.folder().path().join("activations");
    let work = Work::new(probing, (&table, &tasks), (&activations, pieces.folder().states(), stop));
    let Worked { finished, kept, resumed } = work.run(&mut fleet, &pieces, &mut *report)?;
    let tokens = work.count(0);
    report("writing tables", tokens, 1.0);
    prepared.model.check_unchanged()?;
    prepared.plan.check_unchanged(&prepared.config.corpus)?;
    let folder = pieces.folder();
    finished.write(folder)?;
    weights::write(&folder.path().join(WEIGHTS), finished.arrays(), &tasks)?;
    let seconds = clock.elapsed().as_secs_f64();
    let timings = Timings {
        start,
        seconds,
        tokens,
        tokens_per_second: tokens as f64 / seconds,
        peak_memory_bytes: peak_memory(),
    };
    let notes: Vec<String> =
        finished.notes().into_iter().chain(manifest::lost(fleet.lost())).collect();
    let facts = (timings, kept, &notes[..]);
    manifest::write(probing, folder, (&table, &tasks), facts, &OUTPUTS)?;
    report("drawing the report", tokens, 1.0);
    let page = crate::report::build(folder.path())?;
    let folder = folder.path().to_path_buf();
    store::remove(&activations)?;
    pieces.remove()?;
    let probes = work.asked.len() * work.list.len();
    Ok(Probed { folder, report: page, probes, rows: table.len(), kept, resumed, seconds })
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
