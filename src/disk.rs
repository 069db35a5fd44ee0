//! The disk: whatever this program opens, writes, renames or removes, it does here.
//!
//! So that tests can make the k-th call fail, or write down what a power cut would leave: a
//! [`Watcher`] is told of every call below a folder. Without one, a call is the system's own and one
//! look at a counter. Calls that a signal interrupted are made again, as the standard library does.

use std::fs::{Metadata, TryLockError};
use std::io::{self, ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, RwLock};

/// One call.
#[derive(Clone, Copy, Debug)]
pub enum Act<'a> {
    /// Opens a file to read it.
    Open,
    /// Makes a file, or empties the one that is there.
    Create,
    /// Opens a file to write behind its end, and makes it where there is none.
    Append,
    /// Writes these bytes behind those that were written before.
    Write(&'a [u8]),
    /// Writes these bytes at this place.
    WriteAt(&'a [u8], u64),
    /// Forces the bytes of a file to the disk.
    Sync,
    /// Maps a file into memory.
    Map,
    /// Gives a file or folder this other path.
    Rename(&'a Path),
    /// Gives a file this second path.
    Link(&'a Path),
    /// Removes a file.
    Remove,
    /// Makes a folder and those above it.
    CreateFolder,
    /// Removes a folder with all that is in it.
    RemoveFolder,
    /// Forces the names in a folder to the disk.
    SyncFolder,
}

/// Is told of calls, and may make them fail.
pub trait Watcher: Send + Sync {
    /// Before a call: an error takes its place; a number lets no more bytes than that be written.
    fn before(&self, path: &Path, act: Act<'_>) -> io::Result<Option<usize>> {
        let _ = (path, act);
        Ok(None)
    }
    /// After a call that went well; a write with the bytes that were taken.
    fn after(&self, path: &Path, act: Act<'_>) {
        let _ = (path, act);
    }
}

type Watched = (usize, PathBuf, Arc<dyn Watcher>);

/// How many there are, so that nobody else pays for them.
static COUNT: AtomicUsize = AtomicUsize::new(0);
static WATCHERS: RwLock<Vec<Watched>> = RwLock::new(Vec::new());

/// As long as it lives, its watcher is told.
#[derive(Debug)]
pub struct Watch(usize);

/// Tells `watcher` of every call on what is below `folder`, from all threads of this process.
pub fn watch(folder: &Path, watcher: Arc<dyn Watcher>) -> Watch {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let mut all = WATCHERS.write().unwrap_or_else(std::sync::PoisonError::into_inner);
    all.push((number, folder.to_path_buf(), watcher));
    COUNT.store(all.len(), Ordering::Release);
    Watch(number)
}

impl Drop for Watch {
    fn drop(&mut self) {
        let mut all = WATCHERS.write().unwrap_or_else(std::sync::PoisonError::into_inner);
        all.retain(|(number, ..)| *number != self.0);
        COUNT.store(all.len(), Ordering::Release);
    }
}

/// Who is told of what happens to `path`.
fn watchers(path: &Path) -> Vec<Arc<dyn Watcher>> {
    if COUNT.load(Ordering::Acquire) == 0 {
        return Vec::new();
    }
    let all = WATCHERS.read().unwrap_or_else(std::sync::PoisonError::into_inner);
    let below = all.iter().filter(|(_, folder, _)| path.starts_with(folder));
    below.map(|(.., watcher)| Arc::clone(watcher)).collect()
}

/// Makes a call, and makes it again as long as signals interrupt it.
fn call<T>(path: &Path, act: Act<'_>, mut work: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    let told = watchers(path);
    loop {
        let before = told.iter().try_for_each(|watcher| watcher.before(path, act).map(drop));
        match before.and_then(|()| work()) {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
            Ok(done) => {
                told.iter().for_each(|watcher| watcher.after(path, act));
                return Ok(done);
            }
        }
    }
}

/// The system's own file, of which nobody is told any more.
pub type SystemFile = std::fs::File;

/// An open file that knows its path.
#[derive(Debug)]
pub struct File {
    file: std::fs::File,
    path: PathBuf,
}

impl File {
    fn made(path: &Path, act: Act<'_>, options: &std::fs::OpenOptions) -> io::Result<Self> {
        let file = call(path, act, || options.open(path))?;
        Ok(Self { file, path: path.to_path_buf() })
    }

    /// Opens a file to read it.
    pub fn open(path: impl AsRef<Path>) -> io::Result<Self> {
        Self::made(path.as_ref(), Act::Open, std::fs::File::options().read(true))
    }

    /// Makes a file to be written and read, or empties the one that is there.
    pub fn create(path: impl AsRef<Path>) -> io::Result<Self> {
        let mut options = std::fs::File::options();
        Self::made(
            path.as_ref(),
            Act::Create,
            options.read(true).write(true).create(true).truncate(true),
        )
    }

    /// Makes a file that must not be there yet.
    pub fn create_new(path: impl AsRef<Path>) -> io::Result<Self> {
        let mut options = std::fs::File::options();
        Self::made(path.as_ref(), Act::Create, options.read(true).write(true).create_new(true))
    }

    /// Opens a file to write behind its end, and makes it where there is none.
    pub fn append(path: impl AsRef<Path>) -> io::Result<Self> {
        Self::made(path.as_ref(), Act::Append, std::fs::File::options().append(true).create(true))
    }

    /// Its size and times.
    pub fn metadata(&self) -> io::Result<Metadata> {
        self.file.metadata()
    }

    /// Forces bytes, size and times to the disk.
    pub fn sync_all(&self) -> io::Result<()> {
        call(&self.path, Act::Sync, || self.file.sync_all())
    }

    /// Forces bytes and size to the disk.
    pub fn sync_data(&self) -> io::Result<()> {
        call(&self.path, Act::Sync, || self.file.sync_data())
    }

    /// Another handle of the same file.
    pub fn try_clone(&self) -> io::Result<Self> {
        Ok(Self { file: self.file.try_clone()?, path: self.path.clone() })
    }

    /// Takes the lock of the file, if nobody has it.
    pub fn try_lock(&self) -> std::result::Result<(), TryLockError> {
        self.file.try_lock()
    }

    /// The system's file, for those who only read it.
    pub fn into_std(self) -> SystemFile {
        self.file
    }

    /// Lends the system's file to what maps it.
    pub fn to_map(&self) -> io::Result<&SystemFile> {
        call(&self.path, Act::Map, || Ok(()))?;
        Ok(&self.file)
    }

    /// Writes all of `bytes` at a place of the file.
    #[cfg(unix)]
    pub fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        use std::os::unix::fs::FileExt as _;
        call(&self.path, Act::WriteAt(bytes, offset), || self.file.write_all_at(bytes, offset))
    }

    /// Fills `bytes` from a place of the file.
    #[cfg(unix)]
    pub fn read_exact_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<()> {
        std::os::unix::fs::FileExt::read_exact_at(&self.file, bytes, offset)
    }
}

impl Read for File {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        self.file.read(bytes)
    }
}

impl Seek for File {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.file.seek(to)
    }
}

impl Write for File {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let told = watchers(&self.path);
        let mut most = bytes.len();
        for watcher in &told {
            let limit = watcher.before(&self.path, Act::Write(bytes))?;
            most = most.min(limit.unwrap_or(most));
        }
        let taken = self.file.write(&bytes[..most])?;
        told.iter().for_each(|watcher| watcher.after(&self.path, Act::Write(&bytes[..taken])));
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// The whole of a file.
pub fn read(path: impl AsRef<Path>) -> io::Result<Vec<u8>> {
    let path = path.as_ref();
    call(path, Act::Open, || std::fs::read(path))
}

/// The whole of a file of UTF-8.
pub fn read_to_string(path: impl AsRef<Path>) -> io::Result<String> {
    let path = path.as_ref();
    call(path, Act::Open, || std::fs::read_to_string(path))
}

/// Gives a file or folder another path; a file that is there already is replaced.
pub fn rename(from: impl AsRef<Path>, to: impl AsRef<Path>) -> io::Result<()> {
    let (from, to) = (from.as_ref(), to.as_ref());
    call(from, Act::Rename(to), || std::fs::rename(from, to))
}

/// Gives a file a second path.
pub fn hard_link(from: impl AsRef<Path>, to: impl AsRef<Path>) -> io::Result<()> {
    let (from, to) = (from.as_ref(), to.as_ref());
    call(from, Act::Link(to), || std::fs::hard_link(from, to))
}

/// Copies a file to a path where no other is, and forces it to the disk.
pub fn copy(from: impl AsRef<Path>, to: impl AsRef<Path>) -> io::Result<()> {
    let (from, to) = (from.as_ref(), to.as_ref());
    let (mut from, mut to) = (File::open(from)?, File::create_new(to)?);
    io::copy(&mut from, &mut to)?;
    to.sync_all()
}

/// Removes a file.
pub fn remove_file(path: impl AsRef<Path>) -> io::Result<()> {
    let path = path.as_ref();
    call(path, Act::Remove, || std::fs::remove_file(path))
}

/// Makes a folder and those above it, as far as they are not there.
pub fn create_dir_all(path: impl AsRef<Path>) -> io::Result<()> {
    let path = path.as_ref();
    call(path, Act::CreateFolder, || std::fs::create_dir_all(path))
}

/// Removes a folder with all that is in it.
pub fn remove_dir_all(path: impl AsRef<Path>) -> io::Result<()> {
    let path = path.as_ref();
    call(path, Act::RemoveFolder, || std::fs::remove_dir_all(path))
}

/// Makes names in a folder survive a power cut.
pub fn sync_folder(path: impl AsRef<Path>) -> io::Result<()> {
    let path = path.as_ref();
    call(path, Act::SyncFolder, || std::fs::File::open(path)?.sync_all())
}
