//! The run folder: who owns it, and where its files are.

use std::fs::TryLockError;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::prepare::Prepared;
use crate::artifact::atomic::remove_leftovers;
use crate::artifact::manifest::write_json_atomic;
use crate::artifact::rows::{ContextRow, HistogramRow, NeuronRow, RankingRow, TopWordRow};
use crate::artifact::tables;
use crate::disk::{self, File};
use crate::error::{Error, Result};

/// Says which run the folder belongs to, from its first moment.
const RUN: &str = "run.json";
/// The plan of the corpus.
const PLAN: &str = "plan.json";
/// Held while a run works here.
const LOCK: &str = "run.lock";

#[derive(Serialize, Deserialize)]
struct Owner {
    run_id: String,
}

/// An open run folder; nobody else works in it while this lives.
pub(super) struct RunFolder {
    path: PathBuf,
    run_id: String,
    _lock: File,
}

impl RunFolder {
    /// Makes the folder, or opens one that holds the same run. Until [`RunFolder::claim`] a new
    /// folder belongs to no run, so that one that cannot begin is in nobody's way.
    pub(super) fn open(prepared: &Prepared) -> Result<Self> {
        Self::open_at(prepared.config.out.clone(), prepared.run_id_hex())
    }

    /// The same for anything with an identity of its own.
    pub(super) fn open_at(path: PathBuf, run_id: String) -> Result<Self> {
        disk::create_dir_all(&path).map_err(Error::io(&path, "create"))?;
        let lock = lock(&path.join(LOCK), || {
            Error::config(
                path.display().to_string(),
                "another run is working in this folder",
                "wait for it, or choose another out=",
            )
        })?;
        let owner = path.join(RUN);
        match disk::read(&owner) {
            Ok(bytes) => check_owner(&owner, &bytes, &run_id)?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(Error::io(&owner, "read")(error)),
        }
        remove_leftovers(&path)?;
        Ok(Self { path, run_id, _lock: lock })
    }

    /// Writes down whose folder it is, unless that stands there already.
    pub(super) fn claim(&self, prepared: &Prepared) -> Result<()> {
        if !self.path.join(RUN).exists() {
            write_json_atomic(&self.path.join(PLAN), &*prepared.plan)?;
        }
        self.own()
    }

    /// Writes down whose folder it is.
    pub(super) fn own(&self) -> Result<()> {
        let owner = self.path.join(RUN);
        if owner.exists() {
            return Ok(());
        }
        write_json_atomic(&owner, &Owner { run_id: self.run_id.clone() })
    }

    pub(super) fn run_id(&self) -> &str {
        &self.run_id
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Where the states of attempts are kept.
    pub(super) fn states(&self) -> PathBuf {
        self.path.join("states")
    }

    pub(super) fn write_neurons(&self, rows: impl Iterator<Item = NeuronRow>) -> Result<()> {
        tables::write_neurons(&self.path.join(tables::NEURONS), &self.run_id, rows).map(drop)
    }

    pub(super) fn write_rankings(&self, rows: impl Iterator<Item = RankingRow>) -> Result<()> {
        tables::write_rankings(&self.path.join(tables::RANKINGS), &self.run_id, rows).map(drop)
    }

    pub(super) fn write_top_words(&self, rows: impl Iterator<Item = TopWordRow>) -> Result<()> {
        tables::write_top_words(&self.path.join(tables::TOP_WORDS), &self.run_id, rows).map(drop)
    }

    pub(super) fn write_contexts(&self, rows: impl IntoIterator<Item = ContextRow>) -> Result<()> {
        let path = self.path.join(tables::CONTEXTS);
        tables::write_contexts(&path, &self.run_id, rows.into_iter()).map(drop)
    }

    pub(super) fn write_histograms(&self, rows: impl Iterator<Item = HistogramRow>) -> Result<()> {
        tables::write_histograms(&self.path.join(tables::HISTOGRAMS), &self.run_id, rows).map(drop)
    }
}

/// One run at a time: two would both be right, but waste each other's work. The lock of a file, held
/// as long as what is returned lives; `busy` says what another holds it for.
pub(super) fn lock(path: &Path, busy: impl FnOnce() -> Error) -> Result<File> {
    let file = File::create(path).map_err(Error::io(path, "create"))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(busy()),
        // Some network file systems have no locks; two runs are then told apart by their states.
        Err(TryLockError::Error(error)) => {
            tracing::warn!(%error, "this file system gives no locks");
            Ok(file)
        }
    }
}

fn check_owner(path: &Path, bytes: &[u8], run_id: &str) -> Result<()> {
    let owner: Owner = serde_json::from_slice(bytes).map_err(|error| {
        Error::input(path, format!("damaged: {error}"), "delete the run folder, or choose another")
    })?;
    if owner.run_id == run_id {
        return Ok(());
    }
    Err(Error::config(
        path.display().to_string(),
        format!(
            "the folder holds run {}, this is run {}: the configuration, model or corpus changed",
            &owner.run_id[..owner.run_id.len().min(12)],
            &run_id[..12]
        ),
        "choose another out, or delete this folder",
    ))
}
