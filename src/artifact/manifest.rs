//! `manifest.json`: what ran over what, where, and what came out, so that a result can be judged
//! and made again. Keys are sorted; no host name, no environment beyond an allow-list.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::atomic::write_bytes_atomic;
use super::machine::Machine;
use super::secrets::mask;
use crate::corpus::block::Counts;
use crate::disk;
use crate::error::{Error, Result};
use crate::hash::{blake3_of_bytes, blake3_of_file};

/// File name in a run folder.
pub const MANIFEST: &str = "manifest.json";
/// Value of `format`; readers refuse another one.
pub const FORMAT: &str = "electrode.run/1";

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// [`FORMAT`].
    pub format: String,
    /// Hash of everything that may change a number.
    pub run_id: String,
    /// The program.
    pub electrode: Program,
    /// The resolved run file.
    pub config: Value,
    /// blake3 of `config` as compact JSON with sorted keys.
    pub config_hash: String,
    /// The model.
    pub model: ModelFacts,
    /// The corpus.
    pub corpus: CorpusFacts,
    /// The label columns and their classes.
    pub labels: Vec<LabelFacts>,
    /// Watched sites in forward order, with their number of neurons.
    pub sites: Vec<SiteFacts>,
    /// How the work was cut.
    pub plan: PlanFacts,
    /// What it ran on.
    pub machine: Machine,
    /// The devices that computed, by name; the arithmetic of all of them is of one kind.
    #[serde(default)]
    pub devices: Vec<DeviceFacts>,
    /// When, and how fast.
    pub timings: Timings,
    /// Allowed variables only, secrets masked.
    pub environment: BTreeMap<String, String>,
    /// What a reader of the rankings must know: dropped classes, approximations.
    #[serde(default)]
    pub notes: Vec<String>,
    /// The other files of the run folder.
    pub outputs: Vec<FileFacts>,
}

/// The program that ran.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Program {
    /// Its version.
    pub version: String,
    /// Commit it was built from, if the build was told.
    pub git: Option<String>,
    /// `debug` or `release`.
    pub build: String,
}

impl Default for Program {
    fn default() -> Self {
        Self {
            version: env!("CARGO_PKG_VERSION").to_string(),
            git: option_env!("ELECTRODE_GIT_HASH").map(str::to_string),
            build: if cfg!(debug_assertions) { "debug" } else { "release" }.to_string(),
        }
    }
}

/// A file and what is in it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct FileFacts {
    /// Its name: as the user wrote it for inputs, inside the run folder for outputs.
    pub name: String,
    /// Its size.
    pub bytes: u64,
    /// SHA-256 in hex for weights, which others compare with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// blake3 in hex for corpora and outputs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blake3: Option<String>,
}

impl FileFacts {
    /// Size and blake3 of `folder/name`.
    pub fn output(folder: &Path, name: &str) -> Result<Self> {
        let (bytes, hash) = blake3_of_file(&folder.join(name))?;
        Ok(Self { name: name.to_string(), bytes, sha256: None, blake3: Some(hash) })
    }
}

/// The model.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ModelFacts {
    /// As the run file names it.
    pub path: String,
    /// Its files.
    pub files: Vec<FileFacts>,
    /// Of the forward pass.
    pub dtype: String,
    /// Its architecture.
    pub architecture: String,
    /// Blocks.
    pub layers: u64,
    /// Width of the stream.
    pub width: u64,
    /// Watched neurons, over all watched sites.
    pub neurons: u64,
    /// Parameters.
    pub parameters: u64,
    /// SHA-256 of `tokenizer.json`.
    pub tokenizer_hash: Option<String>,
}

/// The corpus.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CorpusFacts {
    /// Its files.
    pub files: Vec<FileFacts>,
    /// What was read, and what was lost on the way.
    pub counts: Counts,
}

/// A label column.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct LabelFacts {
    /// Its name.
    pub column: String,
    /// Its classes and their rows, by name.
    pub classes: Vec<ClassFacts>,
    /// Rows a class must have to be ranked.
    pub min_count: u64,
}

/// A class of a label column.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ClassFacts {
    /// Its name.
    pub name: String,
    /// Its rows.
    pub rows: u64,
    /// False for classes with fewer rows than `min_count`.
    pub ranked: bool,
}

/// A watched site.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SiteFacts {
    /// `layers.3.mlp_act`.
    pub site: String,
    /// Its columns.
    pub neurons: u64,
}

/// How the work was cut.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PlanFacts {
    /// Number of blocks.
    pub blocks: u64,
    /// blake3 of the list of blocks.
    pub hash: String,
    /// Blocks that are in the result; fewer than `blocks` for a partial one.
    pub done: u64,
}

/// Devices of one name.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct DeviceFacts {
    /// As the driver or the system calls it.
    pub name: String,
    /// How many worked at once.
    pub count: u64,
}

/// When and how fast. Rates are over the time of the last attempt only.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Timings {
    /// Start in UTC, for people; see [`super::machine::utc_now`].
    pub start: String,
    /// Length by the monotonic clock.
    pub seconds: f64,
    /// Tokens this attempt ran, special tokens included.
    pub tokens: u64,
    /// `tokens` over the seconds of the forward passes.
    pub tokens_per_second: f64,
    /// Most memory this attempt held at once, in bytes, where the system tells it.
    #[serde(default)]
    pub peak_memory_bytes: Option<u64>,
}

/// Blake3 of a value as compact JSON with sorted keys.
pub fn hash_json(value: &Value) -> String {
    blake3_of_bytes(sorted(value).to_string().as_bytes())
}

/// The value with the keys of every object in order: serde_json keeps the order of insertion here.
pub fn sorted(value: &Value) -> Value {
    match value {
        Value::Object(map) => {
            let mut entries: Vec<_> = map.iter().collect();
            entries.sort_by(|a, b| a.0.cmp(b.0));
            Value::Object(entries.into_iter().map(|(k, v)| (k.clone(), sorted(v))).collect())
        }
        Value::Array(items) => Value::Array(items.iter().map(sorted).collect()),
        other => other.clone(),
    }
}

/// The value with secrets masked in every string of it, keys included.
fn masked(value: &Value) -> Value {
    match value {
        Value::Object(map) => {
            Value::Object(map.iter().map(|(k, v)| (mask(k), masked(v))).collect())
        }
        Value::Array(items) => Value::Array(items.iter().map(masked).collect()),
        Value::String(text) => Value::String(mask(text)),
        other => other.clone(),
    }
}

/// Writes a value with sorted keys, indented, whole or not at all.
pub fn write_json_atomic<T: Serialize>(path: &Path, value: &T) -> Result<()> {
    let value = serde_json::to_value(value).map_err(|e| Error::io(path, "write")(e.into()))?;
    write_bytes_atomic(path, &json_bytes(path, &value)?)
}

/// A value as it stands in the file `path`.
pub(super) fn json_bytes(path: &Path, value: &Value) -> Result<Vec<u8>> {
    let bytes = serde_json::to_vec_pretty(&sorted(value));
    let mut bytes = bytes.map_err(|e| Error::io(path, "write")(e.into()))?;
    bytes.push(b'\n');
    Ok(bytes)
}

impl Manifest {
    /// Writes `manifest.json` in `folder`, with secrets masked wherever they stand: paths and
    /// model names may be URLs with a password.
    pub fn write(&self, folder: &Path) -> Result<()> {
        self.write_at(&folder.join(MANIFEST))
    }

    /// The same under another name, for outputs that are no folder.
    pub fn write_at(&self, path: &Path) -> Result<()> {
        let manifest = Self { format: FORMAT.to_string(), ..self.clone() };
        let value =
            serde_json::to_value(&manifest).map_err(|e| Error::io(path, "write")(e.into()))?;
        write_json_atomic(path, &masked(&value))
    }

    /// Reads `manifest.json` of `folder`.
    pub fn read(folder: &Path) -> Result<Self> {
        let path = folder.join(MANIFEST);
        let bytes = disk::read(&path).map_err(Error::io(&path, "read"))?;
        let remedy = "run the same command again: it writes the manifest anew";
        let manifest: Self = serde_json::from_slice(&bytes)
            .map_err(|e| Error::input(&path, format!("not a manifest: {e}"), remedy))?;
        if manifest.format != FORMAT {
            let what = format!("format '{}', this program reads '{FORMAT}'", manifest.format);
            return Err(Error::input(&path, what, remedy));
        }
        Ok(manifest)
    }
}
