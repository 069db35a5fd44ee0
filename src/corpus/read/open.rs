//! Bytes to lines: unpacking with a guard against bombs, and lines of bounded length.

use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::source::Packing;
use crate::disk;
use crate::error::{Error, Result};

/// Longest line that is kept; longer ones are skipped and counted.
pub const MAX_LINE: usize = 64 << 20;

/// Unpacked bytes after which the ratio of output to input is watched.
const WATCHED_FROM: u64 = 64 << 20;

/// Largest ratio of unpacked to packed bytes. Text rarely passes 20; zeros reach 1000 in gzip.
const MAX_RATIO: u64 = 1000;

/// What the guard says; told apart from damage by this text.
const BOMB: &str = "unpacks to over 1000 times its size";

/// What one step of [`Lines`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Line {
    /// A line, in [`Lines::text`].
    Text,
    /// A line that cannot be text, and why.
    Bad(&'static str),
    /// The end of the file.
    End,
}

/// The lines of a file, one at a time, without their ends.
pub struct Lines {
    input: Box<dyn BufRead + Send>,
    path: PathBuf,
    packing: Packing,
    text: String,
    start: u64,
    offset: u64,
    number: u64,
}

impl Lines {
    /// Opens a file, at a byte offset if it is not packed.
    pub fn open(path: &Path, packing: Packing, offset: u64) -> Result<Self> {
        let mut file = disk::File::open(path).map_err(Error::io(path, "read"))?;
        let input: Box<dyn BufRead + Send> = if packing == Packing::Plain {
            if offset > 0 {
                file.seek(SeekFrom::Start(offset)).map_err(Error::io(path, "read"))?;
            }
            Box::new(BufReader::with_capacity(1 << 18, file))
        } else {
            assert_eq!(offset, 0, "packed files are read from their beginning");
            let read = Arc::new(AtomicU64::new(0));
            let packed = BufReader::new(Counted { inner: file, read: Arc::clone(&read) });
            let inner: Box<dyn Read + Send> = if packing == Packing::Gzip {
                Box::new(flate2::bufread::MultiGzDecoder::new(packed))
            } else {
                let decoder = zstd::stream::read::Decoder::with_buffer(packed);
                Box::new(decoder.map_err(Error::io(path, "read"))?)
            };
            Box::new(BufReader::with_capacity(1 << 18, Guarded { inner, read, written: 0 }))
        };
        let path = path.to_path_buf();
        Ok(Self { input, path, packing, text: String::new(), start: offset, offset, number: 0 })
    }

    /// Goes to the next line.
    pub fn advance(&mut self) -> Result<Line> {
        self.start = self.offset;
        let mut bytes = std::mem::take(&mut self.text).into_bytes();
        bytes.clear();
        let over_long = self.read_line(&mut bytes)?;
        if self.offset == self.start {
            return Ok(Line::End);
        }
        self.number += 1;
        if over_long {
            return Ok(Line::Bad("the line is longer than 64 MB"));
        }
        while matches!(bytes.last(), Some(b'\n' | b'\r')) {
            bytes.pop();
        }
        if self.start == 0 && bytes.starts_with(b"\xef\xbb\xbf") {
            bytes.drain(..3);
        }
        if bytes.contains(&0) {
            return Ok(Line::Bad("the line holds a NUL byte"));
        }
        match String::from_utf8(bytes) {
            Ok(text) => self.text = text,
            Err(_) => return Ok(Line::Bad("the line is not UTF-8")),
        }
        Ok(Line::Text)
    }

    /// Reads up to the end of a line; true if it was too long to keep.
    fn read_line(&mut self, bytes: &mut Vec<u8>) -> Result<bool> {
        let mut over_long = false;
        loop {
            let available = match self.input.fill_buf() {
                Ok(available) => available,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(self.refuse(error)),
            };
            if available.is_empty() {
                return Ok(over_long);
            }
            let end = available.iter().position(|byte| *byte == b'\n');
            let used = end.map_or(available.len(), |at| at + 1);
            over_long |= bytes.len() + used > MAX_LINE;
            if over_long {
                bytes.clear();
            } else {
                bytes.extend_from_slice(&available[..used]);
            }
            self.input.consume(used);
            self.offset += used as u64;
            if end.is_some() {
                return Ok(over_long);
            }
        }
    }

    /// Damage in a packed file is the file's fault, not the system's.
    fn refuse(&self, error: io::Error) -> Error {
        if self.packing == Packing::Plain || error.raw_os_error().is_some() {
            return Error::io(&self.path, "read")(error);
        }
        if error.to_string() == BOMB {
            let remedy = "unpack it yourself if it is to be trusted";
            return Error::input(&self.path, BOMB, remedy);
        }
        let what = format!("damaged after line {}: {error}", self.number);
        Error::input(&self.path, what, "pack or fetch the file again")
    }

    /// The line found last, without its end.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Where it begins, in bytes of the unpacked file.
    pub fn start(&self) -> u64 {
        self.start
    }

    /// The same, where one can jump to it.
    pub fn seekable_start(&self) -> Option<u64> {
        (self.packing == Packing::Plain).then_some(self.start)
    }

    /// Its number, from 1 (counted from where the file was opened).
    pub fn number(&self) -> u64 {
        self.number
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// Counts what is read from the disk.
struct Counted {
    inner: disk::File,
    read: Arc<AtomicU64>,
}

impl Read for Counted {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buffer)?;
        self.read.fetch_add(n as u64, Ordering::Relaxed);
        Ok(n)
    }
}

/// Stops when far more comes out than went in.
struct Guarded {
    inner: Box<dyn Read + Send>,
    read: Arc<AtomicU64>,
    written: u64,
}

impl Read for Guarded {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buffer)?;
        self.written += n as u64;
        let allowed = self.read.load(Ordering::Relaxed).saturating_mul(MAX_RATIO);
        if self.written > WATCHED_FROM && self.written > allowed {
            return Err(io::Error::other(BOMB));
        }
        Ok(n)
    }
}
