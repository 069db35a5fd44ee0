//! The file of an experiment: which model is asked which questions, and what is done to its neurons.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::keys::KEYS;
use crate::config::{self, DeviceConfig, ModelConfig};
use crate::error::Result;
use crate::stimulate::read::QuestionConfig;

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
    /// Layers whose neurons (`mlp_act`) are asked; all by default.
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

/// `[judge]`: the top of each ranking is taken away, and steered, beside random neurons.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JudgeConfig {
    /// Sizes of the sets that are ablated; none by default.
    #[serde(default)]
    pub sizes: Vec<usize>,
    /// What ablated neurons become: zero or mean.
    #[serde(default)]
    pub how: JudgeHow,
    /// Draws of random sets of the same sizes from the same layers.
    #[serde(default = "draws")]
    pub random: u32,
    /// Strengths at which the neurons of the largest set are moved towards the mean of the other
    /// group (two groups are needed); none by default.
    #[serde(default)]
    pub steer: Vec<f32>,
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
