//! The file of an experiment: which model is asked which questions, and what is done to its neurons.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::keys::KEYS;
use crate::config::{self, DeviceConfig, ModelConfig};
use crate::error::Result;
use crate::run::order::OrderConfig;
use crate::stimulate::read::QuestionConfig;
use crate::stimulate::readout::Output;

/// See the module.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExperimentConfig {
    /// Title of the report.
    pub name: String,
    /// The folder; not part of the experiment's identity.
    pub out: PathBuf,
    /// Which model.
    pub model: ModelConfig,
    /// What it is asked.
    pub questions: QuestionConfig,
    /// `NAME[:key=value,…]`, the causal ones of `electrode methods`.
    pub methods: Vec<String>,
    /// Which neurons.
    #[serde(default)]
    pub neurons: NeuronConfig,
    /// What is read off the neurons, beside the methods.
    #[serde(default)]
    pub probe: ProbeConfig,
    /// The probe of `metric=probe`, which is read beside the answers too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metric: Option<MetricConfig>,
    /// What the rankings are put to.
    #[serde(default)]
    pub judge: JudgeConfig,
    /// Where it runs; not part of the experiment's identity.
    #[serde(default)]
    pub device: DeviceConfig,
}

/// `[neurons]`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NeuronConfig {
    /// Of what the neurons are columns: `mlp_act` by default.
    #[serde(default)]
    pub site: Option<String>,
    /// Layers whose neurons are asked; all by default.
    #[serde(default)]
    pub layers: Vec<usize>,
    /// Begin each prompt with the model's BOS where its tokenizer does not.
    #[serde(default)]
    pub add_bos: bool,
    /// Questions of a block: what is lost at most when the run is stopped. 64 by default.
    #[serde(default)]
    pub block: Option<usize>,
    /// Tokens of a batch, copies included. 4096 by default.
    #[serde(default)]
    pub batch_tokens: Option<usize>,
}

/// `[metric]`: a number that a trained probe reads off a site at the answering token.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MetricConfig {
    /// `probes.safetensors` of a folder that `electrode probe` wrote.
    pub probes: PathBuf,
    /// Where the probe reads: `layers.3.resid_post`.
    pub site: String,
    /// Its label: `upos`; the only one of the site by default.
    #[serde(default)]
    pub label: Option<String>,
    /// The class asked about; not for probes of numbers.
    #[serde(default)]
    pub class: Option<String>,
    /// Seed it was trained with; the only one by default.
    #[serde(default)]
    pub seed: Option<u64>,
    /// What is made of its outputs.
    #[serde(default)]
    pub output: Output,
}

/// `[probe]`: logistic probes of the group of a question, position by position.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProbeConfig {
    /// Where positions are counted from; no probes without it.
    #[serde(default)]
    pub align: Option<Align>,
    /// Half of it times |w|² is added to the loss.
    #[serde(default = "penalty")]
    pub penalty: f64,
}

impl Default for ProbeConfig {
    fn default() -> Self {
        Self { align: None, penalty: penalty() }
    }
}

fn penalty() -> f64 {
    1.0
}

/// See [`ProbeConfig::align`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Align {
    /// The first token is position 0.
    Start,
    /// The answering token is position 0, the one before it 1.
    End,
}

/// `[judge]`: the top of each ranking is taken away, and steered, beside random neurons.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JudgeConfig {
    /// Sizes of the sets that are ablated; none by default.
    #[serde(default)]
    pub sizes: Vec<usize>,
    /// The same as shares of all neurons asked.
    #[serde(default)]
    pub shares: Vec<f64>,
    /// What ablated neurons become: zero or mean.
    #[serde(default)]
    pub how: JudgeHow,
    /// Draws of random sets of the same sizes from the same layers.
    #[serde(default = "draws")]
    pub random: u32,
    /// The least important neurons too.
    #[serde(default)]
    pub bottom: bool,
    /// Each set also kept, and everything else taken away.
    #[serde(default)]
    pub keep: bool,
    /// Strengths at which the neurons of the largest set are moved towards the mean of the other
    /// group (two groups are needed); none by default.
    #[serde(default)]
    pub steer: Vec<f32>,
    /// Steps of the greedy search: at each, the neuron of the candidates whose loss costs most.
    #[serde(default)]
    pub greedy: usize,
    /// Its candidates: so many of the top of each ranking.
    #[serde(default = "candidates")]
    pub candidates: usize,
    /// Sets by name, of neurons as `layers.3.mlp_act.17`.
    #[serde(default)]
    pub sets: BTreeMap<String, Vec<String>>,
    /// Rankings made elsewhere.
    #[serde(default)]
    pub rankings: Vec<OrderConfig>,
}

impl JudgeConfig {
    /// Whether any neurons are taken away.
    pub fn takes_away(&self) -> bool {
        let none = self.sizes.is_empty() && self.shares.is_empty() && self.sets.is_empty();
        !none || self.greedy > 0
    }
}

fn candidates() -> usize {
    32
}

/// See [`JudgeConfig::how`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum JudgeHow {
    /// 0.
    Zero,
    /// The mean over all answering tokens.
    #[default]
    Mean,
}

fn draws() -> u32 {
    3
}

impl ExperimentConfig {
    /// Reads a file and sets `key=value` overrides over it: dotted keys, TOML values where they parse
    /// as such.
    pub fn load(path: &Path, overrides: &[String]) -> Result<Self> {
        Ok(config::load(path, overrides, KEYS)?.0)
    }

    /// Everything that decides what comes out.
    pub fn identity(&self) -> serde_json::Value {
        let mut value = serde_json::to_value(self).expect("plain data");
        let fields = value.as_object_mut().expect("a struct becomes an object");
        for key in ["name", "out", "device"] {
            fields.remove(key);
        }
        crate::artifact::manifest::sorted(&value)
    }
}
