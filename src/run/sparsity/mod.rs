//! `electrode sparsity`: how many neurons a model uses on a sample of a corpus, and how many it
//! needs, written as tables. Every pass over the sample is kept batch by batch, and a stopped command
//! goes on.

mod rows;
mod search;

use std::path::PathBuf;
use std::sync::atomic::AtomicBool;

use serde_json::json;

use self::search::{Passes, about, points_at};
use super::Report;
use super::devices::{self, Devices};
use super::pieces::Pieces;
use super::provenance::model_facts;
use super::record::{Clock, Record};
use crate::artifact::manifest::{CorpusFacts, FileFacts, SiteFacts, Timings};
use crate::artifact::sparsity::{PerplexityRow, SparsityRow};
use crate::config::{Dtype, ModelConfig, Policy, Pool};
use crate::corpus::align::RowRules;
use crate::corpus::batch::{Batch, pack};
use crate::corpus::block::Counts;
use crate::corpus::config::CorpusConfig;
use crate::corpus::labels::LabelIndex;
use crate::corpus::read::source::sources;
use crate::corpus::read::{Columns, Documents};
use crate::corpus::stream::tokenize_documents;
use crate::corpus::tokenize::Tokenizer;
use crate::device::backward::Differentiable;
use crate::device::forward::Limits;
use crate::device::gradient_ops::GradientOps;
use crate::engine::fleet::{Device, Fleet, Setup, Slot};
use crate::engine::tokenizer::open_tokenizer;
use crate::error::{Error, Result};
use crate::hash::hex;
use crate::id::SiteKind;
use crate::model::{Activation, HeadSpec, Model};
use crate::stimulate::neurons::site_of;
use crate::stimulate::sparsity::{Firing, Sparsity};

/// Documents tokenised together.
const DOCUMENTS: usize = 64;
/// eps unless asked otherwise: ReLU is exactly 0, others come near.
const EPS: f32 = 0.01;

/// The least tolerance: a strength is 1 at most, and its halves are exact.
const LEAST: f64 = 1e-9;

/// What is asked for.
#[derive(Clone, Debug)]
pub struct SparsityConfig {
    /// Folder with config.json, or org/name in the local Hub cache.
    pub model: String,
    /// The corpus.
    pub corpus: CorpusConfig,
    /// Tokens of it that are measured, about.
    pub tokens: usize,
    /// A neuron fires if |x| is above this; by default 0 for ReLU, 0.01 for others.
    pub eps: Option<f32>,
    /// Shares of each layer's output that the tail may hold.
    pub cett: Vec<f64>,
    /// Growth of the perplexity that is allowed; none for no search.
    pub ppl: Option<f64>,
    /// Thresholds J of a pass.
    pub thresholds: u32,
    /// How near the strongest cut within that perplexity is looked for: of c itself for CETT, of a
    /// share from 0 to 1 of the other means' range.
    pub tolerance: f64,
    /// Tokens of a batch; by default as many as suit the device.
    pub batch_tokens: Option<usize>,
    /// Where it runs.
    pub device: Option<String>,
    /// Of the forward pass.
    pub dtype: Dtype,
    /// The folder to write.
    pub out: PathBuf,
}

/// What was found.
#[derive(Clone, Debug, Default)]
pub struct Measured {
    /// Rows of `sparsity.parquet`.
    pub sparsity: Vec<SparsityRow>,
    /// Rows of `perplexity.parquet`.
    pub perplexity: Vec<PerplexityRow>,
    /// What fires, by layer.
    pub firing: Vec<Firing>,
}

/// Measures, and writes the tables and a manifest. Goes on where an earlier attempt in the same folder
/// stopped.
pub fn measure_sparsity(
    config: &SparsityConfig,
    stop: &AtomicBool,
    report: Report<'_>,
) -> Result<Measured> {
    check(config)?;
    let devices = Devices::choose(config.device.as_deref())?;
    let opened = Opened::new(config, devices)?;
    match &opened.devices {
        Devices::Cpu => on(vec![devices::cpu(config.dtype)], config, &opened, (stop, report)),
        Devices::Cuda(found) => {
            on(devices::gpus(found, config.dtype), config, &opened, (stop, report))
        }
    }
}

/// A model and the tokens that it is measured on.
struct Opened {
    devices: Devices,
    model: Model,
    batches: Vec<Batch>,
    record: Record,
}

impl Opened {
    fn new(config: &SparsityConfig, devices: Devices) -> Result<Self> {
        let model = Model::open(&config.model)?;
        let tokenizer = open_tokenizer(&model, config.corpus.add_bos)?;
        let batch_tokens = config.batch_tokens.unwrap_or(devices.batch_tokens());
        let longest = model.spec.sequence_limit(config.corpus.max_tokens);
        let (batches, counts) = sample((&model, &tokenizer), config, (batch_tokens, longest))?;
        let record = record(config, (&model, &devices), (&batches, counts))?;
        Ok(Self { devices, model, batches, record })
    }

    /// The perplexity that is allowed, of a model that speaks.
    fn allowed(&self, config: &SparsityConfig) -> Option<f64> {
        let spec = &self.model.spec;
        let speaks = matches!(spec.head, HeadSpec::Lm { .. }) && spec.attention.causal;
        if config.ppl.is_some() && !speaks {
            tracing::warn!("no perplexity: the model is no causal language model with a head");
        }
        config.ppl.filter(|_| speaks)
    }
}

fn on<O: Device + GradientOps>(
    slots: Vec<Slot<'_, O>>,
    config: &SparsityConfig,
    opened: &Opened,
    (stop, report): (&AtomicBool, Report<'_>),
) -> Result<Measured> {
    let (clock, model, batches) = (Clock::start(), &opened.model, &opened.batches[..]);
    let sequence = |batch: &Batch| batch.starts.windows(2).map(|p| (p[1] - p[0]) as usize).max();
    let limits = Limits {
        tokens: batches.iter().map(|batch| batch.tokens.len()).max().unwrap_or(1),
        sequence: batches.iter().filter_map(sequence).max().unwrap_or(1),
    };
    let allowed = opened.allowed(config);
    let sites = (0..model.spec.layers).map(|layer| site_of(SiteKind::MlpAct, layer)).collect();
    let setup = Setup::new(limits, |ops, limits| {
        Sparsity::new(Differentiable::new(ops, model, limits, (&sites, allowed.is_some()))?, model)
    });
    let pieces = Pieces::of_folder(config.out.clone(), opened.record.run_id, stop)?;
    let mut passes = Passes {
        // Batches are what was asked for: no smaller one has room for them.
        fleet: Fleet::new(slots, setup.at_least(limits.tokens)),
        shape: (model.spec.layers, model.spec.mlp.width),
        batches,
        pieces: &pieces,
        told: &mut |tokens, share| report("measuring", tokens, share),
        passes: (0, about(allowed.map(|_| config.tolerance))),
        tokens: 0,
    };
    let relu = model.spec.mlp.activation == Activation::Relu;
    let eps = config.eps.unwrap_or(if relu { 0.0 } else { EPS });
    let firing = passes.firing(eps)?;
    let mut curves = passes.curves(&firing, (&config.cett, config.thresholds))?;
    let mut measured = Measured { firing, ..Measured::default() };
    measured.rows_of_firing(eps);
    for &c in &config.cett {
        measured.rows_of_cett(c, &points_at(&curves, c));
    }
    if let Some(allowed) = allowed {
        passes.search(&mut curves, (allowed, config.tolerance), &mut measured)?;
    }
    measured.rows_of_curves(&curves);
    model.check_unchanged()?;
    let record = Record { timings: clock.timings(passes.tokens), ..opened.record.clone() };
    drop(passes);
    let names = rows::write(&config.out, &hex(&record.run_id), &measured)?;
    record.write_in(&config.out, &names)?;
    pieces.remove()?;
    Ok(measured)
}

/// Who this is, and what it was asked. The tokens of the sample are hashed, not the whole corpus.
fn record(
    config: &SparsityConfig,
    (model, devices): (&Model, &Devices),
    (batches, counts): (&[Batch], Counts),
) -> Result<Record> {
    let files = model.hashes()?;
    let mut sample = blake3::Hasher::new();
    for batch in batches {
        for list in [&batch.tokens, &batch.starts, &batch.row_first] {
            sample.update(&(list.len() as u64).to_le_bytes());
            sample.update(bytemuck::cast_slice(list));
        }
    }
    let sample = sample.finalize().to_hex().to_string();
    let of_model = ModelConfig { path: config.model.clone(), dtype: config.dtype };
    let asked = json!({
        "eps": config.eps,
        "cett": config.cett,
        "ppl": config.ppl,
        "thresholds": config.thresholds,
        "tolerance": config.tolerance,
        "sample": sample,
    });
    let facts = json!([
        env!("CARGO_PKG_VERSION"),
        files,
        devices.kind(of_model.dtype),
        of_model.dtype,
        asked
    ]);
    let (layers, neurons) = (model.spec.layers, model.spec.mlp.width as u64);
    let site = |layer| SiteFacts { site: site_of(SiteKind::MlpAct, layer).to_string(), neurons };
    let read = |path: &PathBuf| {
        let bytes = std::fs::metadata(path).map_err(Error::io(path, "read"))?.len();
        Ok(FileFacts { name: path.display().to_string(), bytes, ..FileFacts::default() })
    };
    let read =
        sources(&config.corpus)?.iter().map(|source| read(&source.path)).collect::<Result<_>>()?;
    Ok(Record {
        run_id: *blake3::hash(facts.to_string().as_bytes()).as_bytes(),
        config: json!({"model": of_model, "corpus": config.corpus, "asked": asked}),
        model: model_facts((model, &files), &of_model, layers as u64 * neurons)?,
        corpus: CorpusFacts { files: read, counts },
        sites: (0..layers).map(site).collect(),
        pieces: batches.len() as u64,
        devices: devices.facts(),
        timings: Timings::default(),
        notes: Vec::new(),
    })
}

fn check(config: &SparsityConfig) -> Result<()> {
    let share = |c: &&f64| !(**c > 0.0 && **c < 1.0);
    if let Some(wrong) = config.cett.iter().find(share) {
        let what = format!("{wrong} is no share between 0 and 1");
        return Err(Error::config("--cett", what, "write 0.05,0.1,0.2"));
    }
    if let Some(wrong) = config.ppl.filter(|p| !(p.is_finite() && *p > 0.0)) {
        let what = format!("{wrong} is no growth of the perplexity");
        return Err(Error::config("--ppl", what, "write 0.01 for 1 %"));
    }
    if !(LEAST..=1.0).contains(&config.tolerance) {
        let what = format!("{} is no tolerance", config.tolerance);
        return Err(Error::config("--tolerance", what, "write 0.0001, or 1e-6"));
    }
    match config.eps.filter(|eps| !(eps.is_finite() && *eps >= 0.0)) {
        Some(eps) => {
            Err(Error::config("--eps", format!("{eps} is no threshold"), "write 0.01, or 0"))
        }
        None => Ok(()),
    }
}

/// The first documents of the corpus, packed, up to about the tokens asked for. Rows are tokens:
/// special ones are left out, and the first of a sequence where a decoder has no BOS there.
fn sample(
    (model, tokenizer): (&Model, &Tokenizer),
    config: &SparsityConfig,
    (batch_tokens, longest): (usize, usize),
) -> Result<(Vec<Batch>, Counts)> {
    let rules = RowRules {
        pool: Pool::None,
        special_tokens: Policy::Exclude,
        first_position: !(model.spec.attention.causal && tokenizer.before().is_empty()),
        max_tokens: Some(longest),
        long: config.corpus.long,
    };
    let mut reader = Documents::open(&config.corpus, Columns::only(std::iter::empty::<String>()))?;
    let (mut sequences, mut tokens, mut counts) = (Vec::new(), 0, Counts::default());
    while tokens < config.tokens {
        let mut documents = Vec::new();
        while documents.len() < DOCUMENTS {
            match reader.advance()? {
                Some(document) => documents.push(document),
                None => break,
            }
        }
        if documents.is_empty() {
            break;
        }
        counts.documents += documents.len() as u64;
        let (more, _) = tokenize_documents(&documents, tokenizer, &LabelIndex::default(), &rules)?;
        for sequence in more {
            if tokens >= config.tokens {
                break;
            }
            tokens += sequence.tokens.len();
            sequences.push(sequence);
        }
    }
    let batches = pack(&sequences, batch_tokens.max(1));
    if batches.iter().all(|batch| batch.rows() == 0) {
        let what = "no token of the corpus counts";
        return Err(Error::input(&config.corpus.files[0], what, "check the format"));
    }
    counts.sequences = sequences.len() as u64;
    counts.tokens = tokens as u64;
    counts.rows = batches.iter().map(|batch| batch.rows() as u64).sum();
    Ok((batches, counts))
}
