//! What a run found when it was opened: its corpus counted and cut, its model's files hashed. Taken
//! again by others as long as no file was touched since, so that a task does not begin by reading
//! all that the whole sweep will read.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::prepare::Prepared;
use crate::artifact::sealed::{read_sealed, write_sealed};
use crate::corpus::plan::Plan;
use crate::corpus::read::source::sources;
use crate::disk;
use crate::error::{Error, Result};

/// Times of files lag behind the clock by so much at most.
const GRAIN: Duration = Duration::from_millis(20);

/// See the module.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Opened {
    pub(super) plan: Plan,
    /// Name, size and SHA-256.
    pub(super) model_files: Vec<(String, u64, String)>,
    pub(super) stamps: Vec<Stamp>,
}

/// What changes when somebody replaces a file or writes to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Stamp {
    path: PathBuf,
    bytes: u64,
    /// Nanoseconds since 1970.
    modified: u64,
}

impl Stamp {
    fn of(path: &Path) -> Result<Self> {
        let found = std::fs::metadata(path).map_err(Error::io(path, "read"))?;
        let since = found.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
        let modified = since.and_then(|since| u64::try_from(since.as_nanos()).ok());
        Ok(Self { path: path.to_path_buf(), bytes: found.len(), modified: modified.unwrap_or(0) })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn is_untouched(&self) -> bool {
        self.modified > 0 && Self::of(&self.path).is_ok_and(|now| now == *self)
    }
}

impl Opened {
    /// What `prepared` found. None where a file was touched just before it was begun or since: its time
    /// does not tell then which of its contents was read.
    pub(super) fn of(prepared: &Prepared, begun: SystemTime) -> Result<Option<Self>> {
        let mut stamps = Vec::new();
        for source in sources(&prepared.config.corpus)? {
            stamps.push(Stamp::of(&source.path)?);
            stamps.extend(source.label_path.as_deref().map(Stamp::of).transpose()?);
        }
        for path in prepared.model.files()? {
            stamps.push(Stamp::of(&path)?);
        }
        let begun = begun.duration_since(UNIX_EPOCH).unwrap_or_default().saturating_sub(GRAIN);
        let told = stamps.iter().all(|stamp| u128::from(stamp.modified) < begun.as_nanos());
        Ok(told.then_some(Self { stamps, ..Self::known(prepared) }))
    }

    /// What `prepared` found, for this process: it stands by its hashes, not by times.
    pub(super) fn known(prepared: &Prepared) -> Self {
        let (plan, model_files) = (Plan::clone(&prepared.plan), prepared.model_files.clone());
        Self { plan, model_files, stamps: Vec::new() }
    }

    pub(super) fn write(&self, path: &Path) -> Result<()> {
        write_sealed(path, self)
    }

    /// What stands in a file, if it is there and whole and nothing was touched since: what is not
    /// believed is found again.
    pub(super) fn read(path: &Path) -> Option<Self> {
        let bytes = disk::read(path).ok()?;
        let opened: Self = read_sealed(path, &bytes, "it is found again").ok()?;
        opened.stamps.iter().all(Stamp::is_untouched).then_some(opened)
    }
}
