//! Segments: the append-only files in which an attempt keeps the states of its finished blocks.
//!
//! A file is written by one attempt alone, under a name of its own, and never changed in place. It
//! is a header of magic, version, run id and their CRC32C, then records: a head,
//! the payload (zstd), and the CRC32C of both. The head has a CRC32C of its own, so that its
//! lengths can be believed; a record counts only when everything about it is right. All numbers
//! are little-endian.

use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::merge::Node;
use super::segment_reader::{SegmentReader, StoredNode};
use crate::accumulate::run::{counts_from_slice, counts_to_array};
use crate::corpus::block::Counts;
use crate::disk::{self, File};
use crate::error::{Error, Result};

/// Who made a run: a hash of everything that may change a number.
pub type RunId = [u8; 32];

/// First bytes of a segment.
pub(super) const MAGIC: [u8; 8] = *b"ELECTSEG";
/// Of the layout; raised when it changes.
pub(super) const VERSION: u32 = 1;
/// Bytes before the first record: magic, version, run id, CRC32C.
pub(super) const HEADER: usize = 8 + 4 + 32 + 4;
/// First bytes of a record.
pub(super) const MARKER: [u8; 8] = *b"\xe1record\n";
/// Bytes of a record before its payload.
pub(super) const HEAD: usize = 8 + 8 + 8 + 8 + 8 + 80 + 32 + 4;
/// Bytes after the payload.
pub(super) const TAIL: usize = 4;
/// Suffix of segment files.
pub(super) const SUFFIX: &str = "seg";

/// What a record says of its payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RecordHead {
    /// Bytes of the payload as stored.
    pub(super) stored: u64,
    /// Bytes of the payload as given.
    pub(super) length: u64,
    pub(super) node: Node,
    pub(super) counts: Counts,
    /// BLAKE3 of node, counts and payload as given.
    pub(super) hash: [u8; 32],
}

impl RecordHead {
    /// Bytes of the whole record.
    fn record_bytes(&self) -> u64 {
        (HEAD + TAIL) as u64 + self.stored
    }

    pub(super) fn encode(&self) -> [u8; HEAD] {
        let mut bytes = Vec::with_capacity(HEAD);
        bytes.extend_from_slice(&MARKER);
        bytes.extend_from_slice(&self.stored.to_le_bytes());
        bytes.extend_from_slice(&self.length.to_le_bytes());
        bytes.extend_from_slice(&place(self.node, &self.counts));
        bytes.extend_from_slice(&self.hash);
        bytes.extend_from_slice(&crc32c::crc32c(&bytes).to_le_bytes());
        bytes.try_into().expect("the fields fill a head")
    }

    /// Reads a head whose checksum is right and whose node is a place in the tree.
    pub(super) fn decode(bytes: &[u8; HEAD]) -> Option<Self> {
        let (body, crc) = bytes.split_at(HEAD - 4);
        if body[..8] != MARKER || crc != crc32c::crc32c(body).to_le_bytes() {
            return None;
        }
        let numbers: Vec<u64> = body[8..HEAD - 36]
            .chunks_exact(8)
            .map(|number| u64::from_le_bytes(number.try_into().expect("eight bytes")))
            .collect();
        let node =
            Node { level: u8::try_from(numbers[2]).ok()?, index: u32::try_from(numbers[3]).ok()? };
        node.is_valid().then_some(Self {
            stored: numbers[0],
            length: numbers[1],
            node,
            counts: counts_from_slice(&numbers[4..]),
            hash: body[HEAD - 36..].try_into().expect("32 bytes"),
        })
    }
}

/// Node and counts as they are stored and hashed.
fn place(node: Node, counts: &Counts) -> Vec<u8> {
    let node = [u64::from(node.level), u64::from(node.index)];
    node.into_iter().chain(counts_to_array(counts)).flat_map(u64::to_le_bytes).collect()
}

/// What two records of one node must agree in.
pub(super) fn record_hash(node: Node, counts: &Counts, payload: &[u8]) -> [u8; 32] {
    *blake3::Hasher::new().update(&place(node, counts)).update(payload).finalize().as_bytes()
}

/// A record as it will be stored: made without the file, by any thread.
pub(super) struct Packed {
    head: RecordHead,
    stored: Vec<u8>,
}

impl Packed {
    /// The state of a node.
    pub(super) fn new(node: Node, counts: &Counts, payload: &[u8]) -> io::Result<Self> {
        assert!(node.is_valid(), "{node:?} is no place in the tree");
        // Level 1: histograms and empty classes are mostly zeros, and shrink several times.
        let stored = zstd::bulk::compress(payload, 1)?;
        let head = RecordHead {
            stored: stored.len() as u64,
            length: payload.len() as u64,
            node,
            counts: *counts,
            hash: record_hash(node, counts, payload),
        };
        Ok(Self { head, stored })
    }
}

/// Appends records to a segment of its own.
///
/// After any failed write or sync it refuses all further work: what the system holds of the file
/// is then unknown, and asking a second time may lie (fsync clears the error it reports).
pub struct SegmentWriter {
    folder: PathBuf,
    path: PathBuf,
    run_id: RunId,
    file: File,
    /// Set by the first failure.
    broken: bool,
    /// Records written, in order; those of covered nodes are dead.
    written: Vec<RecordHead>,
}

impl std::fmt::Debug for SegmentWriter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SegmentWriter").field("path", &self.path).finish_non_exhaustive()
    }
}

impl SegmentWriter {
    /// Makes a new file in `folder` (made as well if it is not there) and puts it on the disk.
    pub fn create(folder: &Path, run_id: RunId) -> Result<Self> {
        disk::create_dir_all(folder).map_err(Error::io(folder, "create"))?;
        let (path, file) = create_file(folder)?;
        let mut writer = Self::over(file, path, run_id)?;
        writer.sync()?;
        sync_folder(folder)?;
        Ok(writer)
    }

    /// Begins a segment in an empty file.
    fn over(file: File, path: PathBuf, run_id: RunId) -> Result<Self> {
        let folder = path.parent().map(Path::to_path_buf).unwrap_or_default();
        let mut writer = Self { folder, path, run_id, file, broken: false, written: Vec::new() };
        let mut header = Vec::with_capacity(HEADER);
        header.extend_from_slice(&MAGIC);
        header.extend_from_slice(&VERSION.to_le_bytes());
        header.extend_from_slice(&run_id);
        header.extend_from_slice(&crc32c::crc32c(&header).to_le_bytes());
        writer.write(&[&header])?;
        Ok(writer)
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Appends the state of a node. It is safe only after [`Self::sync`].
    pub fn append(&mut self, node: Node, counts: &Counts, payload: &[u8]) -> Result<()> {
        let packed = Packed::new(node, counts, payload);
        self.append_packed(packed.map_err(Error::io(&self.path, "compress for"))?)
    }

    /// The same, packed beforehand.
    pub(super) fn append_packed(&mut self, packed: Packed) -> Result<()> {
        self.append_stored(&packed.head, &packed.stored)
    }

    /// Appends a record whose payload is compressed already.
    fn append_stored(&mut self, head: &RecordHead, stored: &[u8]) -> Result<()> {
        let bytes = head.encode();
        let crc = crc32c::crc32c_append(crc32c::crc32c(&bytes), stored);
        self.write(&[&bytes, stored, &crc.to_le_bytes()])?;
        self.written.push(*head);
        Ok(())
    }

    /// Forces everything appended so far to the disk.
    pub fn sync(&mut self) -> Result<()> {
        self.guarded("sync", |file| file.sync_data())
    }

    fn write(&mut self, parts: &[&[u8]]) -> Result<()> {
        self.guarded("write", |file| parts.iter().try_for_each(|part| file.write_all(part)))
    }

    /// Does something to the file, once and for all if it fails.
    fn guarded(
        &mut self,
        action: &'static str,
        work: impl FnOnce(&mut File) -> io::Result<()>,
    ) -> Result<()> {
        if self.broken {
            let source = io::Error::other("an earlier write or sync of this file failed");
            return Err(Error::Io { path: self.path.clone(), action, source });
        }
        let result = work(&mut self.file);
        self.broken = result.is_err();
        result.map_err(Error::io(&self.path, action))
    }

    /// Removes the file.
    pub fn remove(self) -> Result<()> {
        disk::remove_file(&self.path).map_err(Error::io(&self.path, "remove"))?;
        sync_folder(&self.folder)
    }

    /// Where a node's last record stands, if this file has it.
    pub fn stored(&self, node: Node) -> Option<StoredNode> {
        let at = self.written.iter().rposition(|head| head.node == node)?;
        let before: u64 = self.written[..at].iter().map(RecordHead::record_bytes).sum();
        Some(StoredNode::new(&self.path, HEADER as u64 + before, self.written[at]))
    }

    /// Whether records covered by larger nodes take more than four times the room of the others.
    pub fn should_rotate(&self) -> bool {
        let (mut live, mut dead) = (0, 0);
        let nodes: HashSet<Node> = self.written.iter().map(|head| head.node).collect();
        let mut later = HashSet::new();
        for head in self.written.iter().rev() {
            let above = head.node.above().any(|node| nodes.contains(&node));
            let covered = above || !later.insert(head.node);
            *(if covered { &mut dead } else { &mut live }) += head.record_bytes();
        }
        dead > 4 * live
    }

    /// Goes on in a new file that holds the live records alone, and removes the old one once the
    /// new one is on the disk.
    pub fn rotate(mut self) -> Result<Self> {
        self.sync()?;
        let mut next = Self::create(&self.folder, self.run_id)?;
        let mut reader = SegmentReader::open(&self.path, self.run_id)?;
        let mut kept: Vec<Node> = Vec::new();
        // From the end: a record is dead if a later one covers it.
        for &RecordHead { node, .. } in self.written.iter().rev() {
            let covers = |other: &RecordHead| other.node.covers(node) && other.node != node;
            if !self.written.iter().any(covers) && !kept.contains(&node) {
                kept.push(node);
            }
        }
        while let Some(record) = reader.next_record()? {
            if let Some(at) = kept.iter().position(|node| *node == record.head.node) {
                kept.swap_remove(at);
                next.append_stored(&record.head, &record.stored)?;
            }
        }
        if !kept.is_empty() {
            return Err(Error::input(
                &self.path,
                format!("records just written cannot be read back: {kept:?}"),
                "check the disk, then run the same command again, it resumes",
            ));
        }
        next.sync()?;
        disk::remove_file(&self.path).map_err(Error::io(&self.path, "remove"))?;
        sync_folder(&self.folder)?;
        Ok(next)
    }
}

/// A new file under a name that nobody else has.
fn create_file(folder: &Path) -> Result<(PathBuf, File)> {
    loop {
        // The standard library seeds every `RandomState` of a process differently, and at random.
        let random = RandomState::new().hash_one(std::process::id());
        let path = folder.join(format!("attempt-{random:016x}.{SUFFIX}"));
        match File::create_new(&path) {
            Ok(file) => return Ok((path, file)),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(Error::io(&path, "create")(error)),
        }
    }
}

/// Puts the names in a folder on the disk.
fn sync_folder(folder: &Path) -> Result<()> {
    disk::sync_folder(folder).map_err(Error::io(folder, "sync"))
}

#[cfg(test)]
mod tests {
    //! Oracle: a disk that fails on request, and counts what it is asked.
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::disk::{Act, Watcher, watch};

    #[derive(Default)]
    struct Asked {
        writes: usize,
        syncs: usize,
    }

    struct Failing {
        asked: Arc<Mutex<Asked>>,
        fail_write: usize,
        fail_sync: usize,
    }

    impl Watcher for Failing {
        fn before(&self, _: &Path, act: Act<'_>) -> io::Result<Option<usize>> {
            let mut asked = self.asked.lock().expect("nobody panics");
            match act {
                Act::Write(_) => asked.writes += 1,
                Act::Sync => asked.syncs += 1,
                _ => return Ok(None),
            }
            match act {
                Act::Write(_) if asked.writes == self.fail_write => {
                    Err(io::ErrorKind::StorageFull.into())
                }
                Act::Sync if asked.syncs == self.fail_sync => Err(io::Error::other("lost")),
                _ => Ok(None),
            }
        }
    }

    fn failing(fail_write: usize, fail_sync: usize) -> (Arc<Mutex<Asked>>, Arc<Failing>) {
        let asked = Arc::new(Mutex::new(Asked::default()));
        (Arc::clone(&asked), Arc::new(Failing { asked, fail_write, fail_sync }))
    }

    #[test]
    fn a_failed_sync_is_never_repeated() {
        let folder = tempfile::TempDir::new().expect("a temporary folder");
        // The first is that of the header.
        let (asked, failing) = failing(0, 3);
        let _watch = watch(folder.path(), failing);
        let mut writer = SegmentWriter::create(folder.path(), [0; 32]).unwrap();
        writer.append(Node::block(0), &Counts::default(), b"a").unwrap();
        writer.sync().unwrap();
        let failure = writer.sync().unwrap_err();
        assert_eq!(failure.exit_code(), 74);
        let writes = asked.lock().unwrap().writes;
        assert_eq!(writer.sync().unwrap_err().exit_code(), 74);
        let append = writer.append(Node::block(1), &Counts::default(), b"b");
        assert_eq!(append.unwrap_err().exit_code(), 74);
        let asked = asked.lock().unwrap();
        assert_eq!((asked.syncs, asked.writes), (3, writes), "the file was touched again");
    }

    #[test]
    fn a_failed_write_is_the_last() {
        for fail_write in 2..=4 {
            let folder = tempfile::TempDir::new().expect("a temporary folder");
            let (asked, failing) = failing(fail_write, 0);
            let _watch = watch(folder.path(), failing);
            let mut writer = SegmentWriter::create(folder.path(), [0; 32]).unwrap();
            let first = writer.append(Node::block(0), &Counts::default(), b"a");
            assert_eq!(first.unwrap_err().exit_code(), 74);
            assert!(writer.append(Node::block(1), &Counts::default(), b"b").is_err());
            assert!(writer.sync().is_err());
            assert_eq!(asked.lock().unwrap().writes, fail_write);
            assert_eq!(asked.lock().unwrap().syncs, 1);
        }
    }
}
