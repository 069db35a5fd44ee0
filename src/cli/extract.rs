//! `electrode extract`: activations of a model as a safetensors file.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use clap::{ArgGroup, ValueEnum};

use super::device::DtypeArg;
use super::output;
use crate::artifact::atomic::write_atomic;
use crate::artifact::words::write_words;
use crate::capture::intervention::Intervention;
use crate::config::{Dtype, Pool};
use crate::corpus::config::{CorpusConfig, Format, TextSource};
use crate::device::gradient_ops::GradientOps;
use crate::engine::array::Array;
use crate::engine::fleet::{Device, Slot};
use crate::engine::ids::{IdsRequest, PaddedIds, extract_ids_on};
use crate::engine::words::{WordRequest, extract_words};
use crate::error::{Error, Result};
use crate::model::Model;
use crate::run::devices::{Devices, cpu, gpus};

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
    /// With --corpus: how it is read, by default as its suffix says
    #[arg(long, value_enum, conflicts_with = "ids", value_name = "FORMAT")]
    pub format: Option<CorpusFormat>,
    /// With --format parallel: the file of labels beside the file of words
    #[arg(long, conflicts_with = "ids", value_name = "FILE")]
    pub labels: Option<PathBuf>,
    /// With --corpus: CoNLL-U sentences as they were written, not as words joined by blanks
    #[arg(long, conflicts_with = "ids")]
    pub original: bool,
    /// With --corpus: begin each sequence with the model's BOS where its tokenizer does not
    #[arg(long, conflicts_with = "ids")]
    pub add_bos: bool,
    /// Site names and globs, separated by commas: layers.*.mlp_act,embeddings; with --ids also
    /// grad.layers.*.mlp_act, the gradient of the sum of `loss`
    #[arg(long, value_delimiter = ',', required = true, value_name = "GLOB")]
    pub sites: Vec<String>,
    /// The safetensors file to write
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
    /// Where it runs: auto (every GPU, else the CPU), cpu, cuda, cuda:0,2; with --ids on the first
    #[arg(long, default_value = "cpu", value_name = "DEVICE")]
    pub device: String,
    /// Of the forward pass
    #[arg(long, value_enum, default_value = "f32", value_name = "DTYPE")]
    pub dtype: DtypeArg,
    /// JSON file of activations to overwrite on the way: zero, set, add, scale, project, blend,
    /// clamp, keep_top, resample, patch; with --ids in several arms
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

/// See [`ExtractArgs::format`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum CorpusFormat {
    /// One document a line.
    Text,
    /// One JSON object a line.
    Jsonl,
    /// Universal Dependencies.
    Conllu,
    /// Words, and a label file of the same shape.
    Parallel,
    /// A `text` column.
    Parquet,
}

impl From<CorpusFormat> for Format {
    fn from(format: CorpusFormat) -> Self {
        match format {
            CorpusFormat::Text => Self::Text,
            CorpusFormat::Jsonl => Self::Jsonl,
            CorpusFormat::Conllu => Self::Conllu,
            CorpusFormat::Parallel => Self::Parallel,
            CorpusFormat::Parquet => Self::Parquet,
        }
    }
}

pub(super) fn run(args: ExtractArgs) -> Result<()> {
    let dtype = Dtype::from(args.dtype);
    match Devices::choose(Some(&args.device))? {
        Devices::Cpu => run_on(vec![cpu(dtype)], &args),
        Devices::Cuda(found) => run_on(gpus(&found, dtype), &args),
    }
}

fn run_on<O: Device + GradientOps>(devices: Vec<Slot<'_, O>>, args: &ExtractArgs) -> Result<()> {
    let model = Model::open(&args.model)?;
    let intervention = args.intervene.as_deref().map(Intervention::load).transpose()?;
    match (&args.ids, &args.corpus) {
        (Some(ids), _) => {
            let ids = PaddedIds::load(ids)?;
            let request = IdsRequest { sites: args.sites.clone(), intervention };
            write_arrays(args, &extract_ids_on(devices, &model, &ids, &request)?)
        }
        (None, Some(corpus)) => by_words(devices, args, (&model, corpus), intervention),
        (None, None) => unreachable!("clap asks for one of them"),
    }
}

fn write_arrays(args: &ExtractArgs, arrays: &BTreeMap<String, Array>) -> Result<()> {
    write_atomic(&args.out, |file| {
        let views = arrays.iter().map(|(name, array)| (name.as_str(), array));
        let bytes = safetensors::serialize(views, None).map_err(|error| Error::Contradiction {
            what: format!("cannot write the arrays: {error}"),
        })?;
        file.write_all(&bytes).map_err(Error::io(&args.out, "write"))
    })?;
    let list = arrays.iter().map(|(name, array)| format!("{name} {:?}\n", array.shape));
    output::print(&list.collect::<String>())
}

fn by_words<O: Device>(
    devices: Vec<Slot<'_, O>>,
    args: &ExtractArgs,
    (model, corpus): (&Model, &Path),
    intervention: Option<Intervention>,
) -> Result<()> {
    let mut corpus = CorpusConfig::of_file(corpus);
    corpus.format = args.format.map(Format::from);
    corpus.label_files = args.labels.iter().cloned().collect();
    corpus.text = if args.original { TextSource::Original } else { TextSource::Words };
    corpus.add_bos = args.add_bos;
    let request = WordRequest {
        corpus,
        pool: args.pool.map_or(Pool::Last, Pool::from),
        sites: args.sites.clone(),
        intervention,
    };
    let words = write_atomic(&args.out, |file| {
        extract_words(devices, model, &request, (file.get_mut(), &args.out))
    })?;
    let table = args.out.with_extension("words.parquet");
    let counts = words.counts;
    let rows = words.rows.len();
    write_words(&table, "extract", &words.columns, words.rows.into_iter())?;
    output::print(&format!(
        "{rows} rows of {} words ({} dropped, {} truncated), {} tokens\n{}\n",
        counts.words,
        counts.dropped_words,
        counts.truncated_words,
        counts.tokens,
        table.display(),
    ))
}
