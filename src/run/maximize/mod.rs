//! `electrode maximize`: texts made to drive neurons, written beside what a run's tables say of the
//! same neurons on a corpus.

mod corpus;
mod kept;
pub mod neurons;

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use serde_json::{Map, Value, json};

use self::corpus::CorpusValues;
use self::kept::Kept;
use super::devices::{self, Devices};
use super::pieces::Pieces;
use super::provenance::model_facts;
use super::record::{Clock, Record, sites_of};
use crate::accumulate::list::List;
use crate::artifact::atomic::write_bytes_atomic;
use crate::artifact::manifest::{CorpusFacts, Timings};
use crate::config::{Dtype, ModelConfig};
use crate::corpus::block::Counts;
use crate::corpus::tokenize::Tokenizer;
use crate::device::forward::Limits;
use crate::device::gradient_ops::GradientOps;
use crate::engine::fleet::{Device, Fleet, Setup, Slot};
use crate::engine::tokenizer::open_tokenizer;
use crate::error::Result;
use crate::id::NeuronId;
use crate::model::Model;
use crate::stimulate::maximize::{
    Maximized, Outcome, Search, Settings, check, groups, layers_needed,
};

/// Tokens of the texts that a CPU moves, and keeps, together: more at once are no faster there.
const CPU_GROUP: usize = 256;

/// What is asked for.
#[derive(Clone, Debug)]
pub struct MaximizeConfig {
    /// Folder with config.json, or org/name in the local Hub cache.
    pub model: String,
    /// The neurons, in the order they are written.
    pub neurons: Vec<NeuronId>,
    /// How texts are made.
    pub settings: Settings,
    /// What `variant` is called in the file.
    pub variant: &'static str,
    /// Begin each text with the model's BOS where its tokenizer does not.
    pub add_bos: bool,
    /// Folder of a run over a corpus with the same model, for comparison.
    pub run: Option<PathBuf>,
    /// Tokens of a batch; by default as many as suit the device.
    pub batch_tokens: Option<usize>,
    /// Where it runs.
    pub device: Option<String>,
    /// Of the forward and the backward pass.
    pub dtype: Dtype,
    /// The JSON Lines file to write.
    pub out: PathBuf,
}

/// A neuron and its best text.
#[derive(Clone, Debug)]
pub struct Best {
    /// Which neuron.
    pub neuron: NeuronId,
    /// Its best text; none for a constant neuron.
    pub text: Option<(Maximized, String)>,
    /// The best random text's value.
    pub random: f32,
    /// The largest value in the corpus of the run, if there is one, and the share of that corpus
    /// which lies below the text's value.
    pub corpus: Option<(f32, f64)>,
}

/// Makes the texts and writes one JSON object a line: a text, or a neuron that was left out; beside it
/// a manifest. Goes on where an earlier attempt at the same file stopped.
pub fn maximize_neurons(
    config: &MaximizeConfig,
    stop: &AtomicBool,
    told: impl FnMut(f64),
) -> Result<Vec<Best>> {
    let devices = Devices::choose(config.device.as_deref())?;
    let tokens = config.batch_tokens.unwrap_or(devices.batch_tokens());
    match &devices {
        Devices::Cpu => on(
            vec![devices::cpu(config.dtype)],
            config,
            (&devices, tokens, CPU_GROUP),
            (stop, told),
        ),
        Devices::Cuda(found) => {
            let slots = devices::gpus(found, config.dtype);
            on(slots, config, (&devices, tokens, usize::MAX), (stop, told))
        }
    }
}

/// `group` is how many tokens of texts are kept together at most.
fn on<O: Device + GradientOps>(
    slots: Vec<Slot<'_, O>>,
    config: &MaximizeConfig,
    (devices, batch_tokens, group): (&Devices, usize, usize),
    (stop, mut told): (&AtomicBool, impl FnMut(f64)),
) -> Result<Vec<Best>> {
    let (clock, mut model) = (Clock::start(), Model::open(&config.model)?);
    let tokenizer = open_tokenizer(&model, config.add_bos)?;
    let corpus = config.run.as_deref().map(CorpusValues::load).transpose()?;
    let record = record(config, (&model, &tokenizer), devices)?;
    let mut allowed = tokenizer.ordinary();
    allowed.retain(|&token| (token as usize) < model.spec.vocab);
    // Blocks above the last neuron are neither loaded nor run.
    model.spec.layers = layers_needed(&model.spec, &config.neurons, config.settings.fluency);
    let asked = (&config.neurons[..], &allowed[..], [tokenizer.before(), tokenizer.after()]);
    let text = check(&model, &config.settings, asked)?;
    let limits = Limits { tokens: batch_tokens.max(text), sequence: text };
    let setup = Setup::new(limits, |ops, limits: Limits| {
        Search::new(ops, &model, (&config.settings, limits.tokens), asked)
    });
    let mut fleet = Fleet::new(slots, setup);
    let pieces = Pieces::of_file(&config.out, record.run_id, stop)?;
    let count = u32::try_from(config.neurons.len()).expect("neurons are few");
    let mut stage = pieces.stage::<List>(("neurons", &[]), (), count)?;
    let missing: Vec<usize> = stage.missing().into_iter().map(|n| n as usize).collect();
    let mut done = config.neurons.len() - missing.len();
    let at_once = (limits.tokens / text).min(group / config.settings.length);
    let groups = groups((&config.settings, &config.neurons), &missing, at_once);
    let work = |search: &mut Search<'_, O>, group: &Vec<usize>| {
        let made = search.texts(group, |_| {})?;
        let kept = |(&number, outcome): (&usize, &Outcome)| {
            let number = u32::try_from(number).expect("neurons are few");
            (number, List::of(&[Kept::of(outcome)], counts(outcome)))
        };
        Ok(group.iter().zip(&made).map(kept).collect())
    };
    stage.groups(groups, &mut fleet, work, |neurons| {
        done += neurons;
        told(done as f64 / f64::from(count));
    })?;
    let list = stage.finish()?;
    let tokens = list.counts.tokens;
    let kept = list.items::<Kept>()?.into_iter().zip(&config.neurons);
    let outcomes =
        kept.map(|(kept, &neuron)| kept.outcome(neuron)).collect::<Result<Vec<Outcome>>>()?;
    model.check_unchanged()?;
    write(&config.out, &outcomes, (config, &tokenizer, corpus.as_ref()))?;
    let record = Record { timings: clock.timings(tokens), ..record };
    record.write_beside(&config.out)?;
    pieces.remove()?;
    outcomes.iter().map(|outcome| best(outcome, &tokenizer, corpus.as_ref())).collect()
}

fn counts(outcome: &Outcome) -> Counts {
    let Outcome::Texts(texts) = outcome else { return Counts::default() };
    let tokens = texts.iter().map(|text| text.tokens.len() as u64).sum();
    Counts { sequences: texts.len() as u64, tokens, ..Counts::default() }
}

/// Who this is, and what it was asked.
fn record(
    config: &MaximizeConfig,
    (model, tokenizer): (&Model, &Tokenizer),
    devices: &Devices,
) -> Result<Record> {
    let files = model.hashes()?;
    let neurons: Vec<String> = config.neurons.iter().map(ToString::to_string).collect();
    let settings = format!("{:?}", config.settings);
    let of_model = ModelConfig { path: config.model.clone(), dtype: config.dtype };
    let facts = json!([
        env!("CARGO_PKG_VERSION"),
        files,
        tokenizer.hash(),
        devices.kind(of_model.dtype),
        of_model.dtype,
        config.add_bos,
        settings,
        neurons,
    ]);
    let asked = json!({
        "model": of_model,
        "neurons": neurons,
        "variant": config.variant,
        "settings": settings,
        "add_bos": config.add_bos,
        "run": config.run.as_ref().map(|path| path.display().to_string()),
    });
    Ok(Record {
        run_id: *blake3::hash(facts.to_string().as_bytes()).as_bytes(),
        config: asked,
        model: model_facts((model, &files), &of_model, config.neurons.len() as u64)?,
        corpus: CorpusFacts::default(),
        sites: sites_of(&config.neurons),
        pieces: config.neurons.len() as u64,
        devices: devices.facts(),
        timings: Timings::default(),
        notes: Vec::new(),
    })
}

fn best(outcome: &Outcome, tokenizer: &Tokenizer, corpus: Option<&CorpusValues>) -> Result<Best> {
    match outcome {
        Outcome::Constant(neuron, value) => {
            Ok(Best { neuron: *neuron, text: None, random: *value, corpus: None })
        }
        Outcome::Texts(texts) => {
            let first = &texts[0];
            let random = texts.iter().map(|text| text.random).fold(f32::NEG_INFINITY, f32::max);
            let corpus = corpus.and_then(|corpus| {
                Some((corpus.max(first.neuron)?, corpus.percentile(first.neuron, first.discrete)?))
            });
            let text = Some((first.clone(), tokenizer.decode(&first.tokens)?));
            Ok(Best { neuron: first.neuron, text, random, corpus })
        }
    }
}

/// What every line is written with.
type Beside<'a> = (&'a MaximizeConfig, &'a Tokenizer, Option<&'a CorpusValues>);

fn write(path: &Path, outcomes: &[Outcome], beside: Beside<'_>) -> Result<()> {
    let mut lines = String::new();
    for outcome in outcomes {
        match outcome {
            Outcome::Constant(neuron, value) => {
                let mut line = of_neuron(*neuron);
                let why = "the same on every random text, and no gradient leads away";
                line.insert("skipped".into(), json!(why));
                line.insert("value".into(), json!(value));
                push(&mut lines, line);
            }
            Outcome::Texts(texts) => {
                for text in texts {
                    push(&mut lines, line(text, beside)?);
                }
            }
        }
    }
    write_bytes_atomic(path, lines.as_bytes())
}

fn push(lines: &mut String, line: Map<String, Value>) {
    *lines += &Value::Object(line).to_string();
    lines.push('\n');
}

fn of_neuron(neuron: NeuronId) -> Map<String, Value> {
    let mut line = Map::new();
    line.insert("neuron".into(), json!(neuron.to_string()));
    line.insert("site".into(), json!(neuron.site.to_string()));
    line.insert("layer".into(), json!(neuron.site.layer));
    line.insert("index".into(), json!(neuron.index));
    line
}

fn line(text: &Maximized, (config, tokenizer, corpus): Beside<'_>) -> Result<Map<String, Value>> {
    let mut line = of_neuron(text.neuron);
    let decoded = tokenizer.decode(&text.tokens)?;
    let again = tokenizer.encode(&decoded)?.tokens;
    let piece = |id: &u32| tokenizer.id_to_token(*id).unwrap_or_default();
    let near = |list: &Vec<(u32, f64)>| {
        let one = |(id, cosine): &(u32, f64)| json!({"token": piece(id), "cosine": cosine});
        list.iter().map(one).collect::<Vec<Value>>()
    };
    let facts = [
        ("variant", json!(config.variant)),
        ("seed", json!(config.settings.seed)),
        ("restart", json!(text.restart)),
        ("random", json!(text.random)),
        ("relaxed", json!(text.relaxed)),
        ("snapped", json!(text.snapped)),
        ("discrete", json!(text.discrete)),
        ("climbed", json!(text.climbed)),
        ("at", json!(text.at)),
        ("text", json!(decoded)),
        ("same_tokens", json!(again == text.tokens)),
        ("tokens", json!(text.tokens)),
        ("pieces", json!(text.tokens.iter().map(piece).collect::<Vec<_>>())),
    ];
    line.extend(facts.into_iter().map(|(key, value)| (key.to_owned(), value)));
    if let Some(fluency) = text.fluency {
        line.insert("fluency".into(), json!(fluency));
    }
    if !text.nearest.is_empty() {
        line.insert("nearest".into(), json!(text.nearest.iter().map(near).collect::<Vec<_>>()));
    }
    if let Some(corpus) = corpus {
        line.insert("corpus".into(), corpus.beside(text.neuron, text.discrete));
    }
    Ok(line)
}
