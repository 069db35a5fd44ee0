//! `electrode extract`: activations of a model as a safetensors file.

use std::path::PathBuf;

use clap::{ArgGroup, ValueEnum};

use crate::config::Pool;
use crate::error::Result;

/// Write the activations of a model on given token ids, or on the words of a corpus
#[derive(clap::Args, Debug)]
#[command(group = ArgGroup::new("input").required(true).args(["ids", "corpus"]))]
pub struct ExtractArgs {
    /// Folder with config.json, or org/name in the local Hub cache
    #[arg(long, value_name = "DIR")]
    pub model: String,
    /// safetensors with input_ids and attention_mask, (B, S) each
    #[arg(long, value_name = "FILE")]
    pub ids: Option<PathBuf>,
    /// A corpus instead: each tensor is then (words, N) in corpus order
    #[arg(long, value_name = "FILE")]
    pub corpus: Option<PathBuf>,
    /// With --corpus: how the subwords of a word become one row
    #[arg(long, value_enum, conflicts_with = "ids", value_name = "POOL")]
    pub pool: Option<WordPool>,
    /// Site names and globs, separated by commas: layers.*.mlp_act,embeddings
    #[arg(long, value_delimiter = ',', required = true, value_name = "GLOB")]
    pub sites: Vec<String>,
    /// The safetensors file to write
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
    /// Where it runs: cpu
    #[arg(long, default_value = "cpu", value_name = "DEVICE")]
    pub device: String,
    /// Of the forward pass
    #[arg(long, value_enum, default_value = "f32", value_name = "DTYPE")]
    pub dtype: ExtractDtype,
    /// JSON file of activations to overwrite on the way
    #[arg(long, value_name = "FILE")]
    pub intervene: Option<PathBuf>,
}

/// See [`ExtractArgs::pool`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum WordPool {
    /// First subword.
    First,
    /// Last subword, the default.
    Last,
    /// Mean over the subwords.
    Mean,
    /// Every token is a row.
    None,
}

impl From<WordPool> for Pool {
    fn from(pool: WordPool) -> Self {
        match pool {
            WordPool::First => Self::First,
            WordPool::Last => Self::Last,
            WordPool::Mean => Self::Mean,
            WordPool::None => Self::None,
        }
    }
}

/// See [`ExtractArgs::dtype`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ExtractDtype {
    /// float32 throughout.
    F32,
    /// bfloat16 weights and activations.
    Bf16,
}

pub(super) fn run(_args: ExtractArgs) -> Result<()> {
    super::not_yet("extract")
}
