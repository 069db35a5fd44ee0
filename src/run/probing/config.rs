//! The file of a probing run: which probes are trained on which labels, and what they are put to.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::keys::keys;
use crate::config::{
    self, CaptureConfig, DeviceConfig, ModelConfig, OutputConfig, RunConfig, StatisticsConfig,
};
use crate::corpus::config::{ConceptConfig, CorpusConfig};
use crate::error::{Error, Result};
use crate::probe::split::SplitConfig;

/// See the module.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProbingConfig {
    /// Title of the report.
    pub name: String,
    /// The folder; not part of the identity.
    pub out: PathBuf,
    /// Which model.
    pub model: ModelConfig,
    /// Which text.
    pub corpus: CorpusConfig,
    /// Which labels.
    pub concepts: Vec<ConceptConfig>,
    /// Which activations.
    pub capture: CaptureConfig,
    /// What is learned from, chosen on and reported.
    #[serde(default)]
    pub split: SplitConfig,
    /// How probes are trained.
    #[serde(default)]
    pub probes: ProbesConfig,
    /// Elastic-net penalties; by default the one of `[[penalties]]` with both at 0.
    #[serde(default)]
    pub penalties: Vec<PenaltyConfig>,
    /// Rankings beside those of the probes: `NAME[:key=value,…]`.
    #[serde(default)]
    pub methods: Vec<String>,
    /// What rankings and probes are put to.
    #[serde(default)]
    pub judge: JudgeConfig,
    /// What is written.
    #[serde(default)]
    pub output: KeepConfig,
    /// Where it runs; not part of the identity.
    #[serde(default)]
    pub device: DeviceConfig,
}

/// `[probes]`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ProbesConfig {
    /// What probes answer.
    pub target: Target,
    /// What is made small.
    pub objective: Objective,
    /// By which means.
    pub solver: SolverName,
    /// `adam`: passes over the training rows.
    pub epochs: u32,
    /// `adam`: rows of a step.
    pub batch: usize,
    /// `adam`: length of a step.
    pub rate: f64,
    /// `adam`: another order of the rows at each epoch.
    pub shuffle: bool,
    /// `fista`: the generalised gradient against that at 0 at which it ends.
    pub tolerance: f64,
    /// `fista`: passes at most.
    pub iterations: u32,
    /// Of first weights, orders and control labels.
    pub seeds: Vec<u64>,
    /// Columns brought to mean 0 and standard deviation 1 over the training rows.
    pub standardise: bool,
    /// A probe for each site.
    pub each_site: bool,
    /// A probe on all sites side by side.
    pub all_sites: bool,
    /// Control labels: a class drawn for each word type (Hewitt & Liang 2019).
    pub control: Control,
    /// How weights become orders of all neurons.
    pub orders: Vec<Order>,
    /// Where activations are between passes.
    pub cache: Cache,
}

impl Default for ProbesConfig {
    fn default() -> Self {
        Self {
            target: Target::default(),
            objective: Objective::default(),
            solver: SolverName::default(),
            epochs: 10,
            batch: 128,
            rate: 1e-3,
            shuffle: false,
            tolerance: 1e-5,
            iterations: 1000,
            seeds: vec![0],
            standardise: true,
            each_site: true,
            all_sites: false,
            control: Control::default(),
            orders: vec![Order::Mass],
            cache: Cache::default(),
        }
    }
}

/// How the weights of all classes become one order of neurons (Dalvi et al. 2019; NeuroX;
/// Antverg & Belinkov 2022).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Order {
    /// As more of each class's mass is asked for, exactly.
    Mass,
    /// The same in a hundred steps, as NeuroX has it; inside a step by number.
    Percent,
    /// Those steps in groups of fifty neurons.
    Granular,
    /// The mean over classes of |w|.
    MeanAbs,
    /// Neurons above half of the largest |w| of a class, and only those.
    Threshold,
}

impl Order {
    /// Every order, by the name that files have for it.
    pub const NAMES: [&str; 5] = ["mass", "percent", "granular", "mean-abs", "threshold"];

    /// The name of this one.
    pub fn name(self) -> &'static str {
        Self::NAMES[self as usize]
    }
}

/// See [`ProbesConfig::target`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Target {
    /// One softmax over the classes of a column.
    #[default]
    Classes,
    /// For each class, whether a row is of it.
    OneVsRest,
    /// The number that a class stands for.
    Number,
}

/// See [`ProbesConfig::objective`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Objective {
    /// Mean loss + l1 |W| + l2 |W|².
    #[default]
    Mean,
    /// Sum of losses + l1 |W| + l2 |W|² (Dalvi et al. 2019).
    Paper,
    /// Mean loss of a batch + l1 |W| + l2 sqrt(|W|²), as NeuroX computes it.
    Neurox,
}

/// See [`ProbesConfig::solver`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SolverName {
    /// Mini-batches.
    #[default]
    Adam,
    /// Full batches, to the optimum.
    Fista,
}

/// See [`ProbesConfig::control`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Control {
    /// As often as in the training rows.
    #[default]
    Same,
    /// Each as often.
    Uniform,
    /// No control labels.
    None,
}

/// Where activations are between passes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Cache {
    /// The cheapest that there is room for.
    #[default]
    Auto,
    /// In the device's memory.
    Memory,
    /// In files of the run folder.
    Disk,
    /// Nowhere: the model runs at each pass.
    None,
}

/// One of `[[penalties]]`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PenaltyConfig {
    /// Weight of the sum of magnitudes.
    pub l1: f64,
    /// Weight of the squared norm, or of the norm.
    pub l2: f64,
}

/// `[judge]`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct JudgeConfig {
    /// Sizes at which probes are trained again on the top of each ranking; none by default.
    pub retain: Vec<usize>,
    /// Shares of the neurons that are kept, or taken away, under the probe there is; none by default.
    pub ablate: Vec<f64>,
    /// Random sets beside each.
    pub random: u32,
    /// The least important neurons too.
    pub bottom: bool,
    /// Online code length.
    pub code_length: bool,
    /// What may be lost of the accuracy of all neurons, for the smallest set.
    pub delta: f64,
    /// Sizes at which rankings are compared.
    pub overlap: Vec<usize>,
    /// The fewest features of all sites side by side.
    pub select: bool,
    /// What the first sites may lose of the accuracy of all.
    pub layer_delta: f64,
    /// Distance 1 - |r| at which neurons that say the same are clustered; 0 for not at all.
    pub cluster: f64,
}

impl Default for JudgeConfig {
    fn default() -> Self {
        Self {
            retain: Vec::new(),
            ablate: Vec::new(),
            random: 1,
            bottom: true,
            code_length: false,
            delta: 0.01,
            overlap: vec![10, 50],
            select: false,
            layer_delta: 0.01,
            cluster: 0.3,
        }
    }
}

/// `[output]`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct KeepConfig {
    /// Neurons kept per ranking; 0 keeps all.
    pub keep: usize,
}

impl ProbingConfig {
    /// Reads a file and sets `key=value` overrides over it.
    pub fn load(path: &Path, overrides: &[String]) -> Result<Self> {
        let (mut config, source) = config::load::<Self>(path, overrides, keys())?;
        if config.penalties.is_empty() {
            config.penalties.push(PenaltyConfig::default());
        }
        config.check(|key| source.place(key))?;
        Ok(config)
    }

    /// What keys cannot say of themselves.
    fn check(&self, place: impl Fn(&str) -> String) -> Result<()> {
        let probes = &self.probes;
        let refuse = |key, what: &str, remedy: &str| Err(Error::config(place(key), what, remedy));
        if self.concepts.is_empty() {
            return refuse(
                "concepts",
                "there are no labels to learn",
                "add [[concepts]] column = \"upos\"",
            );
        }
        if !probes.each_site && !probes.all_sites {
            let remedy = "set each_site = true or all_sites = true";
            return refuse("probes.each_site", "no probes are asked for", remedy);
        }
        if probes.seeds.is_empty() {
            return refuse("probes.seeds", "no seed, so no probe", "write seeds = [0]");
        }
        let orders = &probes.orders;
        if orders.is_empty() || (1..orders.len()).any(|at| orders[..at].contains(&orders[at])) {
            let remedy = "name each order once, as in orders = [\"mass\", \"mean-abs\"]";
            return refuse("probes.orders", "an order is named twice, or none at all", remedy);
        }
        if probes.objective == Objective::Neurox && probes.solver == SolverName::Fista {
            let what = "the norm of all weights has no proximal step here";
            return refuse(
                "probes.objective",
                what,
                "use solver = \"adam\", or objective = \"mean\"",
            );
        }
        if probes.cache == Cache::None && probes.shuffle {
            let what = "rows that are not kept come in the order of the corpus";
            return refuse("probes.shuffle", what, "keep them: cache = \"memory\"");
        }
        if probes.cache == Cache::Disk && probes.shuffle {
            let what = "rows in files come in the order of the corpus";
            return refuse("probes.shuffle", what, "keep them in memory: cache = \"memory\"");
        }
        if self.judge.select && !probes.all_sites {
            let what = "features are selected among all sites side by side";
            return refuse("judge.select", what, "set probes.all_sites = true");
        }
        if probes.cache == Cache::None && probes.all_sites {
            let what = "sites stand side by side only where activations are kept";
            let remedy = "use cache = \"auto\", or all_sites = false";
            return refuse("probes.cache", what, remedy);
        }
        if probes.target == Target::Number && probes.control != Control::None {
            let what = "control labels are classes, and the target is a number";
            return refuse("probes.control", what, "set control = \"none\"");
        }
        let same = |i: usize| self.penalties[..i].contains(&self.penalties[i]);
        if (1..self.penalties.len()).any(same) {
            return refuse("penalties", "one of them stands there twice", "list each once");
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
        // Where rows wait changes no bit.
        let probes = fields.get_mut("probes").and_then(serde_json::Value::as_object_mut);
        probes.expect("a struct becomes an object").remove("cache");
        crate::artifact::manifest::sorted(&value)
    }

    /// What it shares with a run over a corpus. With control labels, word types are labels too.
    pub fn as_run(&self) -> RunConfig {
        let mut concepts = self.concepts.clone();
        if self.probes.control != Control::None {
            concepts.push(ConceptConfig {
                column: WORD_TYPE.to_owned(),
                classes: None,
                min_count: 1,
                most_frequent: None,
                missing: crate::corpus::config::Missing::default(),
            });
        }
        RunConfig {
            name: self.name.clone(),
            out: self.out.clone(),
            model: self.model.clone(),
            corpus: self.corpus.clone(),
            concepts,
            capture: self.capture.clone(),
            statistics: StatisticsConfig::default(),
            methods: Vec::new(),
            output: OutputConfig::default(),
            device: self.device.clone(),
        }
    }
}

/// Label column of word types.
pub(super) const WORD_TYPE: &str = "form";
