//! One table per architecture: how its `config.json` becomes a [`ModelSpec`], and under which
//! keys its checkpoints keep each weight. Nothing outside this folder asks for a model by name.

mod bert;
mod bloom;
mod common;
mod distilbert;
mod electra;
mod gemma;
mod gpt2;
mod gpt_neox;
mod llama;
mod opt;
mod phi;
mod rope;
mod t5;

use super::heads::HeadKeys;
use super::settings::Settings;
use super::spec::{HeadSpec, LayerParam, ModelSpec, Param};
use super::weights::Weights;
use crate::error::{Error, Result, did_you_mean};

/// Where checkpoints of an architecture keep a weight: module names, to which `.weight` or
/// `.bias` is added.
pub(crate) enum At {
    /// One tensor, as it is.
    One(&'static str),
    /// One tensor under the first of these names that is there.
    Either(&'static str, &'static str),
    /// Stored `[in, out]`.
    Conv1d(&'static str),
    /// Three tensors, to be put one under the other.
    Three(&'static str, &'static str, &'static str),
    /// Query, key and value of the first head, then of the second, …
    ByHead(&'static str),
}

/// See [`Architecture::beside`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Beside {
    /// What its tensors' names begin with.
    pub(crate) prefix: &'static str,
    /// The key of its number of blocks, which is the other number where it is absent.
    pub(crate) layers: &'static str,
}

/// An architecture.
pub(crate) struct Architecture {
    /// `model_type` in `config.json`.
    pub(crate) name: &'static str,
    /// What stands before the trunk's names, depending on which class saved the checkpoint.
    pub(crate) prefixes: &'static [&'static str],
    /// What stands before a block's number.
    pub(crate) block: &'static str,
    /// Modules of the trunk outside the blocks.
    pub(crate) trunk: &'static [(Param, At)],
    /// Modules of a block.
    pub(crate) layer: &'static [(LayerParam, At)],
    /// Modules of the heads; their names have no prefix.
    pub(crate) head: fn(&HeadSpec) -> &'static [(Param, At)],
    /// Keys of `config.json` for the number of blocks, the usual one first.
    pub(crate) layers: &'static [&'static str],
    /// Keys of `config.json` for the number of neurons of a block; empty where the architecture
    /// fixes it.
    pub(crate) mlp_width: &'static [&'static str],
    /// Keys for the heads, where their number does not fix their width and nothing else counts them.
    pub(crate) heads: Option<HeadKeys>,
    /// A part of some checkpoints that is not run here and shares the configuration.
    pub(crate) beside: Option<Beside>,
    /// `tie_word_embeddings` where the configuration does not say.
    pub(crate) tied: bool,
    /// From configuration to description.
    pub(crate) describe: fn(&Settings, &Keys) -> Result<ModelSpec>,
}

/// Every architecture that can be run.
static ALL: [&Architecture; 17] = [
    &bert::BERT,
    &bert::ROBERTA,
    &bert::XLM_ROBERTA,
    &distilbert::DISTILBERT,
    &electra::ELECTRA,
    &gpt2::GPT2,
    &gpt_neox::GPT_NEOX,
    &opt::OPT,
    &bloom::BLOOM,
    &llama::LLAMA,
    &llama::MISTRAL,
    &llama::QWEN2,
    &llama::QWEN3,
    &gemma::GEMMA,
    &gemma::GEMMA2,
    &phi::PHI,
    &t5::T5,
];

/// The architecture that `config.json` names.
pub(crate) fn find(settings: &Settings) -> Result<&'static Architecture> {
    let names = || ALL.iter().map(|architecture| architecture.name);
    let remedy = format!("use one of: {}", names().collect::<Vec<_>>().join(", "));
    let Some(given) = settings.text("model_type")? else {
        return Err(settings.wrong("model_type", "is missing", &remedy));
    };
    let remote = settings.section("auto_map")?.is_some();
    match ALL.iter().find(|architecture| architecture.name == given) {
        Some(architecture) => {
            if remote {
                tracing::warn!(model_type = given, "auto_map is ignored: no remote code is run");
            }
            Ok(architecture)
        }
        None if remote => Err(settings.wrong(
            "auto_map",
            format!("'{given}' needs code from the model folder, which is never run"),
            &remedy,
        )),
        None => {
            let what = format!("unknown architecture '{given}'{}", did_you_mean(given, names()));
            Err(settings.wrong("model_type", what, &remedy))
        }
    }
}

/// What the checkpoint holds, for descriptions that depend on it.
pub(crate) struct Keys<'a> {
    weights: &'a Weights,
    /// The prefix this checkpoint uses.
    pub(crate) prefix: &'static str,
    /// The head's last matrix is the token table where the checkpoint has none of its own.
    pub(crate) tied: bool,
}

impl<'a> Keys<'a> {
    /// Finds the prefix by looking for the token table.
    pub(crate) fn new(
        architecture: &Architecture,
        settings: &Settings,
        weights: &'a Weights,
    ) -> Result<Self> {
        let names = architecture
            .trunk
            .iter()
            .filter(|(param, _)| *param == Param::Tokens)
            .flat_map(|(_, at)| at.names());
        let holds =
            |prefix: &str| names.clone().any(|n| weights.holds(&format!("{prefix}{n}.weight")));
        let prefix = architecture.prefixes.iter().find(|prefix| holds(prefix));
        Ok(Self {
            weights,
            prefix: prefix.unwrap_or(&architecture.prefixes[0]),
            tied: settings.flag("tie_word_embeddings", architecture.tied)?,
        })
    }

    /// Whether the trunk has this tensor.
    pub(crate) fn trunk(&self, name: &str) -> bool {
        self.weights.holds(&format!("{}{name}", self.prefix))
    }

    /// Whether there is a tensor of this full name.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.weights.holds(name)
    }
}

impl At {
    /// The module names, in order of preference or of stacking.
    pub(crate) fn names(&self) -> impl Iterator<Item = &'static str> + Clone {
        let names = match self {
            Self::One(a) | Self::Conv1d(a) | Self::ByHead(a) => [Some(*a), None, None],
            Self::Either(a, b) => [Some(*a), Some(*b), None],
            Self::Three(a, b, c) => [Some(*a), Some(*b), Some(*c)],
        };
        names.into_iter().flatten()
    }
}

impl Architecture {
    /// Where a weight is kept, with what stands before the names. `None` for a weight that this
    /// architecture never has.
    pub(crate) fn at(
        &self,
        param: Param,
        head: &HeadSpec,
        prefix: &str,
    ) -> Option<(&'static At, String)> {
        if let Param::Layer(layer, param) = param {
            let at = &self.layer.iter().find(|(row, _)| *row == param)?.1;
            return Some((at, format!("{prefix}{}{layer}.", self.block)));
        }
        if param.in_head() {
            let at = &(self.head)(head).iter().find(|(row, _)| *row == param)?.1;
            return Some((at, String::new()));
        }
        let at = &self.trunk.iter().find(|(row, _)| *row == param)?.1;
        Some((at, prefix.to_owned()))
    }
}

/// A description that contradicts itself is the configuration's fault.
pub(crate) fn check(spec: &ModelSpec, settings: &Settings) -> Result<()> {
    let attention = &spec.attention;
    if !attention.heads.is_multiple_of(attention.kv_heads) {
        let what = format!(
            "{} query heads cannot share {} key heads evenly",
            attention.heads, attention.kv_heads
        );
        return Err(settings.wrong("num_key_value_heads", what, "correct the value"));
    }
    let widths = [attention.heads, attention.kv_heads].map(|n| n.checked_mul(attention.head_width));
    if widths.iter().any(|width| width.is_none_or(|width| width > 1_000_000)) {
        let what = format!("{} heads of {} columns", attention.heads, attention.head_width);
        return Err(settings.wrong("head_dim", what, "correct the value"));
    }
    Ok(())
}

/// An unsupported value, for the tables.
pub(crate) fn unsupported(settings: &Settings, key: &str, what: String) -> Error {
    settings.wrong(key, what, "use a checkpoint without it")
}
