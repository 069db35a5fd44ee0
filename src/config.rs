//! A run file: what is run, over what, and what is collected. Everything that may change a number
//! stands here and in nothing else; flags only say where.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::corpus::config::{ConceptConfig, CorpusConfig};

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
    /// Whether [CLS], [SEP], BOS… are rows (with `pool = "none"` only; words have none).
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
    /// Tokens per device call.
    pub batch_tokens: usize,
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
            batch_tokens: 2048,
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
}
