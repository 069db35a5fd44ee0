//! Reading segments back: every valid record, and word of every damaged one. Nothing in a file is
//! believed before its checksum is seen to be right.

use std::collections::HashMap;
use std::fs;
use std::io::{BufReader, ErrorKind, Read};
use std::path::{Path, PathBuf};

use rayon::prelude::*;

use super::merge::Node;
use super::segment::{
    HEAD, HEADER, MAGIC, MARKER, RecordHead, RunId, SUFFIX, TAIL, VERSION, record_hash,
};
use crate::corpus::block::Counts;
use crate::disk;
use crate::error::{Error, Result};

/// A part of a file that held no valid record, and was left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// The file.
    pub path: PathBuf,
    /// Its first byte.
    pub offset: u64,
    /// What is wrong.
    pub what: &'static str,
}

/// A record with its payload as stored.
pub(super) struct Record {
    pub(super) head: RecordHead,
    pub(super) offset: u64,
    pub(super) stored: Vec<u8>,
}

/// Walks through one segment.
pub struct SegmentReader {
    path: PathBuf,
    file: BufReader<disk::File>,
    /// Of the file's next byte.
    at: u64,
    size: u64,
    offset: u64,
    damage: Vec<Damage>,
}

impl SegmentReader {
    /// Opens a segment of the run `run_id`; those of others are refused.
    pub fn open(path: &Path, run_id: RunId) -> Result<Self> {
        let file = disk::File::open(path).map_err(Error::io(path, "read"))?;
        let size = file.metadata().map_err(Error::io(path, "read"))?.len();
        let mut reader = Self {
            path: path.to_path_buf(),
            file: BufReader::with_capacity(1 << 16, file),
            at: 0,
            size,
            offset: 0,
            damage: Vec::new(),
        };
        let header: Option<[u8; HEADER]> = reader.bytes_at(0)?;
        let Some(header) = header else {
            // An attempt that ended before its first sync.
            reader.end("the file ends inside its header");
            return Ok(reader);
        };
        let (body, crc) = header.split_at(HEADER - 4);
        if crc != crc32c::crc32c(body).to_le_bytes() || body[..8] != MAGIC {
            reader.end("the header is damaged");
            return Ok(reader);
        }
        if body[8..12] != VERSION.to_le_bytes() {
            return Err(Error::input(
                path,
                "a segment of another version of this program",
                "finish the run with that version, or give it a new folder",
            ));
        }
        if body[12..] != run_id {
            return Err(Error::input(
                path,
                "a segment of another run",
                "give each run a folder of its own, or remove the file",
            ));
        }
        reader.offset = HEADER as u64;
        Ok(reader)
    }

    /// What was left out so far.
    pub fn damage(&self) -> &[Damage] {
        &self.damage
    }

    /// The next valid record; damaged parts are stepped over and noted.
    pub(super) fn next_record(&mut self) -> Result<Option<Record>> {
        while self.offset < self.size {
            let offset = self.offset;
            let Some(head) = self.head_at(offset)? else {
                self.note(offset, "no record begins here");
                self.find_head(offset + 1)?;
                continue;
            };
            let rest = self.size - offset - HEAD as u64;
            if head.stored.checked_add(TAIL as u64).is_none_or(|needed| needed > rest) {
                // Cut off while it was written, or the rest of the file is lost. Its head may
                // have outlived an old tail, so what follows is searched all the same.
                self.note(offset, "a record is cut off");
                self.find_head(offset + 1)?;
                continue;
            }
            self.offset = offset + HEAD as u64 + head.stored + TAIL as u64;
            let stored = usize::try_from(head.stored).expect("the file holds it");
            let mut body = vec![0; stored + TAIL];
            self.read_exact_at(offset + HEAD as u64, &mut body)?;
            let crc = body.split_off(stored);
            let want = crc32c::crc32c_append(crc32c::crc32c(&head.encode()), &body);
            if crc == want.to_le_bytes() {
                return Ok(Some(Record { head, offset, stored: body }));
            }
            self.note(offset, "a record does not match its checksum");
        }
        Ok(None)
    }

    /// Goes to the next place from `from` on where a whole record head stands, or to the end.
    fn find_head(&mut self, from: u64) -> Result<()> {
        let mut window = vec![0; 1 << 16];
        let mut start = from;
        while start + HEAD as u64 <= self.size {
            let take = usize::try_from(self.size - start).unwrap_or(usize::MAX).min(window.len());
            self.read_exact_at(start, &mut window[..take])?;
            for at in 0..=take - MARKER.len() {
                let offset = start + at as u64;
                if window[at..].starts_with(&MARKER) && self.head_at(offset)?.is_some() {
                    self.offset = offset;
                    return Ok(());
                }
            }
            // Windows overlap, so that no marker is cut.
            start += (take - MARKER.len() + 1) as u64;
        }
        self.offset = self.size;
        Ok(())
    }

    fn head_at(&mut self, offset: u64) -> Result<Option<RecordHead>> {
        Ok(self.bytes_at::<HEAD>(offset)?.and_then(|bytes| RecordHead::decode(&bytes)))
    }

    /// `N` bytes of the file, if it has them.
    fn bytes_at<const N: usize>(&mut self, offset: u64) -> Result<Option<[u8; N]>> {
        if offset + N as u64 > self.size {
            return Ok(None);
        }
        let mut bytes = [0; N];
        self.read_exact_at(offset, &mut bytes)?;
        Ok(Some(bytes))
    }

    fn read_exact_at(&mut self, offset: u64, bytes: &mut [u8]) -> Result<()> {
        // Relative, for any other seek drops what is buffered, which is most of the next record.
        let distance = offset.cast_signed() - self.at.cast_signed();
        self.file
            .seek_relative(distance)
            .and_then(|()| self.file.read_exact(bytes))
            .map_err(Error::io(&self.path, "read"))?;
        self.at = offset + bytes.len() as u64;
        Ok(())
    }

    fn note(&mut self, offset: u64, what: &'static str) {
        self.damage.push(Damage { path: self.path.clone(), offset, what });
    }

    /// Gives up on the whole file.
    fn end(&mut self, what: &'static str) {
        self.note(0, what);
        self.offset = self.size;
    }
}

/// A valid record found in a folder. Its payload stays on the disk until it is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredNode {
    /// Which blocks.
    pub node: Node,
    /// What went into them.
    pub counts: Counts,
    path: PathBuf,
    offset: u64,
    head: RecordHead,
}

impl StoredNode {
    /// The record at byte `offset` of a file.
    pub(super) fn new(path: &Path, offset: u64, head: RecordHead) -> Self {
        let (node, counts) = (head.node, head.counts);
        Self { node, counts, path: path.to_path_buf(), offset, head }
    }

    /// Reads the payload, and checks it once more. Another attempt may have put its segment into a
    /// new file meanwhile; what it has merged into larger nodes is then gone.
    pub fn payload(&self, run_id: RunId) -> Result<Vec<u8>> {
        let mut reader = match SegmentReader::open(&self.path, run_id) {
            Err(error) if is_gone(&error) => return self.moved_payload(run_id),
            other => other?,
        };
        reader.offset = self.offset;
        match reader.next_record()? {
            Some(record) if record.head == self.head => unpack(&self.path, &record),
            _ => Err(changed(&self.path)),
        }
    }

    /// The payload from whichever other segment of the folder has the record.
    fn moved_payload(&self, run_id: RunId) -> Result<Vec<u8>> {
        let folder = self.path.parent().unwrap_or(Path::new("."));
        for _ in 0..LISTINGS {
            let mut replaced = false;
            for path in segments(folder)? {
                let mut reader = match SegmentReader::open(&path, run_id) {
                    Err(error) if is_gone(&error) => {
                        replaced = true;
                        continue;
                    }
                    other => other?,
                };
                while let Some(record) = reader.next_record()? {
                    if record.head == self.head {
                        return unpack(&path, &record);
                    }
                }
            }
            if !replaced {
                break;
            }
        }
        let blocks = self.node.blocks();
        let what = format!("another attempt has merged blocks {blocks:?} into larger states");
        Err(Error::Unfinished { what })
    }
}

/// Whether a file is not there (any more).
fn is_gone(error: &Error) -> bool {
    matches!(error, Error::Io { source, .. } if source.kind() == ErrorKind::NotFound)
}

/// Times that segments are listed again, because some were replaced while they were read.
const LISTINGS: usize = 20;

/// What the segments of a folder hold together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Loaded {
    /// The largest valid nodes, in the order of their blocks; no two overlap.
    pub nodes: Vec<StoredNode>,
    /// What could not be used. An attempt that was killed leaves a cut off record: nothing is
    /// wrong with that, its block is done again.
    pub damage: Vec<Damage>,
}

/// The union of all segments of `folder`. A folder that is not there is empty.
///
/// Records of one node must agree to the bit, else something is broken (exit code 70).
pub fn load_folder(folder: &Path, run_id: RunId) -> Result<Loaded> {
    load_folders(&[folder.to_path_buf()], run_id)
}

/// As [`load_folder`], of several folders. Attempts may be writing to them: where one puts its segment
/// into a new file meanwhile, everything is read again.
pub fn load_folders(folders: &[PathBuf], run_id: RunId) -> Result<Loaded> {
    for _ in 1..LISTINGS {
        match load_listed(folders, run_id) {
            Err(error) if is_gone(&error) => {}
            other => return other,
        }
    }
    load_listed(folders, run_id)
}

fn load_listed(folders: &[PathBuf], run_id: RunId) -> Result<Loaded> {
    let mut loaded = Loaded::default();
    let mut found: HashMap<Node, StoredNode> = HashMap::new();
    let mut paths = Vec::new();
    for folder in folders {
        paths.append(&mut segments(folder)?);
    }
    // Side by side, then put together in the order of their names.
    let read: Vec<Result<_>> = paths.par_iter().map(|path| records(path, run_id)).collect();
    for of_file in read {
        let (nodes, mut damage) = of_file?;
        loaded.damage.append(&mut damage);
        for stored in nodes {
            if let Some(other) = found.get(&stored.node) {
                agree(other, &stored)?;
            } else {
                found.insert(stored.node, stored);
            }
        }
    }
    // By first block, larger first: a node is covered if one already kept reaches as far.
    let mut nodes: Vec<StoredNode> = found.into_values().collect();
    nodes.sort_by_key(|stored| (stored.node.blocks().start, std::cmp::Reverse(stored.node.level)));
    let mut end = 0;
    for stored in nodes {
        if stored.node.blocks().end > end {
            end = stored.node.blocks().end;
            loaded.nodes.push(stored);
        }
    }
    Ok(loaded)
}

/// The records of a file whose checksums are right. Payloads are not unpacked here: [`StoredNode::payload`]
/// holds each to its hash when it is used.
fn records(path: &Path, run_id: RunId) -> Result<(Vec<StoredNode>, Vec<Damage>)> {
    let mut reader = SegmentReader::open(path, run_id)?;
    let mut nodes = Vec::new();
    while let Some(record) = reader.next_record()? {
        nodes.push(StoredNode::new(path, record.offset, record.head));
    }
    Ok((nodes, reader.damage))
}

/// The segment files of a folder, by name.
fn segments(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(Error::io(folder, "read")(error)),
    };
    let mut paths = Vec::new();
    for entry in entries {
        let path = entry.map_err(Error::io(folder, "read"))?.path();
        if path.extension().is_some_and(|suffix| suffix == SUFFIX) {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

/// Two records of one node: the same work done twice gives the same bits.
fn agree(a: &StoredNode, b: &StoredNode) -> Result<()> {
    if a.head.hash == b.head.hash {
        return Ok(());
    }
    Err(Error::Contradiction {
        what: format!(
            "blocks {:?} have different results in {} (byte {}) and {} (byte {}): the program or \
             a machine that ran it is at fault",
            a.node.blocks(),
            a.path.display(),
            a.offset,
            b.path.display(),
            b.offset
        ),
    })
}

/// The payload as it was given, if it has its length and hash.
fn unpack(path: &Path, record: &Record) -> Result<Vec<u8>> {
    // Read up to the length in the head and no further: no record can fill the memory with
    // more than it says, nor with what it says alone.
    let mut payload = Vec::new();
    zstd::Decoder::new(record.stored.as_slice())
        .and_then(|decoder| {
            decoder.take(record.head.length.saturating_add(1)).read_to_end(&mut payload)
        })
        .map_err(|_| changed(path))?;
    let hash = record_hash(record.head.node, &record.head.counts, &payload);
    if payload.len() as u64 != record.head.length || hash != record.head.hash {
        return Err(changed(path));
    }
    Ok(payload)
}

fn changed(path: &Path) -> Error {
    Error::input(
        path,
        "a record is damaged, or was changed while it was read",
        "remove this file and run the same command again: its blocks are done again",
    )
}
