//! The file of `electrode similarity`: which models, on which text, and what is asked of their sites.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::keys::keys;
use crate::config::{
    self, CaptureConfig, DeviceConfig, Dtype, FirstPosition, ModelConfig, OutputConfig, Policy,
    Pool, RunConfig, StatisticsConfig,
};
use crate::corpus::config::CorpusConfig;
use crate::error::{Error, Result};
use crate::methods::clustering::DISTANCE;
use crate::methods::similarity::canonical::SHARE;

/// Rows of a sample, at least.
const LEAST: usize = 16;

/// See the module.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SimilarityConfig {
    /// Title of the report.
    pub name: String,
    /// The folder; not part of the identity.
    pub out: PathBuf,
    /// The only model.
    #[serde(default, skip_serializing)]
    model: Option<ModelConfig>,
    /// The models, at least one; after [`SimilarityConfig::load`] each has a name and sites.
    #[serde(default)]
    pub models: Vec<ComparedModel>,
    /// The text that all of them read.
    pub corpus: CorpusConfig,
    /// Which activations.
    #[serde(default)]
    pub capture: SharedCapture,
    /// What is asked of them.
    #[serde(default)]
    pub similarity: SimilaritySettings,
    /// Where it runs; not part of the identity.
    #[serde(default)]
    pub device: DeviceConfig,
}

/// One of `[[models]]`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ComparedModel {
    /// What tables call it; by default the last part of its path.
    #[serde(default)]
    pub name: String,
    /// A folder with `config.json`, or `org/name` in the local Hub cache.
    pub path: String,
    /// Of the forward pass.
    #[serde(default)]
    pub dtype: Dtype,
    /// Site names and globs; by default those of `[capture]`.
    #[serde(default)]
    pub sites: Vec<String>,
}

/// `[capture]`, in which models may have sites of their own.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SharedCapture {
    /// Site names and globs of models that name none.
    pub sites: Vec<String>,
    /// What a row is.
    pub pool: Pool,
    /// Whether special tokens are rows.
    pub special_tokens: Policy,
    /// Whether the first position of a sequence is a row.
    pub first_position: FirstPosition,
}

/// `[similarity]`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SimilaritySettings {
    /// Words of a uniform sample that all moments are taken over; 0 for all of the corpus.
    pub rows: usize,
    /// Of the sample.
    pub seed: u64,
    /// Share of variance that SVCCA and PWCCA keep.
    pub share: f64,
    /// Bandwidth of the kernels of RBF-CKA, as a share of the median distance of rows; 0 for none.
    pub rbf: f64,
    /// Distances 1 - |r| at which clusters are cut; none for no clusters.
    pub thresholds: Vec<f64>,
    /// Which sites of two models are compared.
    pub pairs: Pairs,
}

impl Default for SimilaritySettings {
    fn default() -> Self {
        let thresholds = vec![0.3, DISTANCE, 0.7];
        Self { rows: 0, seed: 0, share: SHARE, rbf: 0.0, thresholds, pairs: Pairs::All }
    }
}

/// See [`SimilaritySettings::pairs`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Pairs {
    /// Every site with every other, within models and between them.
    #[default]
    All,
    /// Between models sites of one name, within models sites of one kind in successive layers.
    Same,
}

impl SimilarityConfig {
    /// Reads a file and sets `key=value` overrides over it.
    pub fn load(path: &Path, overrides: &[String]) -> Result<Self> {
        let (mut config, source) = config::load::<Self>(path, overrides, keys())?;
        config.name_models(|key| source.place(key))?;
        if (1..LEAST).contains(&config.similarity.rows) {
            let what =
                format!("{} rows say nothing of how alike neurons are", config.similarity.rows);
            let remedy = "write at least 16, or 0 for the whole corpus";
            return Err(Error::config(source.place("similarity.rows"), what, remedy));
        }
        if config.similarity.rows == 0 && config.similarity.rbf > 0.0 {
            let what = "kernels are of all pairs of rows, and rows are not kept";
            let remedy = "set similarity.rows, to 2000 for instance, or leave similarity.rbf out";
            return Err(Error::config(source.place("similarity.rbf"), what, remedy));
        }
        Ok(config)
    }

    /// Each model has its name and its sites, and no two have one name.
    fn name_models(&mut self, place: impl Fn(&str) -> String) -> Result<()> {
        let refuse = |key, what: String, remedy| Err(Error::config(place(key), what, remedy));
        if let Some(ModelConfig { path, dtype }) = self.model.take() {
            if !self.models.is_empty() {
                let what = "there are [[models]] beside it".to_owned();
                return refuse("model", what, "write it as one of [[models]]");
            }
            let (name, sites) = (String::new(), Vec::new());
            self.models.push(ComparedModel { name, path, dtype, sites });
        }
        if self.models.is_empty() {
            let remedy = "add [model] path = \"…\", or [[models]] path = \"…\" for each";
            return refuse("models", "no model is named".to_owned(), remedy);
        }
        let mut names = BTreeSet::new();
        for model in &mut self.models {
            if model.name.is_empty() {
                let last = model.path.trim_end_matches('/').rsplit('/').next();
                model.name = last.unwrap_or(&model.path).to_owned();
            }
            if model.sites.is_empty() {
                model.sites.clone_from(&self.capture.sites);
            }
            if model.sites.is_empty() {
                let what = format!("'{}' has no sites", model.name);
                let remedy =
                    "write [capture] sites = [\"layers.*.mlp_act\"], or sites for the model";
                return refuse("capture.sites", what, remedy);
            }
            if !names.insert(model.name.clone()) {
                let what = format!("two models are called '{}'", model.name);
                return refuse("models", what, "give each a name of its own: name = \"…\"");
            }
        }
        Ok(())
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

    /// The run of one of the models over the corpus that leaves a sample of its rows.
    pub fn run_of(&self, model: &ComparedModel) -> RunConfig {
        RunConfig {
            name: self.name.clone(),
            out: self.out.clone(),
            model: ModelConfig { path: model.path.clone(), dtype: model.dtype },
            corpus: self.corpus.clone(),
            concepts: Vec::new(),
            capture: CaptureConfig {
                sites: model.sites.clone(),
                pool: self.capture.pool,
                special_tokens: self.capture.special_tokens,
                first_position: self.capture.first_position,
            },
            statistics: StatisticsConfig {
                bins: 0,
                top: 0,
                bottom: 0,
                sample: self.similarity.rows,
                seed: self.similarity.seed,
                ..StatisticsConfig::default()
            },
            methods: Vec::new(),
            output: OutputConfig::default(),
            device: self.device.clone(),
        }
    }
}
