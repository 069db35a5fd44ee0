//! `electrode steer`: what a model writes when the neurons of a ranking are steered, beside random
//! neurons of the same sites and the untouched model.

mod arms;
mod experts;

use std::path::PathBuf;
use std::sync::atomic::AtomicBool;

pub use arms::{Act, Spacing, Value};
pub use experts::RankingName;

use self::arms::Maker;
use self::experts::Experts;
use super::Report;
use super::generate::{Generation, Summary, Text, TextArm, TextConfig, json_lines};
use super::pieces::Pieces;
use super::provenance::model_facts;
use super::record::{Clock, Record, input, sites_of};
use crate::artifact::atomic::write_bytes_atomic;
use crate::artifact::manifest::{CorpusFacts, Manifest, Timings, write_json_atomic};
use crate::artifact::steering::{STEER, SteerRow, write_steering};
use crate::artifact::tables::{HISTOGRAMS, NEURONS, RANKINGS};
use crate::capture::plan::Edits;
use crate::config::ModelConfig;
use crate::corpus::block::Counts;
use crate::device::suffix_ops::SuffixOps;
use crate::disk;
use crate::engine::fleet::{Device, Slot};
use crate::error::{Error, Result};
use crate::generate::continuation::On;
use crate::generate::measures::{Share, WordList};
use crate::hash::hex;
use crate::id::NeuronId;
use crate::model::ModelSpec;
use crate::report;

/// Random sets at each strength, at most.
const MOST_DRAWS: u32 = 100;
/// File name of the texts.
pub const GENERATIONS: &str = "generations.jsonl";
/// File name of the settings, and of what is written into which neuron.
pub const SETTINGS: &str = "steer.json";

/// What is steered by which ranking, and what is looked for.
#[derive(Clone, Debug)]
pub struct SteerConfig {
    /// Model, prompts and sampling.
    pub texts: TextConfig,
    /// A finished run folder.
    pub run: PathBuf,
    /// One of its rankings.
    pub ranking: RankingName,
    /// Neurons from its top.
    pub top: usize,
    /// What is done to them.
    pub act: Act,
    /// How strongly, one arm for each.
    pub strengths: Vec<f64>,
    /// Draws of as many random neurons of the same sites, at each strength.
    pub random: u32,
    /// Names of lists of words, and their files, a word a line.
    pub presence: Vec<(String, PathBuf)>,
    /// At which tokens.
    pub on: On,
    /// The folder to write.
    pub out: PathBuf,
}

/// What the rows of an arm say of it.
struct Named {
    arm: TextArm,
    order: &'static str,
    draw: u32,
    strength: f64,
}

/// Everything opened and checked.
pub struct Steering {
    config: SteerConfig,
    generation: Generation,
    method: String,
    words: Vec<(String, WordList)>,
    arms: Vec<Named>,
    record: Record,
}

impl Steering {
    /// Opens model, run and words; refuses what cannot work.
    pub fn open(config: SteerConfig) -> Result<Self> {
        config.act.check(&config.strengths)?;
        if config.top == 0 {
            return Err(Error::config("top", "no neuron is steered", "steer 1 or more"));
        }
        if config.random > MOST_DRAWS {
            let what = format!("{} random draws", config.random);
            return Err(Error::config("random", what, format!("choose at most {MOST_DRAWS}")));
        }
        let words = read_words(&config.presence)?;
        let generation = Generation::open(config.texts.clone())?;
        check_run(&config, &generation.model.spec)?;
        let named = (&config.ranking, config.top);
        let experts = Experts::read(&config.run, named, &generation.model.spec)?;
        let ranking = (&config.ranking.label[..], &config.ranking.concept[..]);
        let classes = config.act.needs_classes().then(|| experts.by_class(&config.run, ranking));
        let classes = classes.transpose()?;
        let maker = Maker::new(config.act, &experts, classes.as_deref())?;
        let arms = arms(&config, &maker)?;
        let settings = settings(&config, &experts.method, &maker);
        let record = record(&config, &generation, (settings, &experts.top))?;
        let method = experts.method.clone();
        let steering = Self { generation, method, words, arms, record, config };
        steering.generation.check_arms(&steering.plain())?;
        Ok(steering)
    }

    /// Generates everything where the configuration says, and writes the folder. Goes on where an
    /// earlier attempt in the same folder stopped.
    pub fn run(&self, stop: &AtomicBool, report: Report<'_>) -> Result<Vec<SteerRow>> {
        let (pieces, clock) = (self.pieces(stop)?, Clock::start());
        let texts = self.generation.texts((&self.plain(), true), Some(&pieces), report)?;
        self.write(pieces, &texts, &clock)
    }

    /// As [`Self::run`], on these devices.
    pub fn run_on<O: Device + SuffixOps>(
        &self,
        slots: Vec<Slot<'_, O>>,
        stop: &AtomicBool,
        report: Report<'_>,
    ) -> Result<Vec<SteerRow>> {
        let (pieces, clock) = (self.pieces(stop)?, Clock::start());
        let texts =
            self.generation.texts_on(slots, (&self.plain(), true), Some(&pieces), report)?;
        self.write(pieces, &texts, &clock)
    }

    fn pieces<'a>(&self, stop: &'a AtomicBool) -> Result<Pieces<'a>> {
        Pieces::of_folder(self.config.out.clone(), self.record.run_id, stop)
    }

    fn plain(&self) -> Vec<TextArm> {
        self.arms.iter().map(|named| named.arm.clone()).collect()
    }

    fn write(
        &self,
        pieces: Pieces<'_>,
        texts: &[Vec<Text>],
        clock: &Clock,
    ) -> Result<Vec<SteerRow>> {
        let each = self.arms.iter().zip(texts);
        let rows: Vec<SteerRow> = each.flat_map(|(arm, texts)| self.rows(arm, texts)).collect();
        let path = pieces.folder().path();
        write_bytes_atomic(&path.join(GENERATIONS), json_lines(texts).as_bytes())?;
        write_json_atomic(&path.join(SETTINGS), &self.record.config)?;
        write_steering(&path.join(STEER), &hex(&self.record.run_id), rows.iter().cloned())?;
        let tokens = texts.iter().flatten().map(|text| text.tokens.len() as u64).sum();
        let record = Record { timings: clock.timings(tokens), ..self.record.clone() };
        record.write_in(path, &[GENERATIONS, SETTINGS, STEER])?;
        report::build(path)?;
        pieces.remove()?;
        Ok(rows)
    }

    /// A row for each list of words.
    fn rows(&self, named: &Named, texts: &[Text]) -> Vec<SteerRow> {
        let summary = Summary::of(texts);
        let count = |n: usize| i64::try_from(n).expect("counts are below 2^63");
        let untouched = named.order.is_empty();
        let ranking = &self.config.ranking;
        let row = |(name, words): &(String, WordList)| {
            let hits = texts.iter().filter(|text| words.is_in(&text.text)).count();
            let Share { share, error } = Share::of(hits, texts.len());
            SteerRow {
                method: self.method.clone(),
                label: ranking.label.clone(),
                concept: ranking.concept.clone(),
                order: named.order.to_owned(),
                act: if untouched { String::new() } else { self.config.act.name().to_owned() },
                draw: named.draw.cast_signed(),
                size: if untouched {
                    0
                } else {
                    i32::try_from(self.config.top).unwrap_or(i32::MAX)
                },
                strength: named.strength,
                words: name.clone(),
                n: count(texts.len()),
                tokens: count(summary.tokens),
                presence: share,
                presence_error: error,
                perplexity: summary.perplexity,
                judge_perplexity: summary.judge_perplexity.expect("every text is judged"),
                distinct_1: summary.distinct[0],
                distinct_2: summary.distinct[1],
            }
        };
        self.words.iter().map(row).collect()
    }
}

fn read_words(lists: &[(String, PathBuf)]) -> Result<Vec<(String, WordList)>> {
    let read = |(name, path): &(String, PathBuf)| {
        let text = disk::read_to_string(path).map_err(Error::io(path, "read"))?;
        Ok((name.clone(), WordList::parse(&text, &path.display().to_string())?))
    };
    lists.iter().map(read).collect()
}

/// Refuses a run of another kind of model.
fn check_run(config: &SteerConfig, spec: &ModelSpec) -> Result<()> {
    let model = Manifest::read(&config.run)?.model;
    let own = (spec.architecture.as_str(), spec.layers as u64, spec.width as u64);
    let theirs = (model.architecture.as_str(), model.layers, model.width);
    if own == theirs {
        return Ok(());
    }
    let what = format!(
        "its model is {} with {} layers of width {}, this one {} with {} of {}",
        theirs.0, theirs.1, theirs.2, own.0, own.1, own.2
    );
    let remedy = format!("give the model of the run: {}", model.path);
    Err(Error::config(config.run.display().to_string(), what, remedy))
}

/// The untouched model, then the experts and their random neurons at each strength.
fn arms(config: &SteerConfig, maker: &Maker<'_>) -> Result<Vec<Named>> {
    let named = |(order, draw): (&'static str, u32), strength: f64, edits: Edits| {
        let name = match order {
            "" => "untouched".to_owned(),
            "top" => format!("top x{strength}"),
            _ => format!("{order} {draw} x{strength}"),
        };
        let arm = TextArm { name: Some(name), edits, on: config.on };
        Named { arm, order, draw, strength }
    };
    let seed = config.texts.sampling.seed;
    let mut arms = vec![named(("", 0), 0.0, Edits::new())];
    for &strength in &config.strengths {
        arms.push(named(("top", 0), strength, maker.top(strength)));
        for draw in 0..config.random {
            let edits = maker.random((seed, draw), strength)?;
            arms.push(named(("random", draw), strength, edits));
        }
    }
    Ok(arms)
}

/// What was asked for and, for each expert, the number that strength 1 stands for.
fn settings(config: &SteerConfig, method: &str, maker: &Maker<'_>) -> serde_json::Value {
    let (texts, act) = (&config.texts, config.act);
    let neuron = |(rank, target): (usize, &arms::Target)| {
        let site = target.neuron.site.to_string();
        let number = act.needs_classes().then_some(target.number);
        serde_json::json!({
            "rank": rank + 1, "site": site, "neuron": target.neuron.index, "number": number,
        })
    };
    serde_json::json!({
        "run": config.run.display().to_string(),
        "method": method,
        "label": config.ranking.label,
        "concept": config.ranking.concept,
        "act": format!("{act:?}").to_lowercase(),
        "strengths": config.strengths,
        "random": config.random,
        "on": format!("{:?}", config.on).to_lowercase(),
        "model": texts.model,
        "dtype": format!("{:?}", texts.dtype).to_lowercase(),
        "add_bos": texts.add_bos,
        "samples": texts.samples,
        "max_tokens": texts.max_tokens,
        "sampling": format!("{:?}", texts.sampling),
        "ignore_end": texts.ignore_end,
        "stop": texts.stop,
        "neurons": (0..).zip(&maker.targets).map(neuron).collect::<Vec<_>>(),
    })
}

/// Who this is, what it was asked, and everything that may change a number.
fn record(
    config: &SteerConfig,
    generation: &Generation,
    (settings, experts): (serde_json::Value, &[NeuronId]),
) -> Result<Record> {
    let tables = [RANKINGS, NEURONS, HISTOGRAMS].map(|name| config.run.join(name));
    let lists = config.presence.iter().map(|(_, path)| path.clone());
    let read = tables.into_iter().chain(lists).filter(|path| path.exists());
    let read = read.map(|path| input(&path)).collect::<Result<Vec<_>>>()?;
    let hashes: Vec<_> = read.iter().map(|file| &file.blake3).collect();
    let names: Vec<&str> = config.presence.iter().map(|(name, _)| name.as_str()).collect();
    let prompts: Vec<&str> = generation.prompts.iter().map(|prompt| prompt.text.as_str()).collect();
    let files = generation.model.hashes()?;
    let facts = serde_json::json!([
        env!("CARGO_PKG_VERSION"),
        settings,
        files,
        generation.tokenizer_hash(),
        generation.device_kind(),
        hashes,
        names,
        prompts,
    ]);
    let texts = &config.texts;
    let of_model = ModelConfig { path: texts.model.clone(), dtype: texts.dtype };
    let counts = Counts { documents: prompts.len() as u64, ..Counts::default() };
    Ok(Record {
        run_id: *blake3::hash(facts.to_string().as_bytes()).as_bytes(),
        config: settings,
        model: model_facts((&generation.model, &files), &of_model, config.top as u64)?,
        corpus: CorpusFacts { files: read, counts },
        sites: sites_of(experts),
        pieces: generation.pieces_of(1 + config.strengths.len() * (1 + config.random as usize)),
        devices: generation.device_facts(),
        timings: Timings::default(),
        notes: Vec::new(),
    })
}
