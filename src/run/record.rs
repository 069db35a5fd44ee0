//! What the manifests of `steer`, `maximize` and `sparsity` have in common.

use std::path::Path;
use std::time::Instant;

use serde_json::Value;

use crate::artifact::machine::{Machine, environment, peak_memory, utc_now};
use crate::artifact::manifest::{
    CorpusFacts, DeviceFacts, FORMAT, FileFacts, Manifest, ModelFacts, PlanFacts, Program,
    SiteFacts, Timings, hash_json,
};
use crate::engine::segment::RunId;
use crate::error::Result;
use crate::hash::{blake3_of_file, hex};
use crate::id::{NeuronId, Site};

/// When an attempt began.
pub(super) struct Clock {
    start: String,
    since: Instant,
}

impl Clock {
    /// Now.
    pub(super) fn start() -> Self {
        Self { start: utc_now(), since: Instant::now() }
    }

    /// The times of an attempt in which so many tokens were run.
    pub(super) fn timings(&self, tokens: u64) -> Timings {
        let seconds = self.since.elapsed().as_secs_f64();
        Timings {
            start: self.start.clone(),
            seconds,
            tokens,
            tokens_per_second: tokens as f64 / seconds,
            peak_memory_bytes: peak_memory(),
        }
    }
}

/// What a command says of itself.
#[derive(Clone)]
pub(super) struct Record {
    /// Hash of everything that may change a number.
    pub(super) run_id: RunId,
    /// What was asked for.
    pub(super) config: Value,
    /// Which model.
    pub(super) model: ModelFacts,
    /// What it read.
    pub(super) corpus: CorpusFacts,
    /// Whose neurons were asked.
    pub(super) sites: Vec<SiteFacts>,
    /// Pieces of work.
    pub(super) pieces: u64,
    /// What it ran on.
    pub(super) devices: Vec<DeviceFacts>,
    /// How long it took.
    pub(super) timings: Timings,
    /// What a reader must know.
    pub(super) notes: Vec<String>,
}

impl Record {
    /// Writes `manifest.json` of a folder with these outputs.
    pub(super) fn write_in(self, folder: &Path, outputs: &[&str]) -> Result<()> {
        let facts = outputs.iter().map(|name| FileFacts::output(folder, name));
        self.manifest(facts.collect::<Result<_>>()?).write(folder)
    }

    /// Writes `FILE.manifest.json` beside an output.
    pub(super) fn write_beside(self, file: &Path) -> Result<()> {
        let (bytes, hash) = blake3_of_file(file)?;
        let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let output = FileFacts { name, bytes, sha256: None, blake3: Some(hash) };
        let mut path = file.as_os_str().to_owned();
        path.push(".manifest.json");
        self.manifest(vec![output]).write_at(Path::new(&path))
    }

    fn manifest(self, outputs: Vec<FileFacts>) -> Manifest {
        let id = hex(&self.run_id);
        Manifest {
            format: FORMAT.to_owned(),
            electrode: Program::default(),
            config_hash: hash_json(&self.config),
            config: self.config,
            model: self.model,
            corpus: self.corpus,
            labels: Vec::new(),
            sites: self.sites,
            plan: PlanFacts { blocks: self.pieces, hash: id.clone(), done: self.pieces },
            machine: Machine::here(rayon::current_num_threads()),
            devices: self.devices,
            timings: self.timings,
            environment: environment(),
            notes: self.notes,
            outputs,
            run_id: id,
        }
    }
}

/// The sites of some neurons in forward order, with how many of each are asked.
pub(super) fn sites_of(neurons: &[NeuronId]) -> Vec<SiteFacts> {
    let mut sites: Vec<Site> = neurons.iter().map(|neuron| neuron.site).collect();
    sites.sort_unstable();
    sites.dedup();
    let facts = |site: Site| SiteFacts {
        site: site.to_string(),
        neurons: neurons.iter().filter(|neuron| neuron.site == site).count() as u64,
    };
    sites.into_iter().map(facts).collect()
}

/// A file that was read, under the name it was asked for by.
pub(super) fn input(path: &Path) -> Result<FileFacts> {
    let (bytes, hash) = blake3_of_file(path)?;
    Ok(FileFacts { name: path.display().to_string(), bytes, sha256: None, blake3: Some(hash) })
}
