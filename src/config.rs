//! A run file: what is run, over what, and what is collected. Everything that may change a number
//! stands here and in nothing else; flags only say where.
//!
//! Paths in a run file are taken as the user stands: relative to the working directory, not to the
//! run file, so that a path means the same in the file, in an override and in the shell.

mod check;
pub mod keys;
mod source;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

pub use self::source::Source;
use crate::corpus::config::{ConceptConfig, CorpusConfig};
use crate::error::{Error, Result};

/// A run file, resolved.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunConfig {
    /// Title of the report.
    pub name: String,
    /// The run folder; not part of the run's identity.
    pub out: PathBuf,
    /// Which model.
    pub model: ModelConfig,
    /// Which text.
    pub corpus: CorpusConfig,
    /// Which labels.
    #[serde(default)]
    pub concepts: Vec<ConceptConfig>,
    /// Which activations.
    pub capture: CaptureConfig,
    /// What is collected about them.
    #[serde(default)]
    pub statistics: StatisticsConfig,
    /// `NAME[:key=value,…]`, see `electrode methods`.
    #[serde(default)]
    pub methods: Vec<String>,
    /// What is written.
    #[serde(default)]
    pub output: OutputConfig,
    /// Where it runs; not part of the run's identity.
    #[serde(default)]
    pub device: DeviceConfig,
}

/// Reads a file, sets the `key=value` overrides over it, and holds it against its table of keys. What
/// comes with it says where each key stands.
pub fn load<T: serde::de::DeserializeOwned>(
    path: &Path,
    overrides: &[String],
    keys: &'static [keys::Key],
) -> Result<(T, Source)> {
    let mut source = Source::read(path, keys)?;
    for argument in overrides {
        source.set(argument)?;
    }
    check::keys(&source)?;
    // The table of keys has passed it, so this fails only where table and types disagree.
    let read = source.values.clone().try_into().map_err(|error: toml::de::Error| {
        let what = error.message().replace('\n', ", ");
        Error::config(path.display().to_string(), what, "see README.md for its keys")
    })?;
    Ok((read, source))
}

/// What does not decide any number of a result.
const OUTSIDE_IDENTITY: [&str; 4] = ["name", "out", "device", "statistics.batch_tokens"];

impl RunConfig {
    /// Reads a run file, sets the `key=value` overrides over it, and checks every key.
    ///
    /// The right side of an override is a TOML value where it parses as one, else a text.
    pub fn load(path: impl AsRef<Path>, overrides: &[String]) -> Result<Self> {
        let (run, source) = load(path.as_ref(), overrides, keys::KEYS)?;
        check::together(&source, &run)?;
        Ok(run)
    }

    /// Everything that decides what comes out, with sorted keys: the same for two run files that
    /// differ in order, comments, title, folder or device.
    pub fn identity(&self) -> serde_json::Value {
        let mut value = serde_json::to_value(self).expect("a configuration has text keys only");
        for key in OUTSIDE_IDENTITY {
            let (table, key) = key.rsplit_once('.').unwrap_or(("", key));
            let table = if table.is_empty() { Some(&mut value) } else { value.get_mut(table) };
            let fields = table.and_then(serde_json::Value::as_object_mut);
            fields.expect("a struct becomes an object").remove(key);
        }
        sorted(value)
    }

    /// BLAKE3 of [`RunConfig::identity`] in hexadecimal. It knows the names of model and corpus,
    /// not their content: the engine adds the hashes of the files.
    pub fn run_id(&self) -> String {
        blake3::hash(self.identity().to_string().as_bytes()).to_hex().to_string()
    }

    /// The resolved run as a run file, defaults filled in.
    pub fn to_toml(&self) -> String {
        toml::to_string(self).expect("every value of a configuration has a TOML form")
    }
}

/// The same value with the keys of every object in order.
fn sorted(value: serde_json::Value) -> serde_json::Value {
    use serde_json::Value;
    match value {
        Value::Object(fields) => {
            let ordered: std::collections::BTreeMap<_, _> = fields.into_iter().collect();
            Value::Object(ordered.into_iter().map(|(key, value)| (key, sorted(value))).collect())
        }
        Value::Array(items) => Value::Array(items.into_iter().map(sorted).collect()),
        other => other,
    }
}

/// `[model]`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelConfig {
    /// A folder with `config.json`, or `org/name` in the local Hub cache.
    pub path: String,
    /// Of the forward pass.
    #[serde(default)]
    pub dtype: Dtype,
}

/// See [`ModelConfig::dtype`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Dtype {
    /// float32 throughout.
    #[default]
    F32,
    /// bfloat16 weights and activations, float32 sums.
    Bf16,
}

/// `[capture]`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CaptureConfig {
    /// Site names and globs: `layers.*.mlp_act`, `embeddings`.
    pub sites: Vec<String>,
    /// What a row is.
    #[serde(default)]
    pub pool: Pool,
    /// Whether `[CLS]`, `[SEP]`, BOS… are rows (with `pool = "none"` only; words have none).
    #[serde(default)]
    pub special_tokens: Policy,
    /// Whether the first position of a sequence is a row: by default not for decoder-only models
    /// without a BOS, whose first position is an attention sink.
    #[serde(default)]
    pub first_position: FirstPosition,
}

/// How tokens become rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Pool {
    /// First subword of each word.
    First,
    /// Last subword of each word.
    #[default]
    Last,
    /// Mean over the subwords of each word.
    Mean,
    /// Every token is a row.
    None,
    /// Largest value over the sentence's tokens.
    SentenceMax,
    /// Mean over the sentence's tokens.
    SentenceMean,
    /// The sentence's last token.
    SentenceLast,
    /// The sentence's first token, special or not (CLS).
    SentenceFirst,
}

/// See [`CaptureConfig::special_tokens`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Policy {
    /// Kept in the forward pass, left out of statistics.
    #[default]
    Exclude,
    /// Rows like others.
    Include,
}

/// See [`CaptureConfig::first_position`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FirstPosition {
    /// Excluded for decoder-only models when the sequence does not begin with a BOS.
    #[default]
    Auto,
    /// Never a row.
    Exclude,
    /// A row like others.
    Include,
}

/// `[statistics]`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct StatisticsConfig {
    /// Histogram bins per neuron and class; 0 for none (then methods that order values are refused).
    pub bins: usize,
    /// Largest values kept per neuron.
    pub top: usize,
    /// Smallest values kept per neuron.
    pub bottom: usize,
    /// Rows kept as a uniform sample.
    pub sample: usize,
    /// Rows read beforehand to set bin edges and shifts.
    pub calibration_rows: usize,
    /// Of the sample, the baselines and the calibration.
    pub seed: u64,
    /// Largest share of non-finite activations before the run fails.
    pub max_nan: f64,
    /// Tokens per device call; by default what suits the device. Not part of the run's identity.
    pub batch_tokens: Option<usize>,
}

impl Default for StatisticsConfig {
    fn default() -> Self {
        Self {
            bins: 64,
            top: 30,
            bottom: 0,
            sample: 256,
            calibration_rows: 2048,
            seed: 0,
            max_nan: 0.0,
            batch_tokens: None,
        }
    }
}

/// `[output]`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct OutputConfig {
    /// Neurons kept per ranking, and per site of each ranking; 0 keeps all.
    pub keep: usize,
    /// Neurons per concept and method that get a page in the report.
    pub pages: usize,
    /// Words of context on each side.
    pub window: usize,
}

impl Default for OutputConfig {
    fn default() -> Self {
        Self { keep: 50, pages: 3, window: 16 }
    }
}

/// `[device]`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DeviceConfig {
    /// `auto`, `cpu`.
    pub name: Option<String>,
    /// CPU threads; by default all.
    pub threads: Option<usize>,
    /// Seconds between two states on disk, 0 for after every block; by default 20.
    pub commit_seconds: Option<u64>,
}
