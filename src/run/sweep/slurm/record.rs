//! What of a sweep has been submitted, and one submission at a time.

use std::fs::TryLockError;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::artifact::manifest::write_json_atomic;
use crate::disk::{self, File};
use crate::error::{Error, Result};

/// Arrays that were submitted, in order.
const SUBMITTED: &str = "submitted.json";
/// Held by a submission, and by what it has called.
const LOCK: &str = "submit.lock";
/// How long another submission is waited for.
const PATIENCE: Duration = Duration::from_secs(30);

/// An array that was to be submitted.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Entry {
    /// Stem of its files.
    pub(super) file: String,
    /// Tasks in it.
    pub(super) tasks: usize,
    /// Its job; none if the submission ended before that was known.
    pub(super) job: Option<String>,
}

/// The folder of job files while it is ours.
pub(super) struct Desk {
    path: PathBuf,
    lock: File,
    entries: Vec<Entry>,
}

impl Desk {
    /// Waits for other submissions, then reads what they left.
    pub(super) fn open(jobs: &Path) -> Result<Self> {
        let lock = locked(jobs)?;
        Ok(Self { path: jobs.join(SUBMITTED), lock, entries: Self::entries(jobs)? })
    }

    /// Arrays that were submitted, in order.
    pub(super) fn entries(jobs: &Path) -> Result<Vec<Entry>> {
        let path = jobs.join(SUBMITTED);
        match disk::read(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(Error::io(&path, "read")(error)),
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(|error| {
                let remedy = "cancel the sweep's jobs, delete this file, and submit again";
                Error::input(&path, format!("damaged: {error}"), remedy)
            }),
        }
    }

    /// Number of the next array; those of arrays that may have been submitted are never used again.
    pub(super) fn next(&self) -> usize {
        self.entries.len()
    }

    /// The lock, for what is called to hold as well.
    pub(super) fn lock(&self) -> &File {
        &self.lock
    }

    /// Puts down that an array is about to be submitted.
    pub(super) fn intend(&mut self, entry: Entry) -> Result<()> {
        self.entries.push(entry);
        write_json_atomic(&self.path, &self.entries)
    }

    /// Puts down the job of the last one.
    pub(super) fn submitted(&mut self, job: &str) -> Result<()> {
        if let Some(last) = self.entries.last_mut() {
            last.job = Some(job.to_owned());
        }
        write_json_atomic(&self.path, &self.entries)
    }
}

/// The tasks of an array stand beside its job file, one in a line.
pub(super) fn list_of(file: &Path) -> PathBuf {
    file.with_extension("tasks")
}

/// The tasks in a list; none of a list that is gone or damaged.
pub(super) fn tasks_of(file: &Path) -> Vec<usize> {
    let text = disk::read_to_string(list_of(file)).unwrap_or_default();
    let tasks: std::result::Result<_, _> = text.lines().map(str::parse).collect();
    tasks.unwrap_or_default()
}

fn locked(jobs: &Path) -> Result<File> {
    disk::create_dir_all(jobs).map_err(Error::io(jobs, "create"))?;
    let path = jobs.join(LOCK);
    let file = File::create(&path).map_err(Error::io(&path, "create"))?;
    let begun = Instant::now();
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) if begun.elapsed() < PATIENCE => {
                std::thread::sleep(Duration::from_millis(100));
            }
            Err(TryLockError::WouldBlock) => {
                let what = format!("another submission is at work in {}", jobs.display());
                return Err(Error::Unfinished { what });
            }
            // Some network file systems have no locks; the queue then has to say what is submitted.
            Err(TryLockError::Error(error)) => {
                tracing::warn!(%error, "this file system gives no locks");
                return Ok(file);
            }
        }
    }
}
