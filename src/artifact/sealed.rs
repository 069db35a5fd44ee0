//! JSON files that hold a hash of themselves: one changed bit of a plan would change a number in
//! silence, so what does not fit its hash is refused.

use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::atomic::write_bytes_atomic;
use super::manifest::json_bytes;
use crate::error::{Error, Result};
use crate::hash::blake3_of_bytes;

/// The field that is added.
const FIELD: &str = "blake3";
/// What stands before its value: fields of the outermost object, and only they, are two spaces deep,
/// and no text of JSON holds a line break.
const BEFORE: &str = "\n  \"blake3\": \"";
/// What stands in its place while the hash is taken.
const BLANK: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// Writes a struct as [`super::manifest::write_json_atomic`] does, with the field `blake3`: the hash of
/// all bytes of the file, with 64 zeros in its own place.
///
/// # Panics
/// If the value is no struct.
pub fn write_sealed<T: Serialize>(path: &Path, value: &T) -> Result<()> {
    let failed = |e: serde_json::Error| Error::io(path, "write")(e.into());
    let mut value = serde_json::to_value(value).map_err(failed)?;
    value.as_object_mut().expect("a struct").insert(FIELD.to_owned(), BLANK.into());
    let mut bytes = json_bytes(path, &value)?;
    let hash = blake3_of_bytes(&bytes);
    let at = place(&bytes).expect("just put there");
    bytes[at..at + BLANK.len()].copy_from_slice(hash.as_bytes());
    write_bytes_atomic(path, &bytes)
}

/// Reads what [`write_sealed`] wrote, whose bytes these are. Whatever was changed is an input error
/// with this remedy.
pub fn read_sealed<T: DeserializeOwned>(path: &Path, bytes: &[u8], remedy: &str) -> Result<T> {
    let damaged = |what: String| Error::input(path, format!("damaged: {what}"), remedy);
    let at = place(bytes).ok_or_else(|| damaged("it does not end as it was written".to_owned()))?;
    let mut blank = bytes.to_vec();
    blank[at..at + BLANK.len()].copy_from_slice(BLANK.as_bytes());
    if blake3_of_bytes(&blank).as_bytes() != &bytes[at..at + BLANK.len()] {
        return Err(damaged("it was changed since it was written".to_owned()));
    }
    serde_json::from_slice(bytes).map_err(|error| damaged(error.to_string()))
}

/// Where the hash stands.
fn place(bytes: &[u8]) -> Option<usize> {
    let before = BEFORE.as_bytes();
    let at = bytes.windows(before.len()).position(|window| window == before)? + before.len();
    (bytes.get(at + BLANK.len()) == Some(&b'"')).then_some(at)
}

#[cfg(test)]
mod tests {
    //! Oracle: the bytes that were written; every bit is changed.

    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn every_changed_bit_is_found() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("plan.json");
        let value = json!({"a": {"blake3": "x"}, "seed": 3, "z": "\n  \"blake3\": \""});
        write_sealed(&path, &value).expect("written");
        let mut bytes = std::fs::read(&path).expect("there");
        let back: Value = read_sealed(&path, &bytes, "r").expect("unchanged");
        assert_eq!(
            (&back["a"], &back["seed"], &back["z"]),
            (&value["a"], &value["seed"], &value["z"])
        );
        for bit in 0..8 * bytes.len() {
            bytes[bit / 8] ^= 1 << (bit % 8);
            let error = read_sealed::<Value>(&path, &bytes, "r").expect_err("found");
            assert_eq!(error.exit_code(), 65, "bit {bit}");
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
        for length in 0..bytes.len() {
            assert!(read_sealed::<Value>(&path, &bytes[..length], "r").is_err(), "{length} bytes");
        }
    }
}
