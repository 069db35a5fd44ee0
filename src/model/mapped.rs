//! A file in memory without a copy. With `shrunk`, the only `unsafe` of the model layer.
#![expect(unsafe_code, reason = "mapping a file is unsafe: another process may change it")]

use std::fs::{self, Metadata};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use memmap2::Mmap;

use super::shrunk::Watched;
use crate::disk;
use crate::error::{Error, Result};

/// A mapped file, and how it looked when it was opened.
pub(crate) struct Mapped {
    path: PathBuf,
    // Before the map: what is watched ends before what it names.
    _watched: Option<Watched>,
    map: Mmap,
    seen: Stamp,
}

/// What changes when somebody replaces or rewrites a file.
#[derive(PartialEq)]
struct Stamp {
    size: u64,
    modified: Option<SystemTime>,
    inode: u64,
}

impl Stamp {
    fn of(metadata: &Metadata) -> Self {
        #[cfg(unix)]
        let inode = std::os::unix::fs::MetadataExt::ino(metadata);
        #[cfg(not(unix))]
        let inode = 0;
        Self { size: metadata.len(), modified: metadata.modified().ok(), inode }
    }
}

impl Mapped {
    /// Maps a plain file.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        // Asked before opening, which would wait for ever on a pipe.
        if !fs::metadata(path).map_err(Error::io(path, "read"))?.is_file() {
            return Err(Error::input(path, "not a plain file", "give a model folder"));
        }
        let file = disk::File::open(path).map_err(Error::io(path, "read"))?;
        let metadata = file.metadata().map_err(Error::io(path, "read"))?;
        let system = file.to_map().map_err(Error::io(path, "read"))?;
        // SAFETY: the map is read only, its bytes are taken as plain numbers, and
        // `check_unchanged` reports a file that somebody wrote to while it was in use.
        let map = unsafe { Mmap::map(system) }.map_err(Error::io(path, "read"))?;
        let watched = Watched::new(path, &map);
        Ok(Self { path: path.to_path_buf(), _watched: watched, map, seen: Stamp::of(&metadata) })
    }

    /// The whole file.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.map
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Fails if the file is no longer the one that was opened.
    pub(crate) fn check_unchanged(&self) -> Result<()> {
        let now = fs::metadata(&self.path).map_err(Error::io(&self.path, "read"))?;
        if Stamp::of(&now) != self.seen {
            return Err(Error::input(
                &self.path,
                "changed while it was in use",
                "leave model files alone during a run, and run again",
            ));
        }
        Ok(())
    }
}
