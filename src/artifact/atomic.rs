//! Final files: a reader sees the old file, the new file or none, never a part of one.
//!
//! Temporary name in the same folder, write, fsync, rename, fsync of the folder. Without the first
//! fsync a power cut leaves a file of length zero under the final name; without the last the name
//! itself may be gone.

use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use crate::disk::{self, File};
use crate::error::{Error, Result};

/// Temporary files begin and end like this, so that [`remove_leftovers`] knows them.
const PREFIX: &str = ".electrode-";
const SUFFIX: &str = ".tmp";

/// Writes `path` through `fill`. On an error of `fill` or of the disk nothing is left behind, and
/// a file that stood at `path` before still stands there.
pub fn write_atomic<T>(
    path: &Path,
    fill: impl FnOnce(&mut BufWriter<&mut File>) -> Result<T>,
) -> Result<T> {
    let target = final_target(path)?;
    let path = target.as_path();
    let folder = folder_of(path);
    let mut temporary = temporary_in(folder).map_err(Error::io(path, "create"))?;
    let filled = {
        let mut writer = BufWriter::with_capacity(1 << 18, temporary.as_file_mut());
        let filled = fill(&mut writer)?;
        writer.flush().map_err(Error::io(path, "write"))?;
        filled
    };
    // A failed fsync is never repeated: the kernel may have dropped the pages it could not write.
    temporary.as_file().sync_all().map_err(Error::io(path, "sync"))?;
    let name = temporary.into_temp_path();
    disk::rename(&name, path).map_err(Error::io(path, "rename"))?;
    // It stands under its own name now: nothing is left to remove.
    let _ = name.keep();
    sync_folder(folder)?;
    Ok(filled)
}

/// Where a file is really to stand: links are followed, and what is no file (a device, a pipe) is
/// refused, for a rename would replace it.
pub fn final_target(path: &Path) -> Result<PathBuf> {
    let target = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_path_buf());
    match std::fs::metadata(&target) {
        Ok(found) if !found.is_file() => Err(Error::config(
            path.display().to_string(),
            "is not a regular file",
            "name a file; results are written whole and then put in place",
        )),
        _ => Ok(target),
    }
}

/// [`write_atomic`] for bytes that are at hand.
pub fn write_bytes_atomic(path: &Path, bytes: &[u8]) -> Result<()> {
    write_atomic(path, |writer| writer.write_all(bytes).map_err(Error::io(path, "write")))
}

/// Makes the folder `path` through `fill`, which is given a temporary one beside it; a reader sees
/// the whole folder or none. What stands at `path` already is never touched: it is an error.
pub fn write_folder_atomic<T>(path: &Path, fill: impl FnOnce(&Path) -> Result<T>) -> Result<T> {
    let beside = folder_of(path);
    let free = || match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(Error::io(path, "read")(error)),
        Ok(_) => Err(Error::config(
            path.display().to_string(),
            "exists already",
            "give a folder that is not there yet; nothing is written over",
        )),
    };
    free()?;
    let temporary = builder(0o777).tempdir_in(beside).map_err(Error::io(path, "create"))?;
    let filled = fill(temporary.path())?;
    sync_folder(temporary.path())?;
    // Somebody may have made one meanwhile; an empty one would be replaced by the rename.
    free()?;
    let finished = temporary.keep();
    if let Err(error) = disk::rename(&finished, path) {
        let _ = disk::remove_dir_all(&finished);
        return Err(Error::io(path, "rename")(error));
    }
    sync_folder(beside)?;
    Ok(filled)
}

/// Makes names in `folder` survive a power cut.
pub fn sync_folder(folder: &Path) -> Result<()> {
    disk::sync_folder(folder).map_err(Error::io(folder, "sync"))
}

/// Removes what killed processes left in `folder`, and says how many files that were. Only the
/// process that owns the run folder may call it: another's write in progress looks the same.
pub fn remove_leftovers(folder: &Path) -> Result<usize> {
    let mut removed = 0;
    for entry in std::fs::read_dir(folder).map_err(Error::io(folder, "read"))? {
        let entry = entry.map_err(Error::io(folder, "read"))?;
        let name = entry.file_name();
        let ours = name.to_str().is_some_and(|n| n.starts_with(PREFIX) && n.ends_with(SUFFIX));
        if ours {
            disk::remove_file(entry.path()).map_err(Error::io(entry.path(), "remove"))?;
            removed += 1;
        }
    }
    Ok(removed)
}

/// `report.html` alone lies in the current folder.
fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

fn temporary_in(folder: &Path) -> std::io::Result<tempfile::NamedTempFile<File>> {
    builder(0o666).make_in(folder, |path| File::create_new(path))
}

/// The crate makes files and folders for the owner only; results are for whoever the umask allows.
fn builder(mode: u32) -> tempfile::Builder<'static, 'static> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(PREFIX).suffix(SUFFIX);
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        builder.permissions(std::fs::Permissions::from_mode(mode));
    }
    #[cfg(not(unix))]
    let _ = mode;
    builder
}
