//! The header of a safetensors file, checked before anything in it is believed: its length, its
//! depth, the number of tensors, and that their bytes tile the rest of the file exactly.

use std::collections::HashMap;
use std::fmt;
use std::path::Path;

use serde::Deserialize;
use serde::de::{Deserializer, Error as _, IgnoredAny, MapAccess, Visitor};

use crate::error::{Error, Result};

/// The format's own limit for the header.
const MAX_HEADER: u64 = 100_000_000;
/// More tensors than any file has (those of the largest models are shared out), with the metadata.
const MAX_TENSORS: usize = 100_000;
/// The header is an object of objects that hold lists.
const MAX_DEPTH: usize = 4;

/// Where one tensor's bytes are, and how to read them.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub(crate) struct Entry {
    /// `F32`, `BF16`, …
    pub(crate) dtype: String,
    /// Its shape.
    pub(crate) shape: Vec<u64>,
    /// First byte and the byte after the last, from the end of the header.
    pub(crate) data_offsets: (u64, u64),
}

/// A checked header.
#[derive(Debug)]
pub(crate) struct Header {
    /// Tensors by name.
    pub(crate) tensors: HashMap<String, Entry>,
    /// Where in the file the data begin.
    pub(crate) data_start: usize,
}

/// Whether the first bytes are those of a pickle or of the zip file that torch puts pickles in.
/// The byte after the length decides for safetensors: its header begins with a brace.
pub(crate) fn is_pickle(bytes: &[u8]) -> bool {
    let zip = bytes.starts_with(b"PK\x03\x04");
    let pickle = matches!(bytes, [0x80, 2..=5, ..]);
    (zip || pickle) && bytes.get(8) != Some(&b'{')
}

/// Reads and checks the header of a mapped file.
pub(crate) fn read(path: &Path, bytes: &[u8]) -> Result<Header> {
    let damaged = |what: String| Error::input(path, what, "fetch the file again");
    if is_pickle(bytes) {
        return Err(refuse_pickle(path));
    }
    let Some((length, rest)) = bytes.split_first_chunk::<8>() else {
        return Err(damaged(format!("truncated: {} bytes, no safetensors header", bytes.len())));
    };
    let length = u64::from_le_bytes(*length);
    if length > MAX_HEADER {
        return Err(damaged(format!("header of {length} bytes, the format allows {MAX_HEADER}")));
    }
    let size = usize::try_from(length).map_err(|_| damaged("header too long".into()))?;
    let Some((json, data)) = rest.split_at_checked(size) else {
        return Err(damaged(format!(
            "truncated: the header should have {length} bytes, the file has {} more",
            rest.len()
        )));
    };
    check_shape(json).map_err(damaged)?;
    let Entries(tensors) = serde_json::from_slice(json)
        .map_err(|error| damaged(format!("damaged safetensors header: {error}")))?;
    check_layout(&tensors, data.len() as u64).map_err(damaged)?;
    Ok(Header { tensors, data_start: 8 + size })
}

/// What is said about a file that runs code on loading.
pub(crate) fn refuse_pickle(path: &Path) -> Error {
    Error::input(
        path,
        "a pickle, which can run any code on loading; it was not opened",
        "convert it where you trust it: \
         model.save_pretrained(FOLDER, safe_serialization=True), and give that FOLDER",
    )
}

/// Nesting and tensors are counted before parsing, so that a header that is too deep or too long costs
/// neither time nor memory.
fn check_shape(json: &[u8]) -> std::result::Result<(), String> {
    let (mut depth, mut in_text, mut escaped) = (0_usize, false, false);
    let mut tensors = 0_usize;
    for byte in json {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_text => escaped = true,
            b'"' => in_text = !in_text,
            b'{' | b'[' if !in_text => {
                depth += 1;
                tensors += usize::from(depth == 2);
            }
            b'}' | b']' if !in_text => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > MAX_DEPTH {
            return Err(format!("safetensors header nested deeper than {MAX_DEPTH}"));
        }
        if tensors > MAX_TENSORS {
            return Err(format!("more than {MAX_TENSORS} tensors"));
        }
    }
    Ok(())
}

/// Every tensor has the bytes its shape needs, and all of them tile the data without hole or
/// overlap.
fn check_layout(tensors: &HashMap<String, Entry>, size: u64) -> std::result::Result<(), String> {
    let mut spans: Vec<_> =
        tensors.iter().map(|(name, entry)| (entry.data_offsets, name)).collect();
    spans.sort_unstable();
    let mut end = 0;
    for ((first, last), name) in spans {
        if first != end || last < first {
            return Err(format!(
                "tensor '{name}' has bytes {first}..{last}, expected to begin at {end}: \
                 overlapping, reversed or with a hole"
            ));
        }
        end = last;
        if let Some(needed) = bytes_needed(&tensors[name])
            && needed != last - first
        {
            return Err(format!("tensor '{name}' has {} bytes, needs {needed}", last - first));
        }
    }
    if end > size {
        return Err(format!("truncated: the tensors need {end} bytes, the file has {size}"));
    }
    if end < size {
        return Err(format!("{} bytes after the last tensor", size - end));
    }
    Ok(())
}

/// Bytes of a tensor of known type; one whose shape overflows needs more than any file has.
fn bytes_needed(entry: &Entry) -> Option<u64> {
    let width = match entry.dtype.as_str() {
        "F64" | "I64" | "U64" | "C64" => 8,
        "F32" | "I32" | "U32" => 4,
        "F16" | "BF16" | "I16" | "U16" => 2,
        "I8" | "U8" | "BOOL" | "F8_E4M3" | "F8_E5M2" | "F8_E8M0" => 1,
        _ => return None,
    };
    let product = entry.shape.iter().try_fold(width, |product: u64, n| product.checked_mul(*n));
    Some(product.unwrap_or(u64::MAX))
}

/// The tensors of a header; `__metadata__` is skipped, a name that comes twice is an error.
struct Entries(HashMap<String, Entry>);

impl<'de> Deserialize<'de> for Entries {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        deserializer.deserialize_map(EntriesVisitor)
    }
}

struct EntriesVisitor;

impl<'de> Visitor<'de> for EntriesVisitor {
    type Value = Entries;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of tensors")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<Entries, A::Error> {
        let mut tensors = HashMap::new();
        while let Some(name) = map.next_key::<String>()? {
            if name == "__metadata__" {
                map.next_value::<IgnoredAny>()?;
                continue;
            }
            let entry = map.next_value::<Entry>()?;
            if tensors.insert(name.clone(), entry).is_some() {
                return Err(A::Error::custom(format!("tensor '{name}' twice")));
            }
        }
        Ok(Entries(tensors))
    }
}
