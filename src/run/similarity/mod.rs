//! `electrode similarity`: how alike layers and models are, and which neurons they share (methods.md 3.6:
//! `cka`, `svcca`, `pwcca`, `xmodel-max`, `xmodel-min`, `xmodel-linreg`, `cluster`, `redund-layer`).
//!
//! Models read the blocks of the corpus side by side (`whole.rs`): second moments within sites and between
//! those of the asked pairs are taken on the device over every row that all models have, and merge and resume
//! as the statistics of a run do. Or each leaves a uniform sample of its rows (`sample.rs`), whose moments are
//! taken in f64 on the host. Rows are matched by document and word, so tokenizers may differ.

mod config;
mod keys;
mod known;
mod pair;
mod sample;
mod shared;
mod side;
mod whole;

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use rayon::prelude::*;

pub use self::config::{ComparedModel, SimilarityConfig, SimilaritySettings};
pub use self::keys::keys;
use self::known::{Known, SampledRows, moments_of};
use self::pair::{Pair, asked_pairs, next_layer};
use self::sample::{Sampled, common_rows, sample, values_of};
use self::shared::Shared;
use self::side::Side;
use self::whole::{Whole, whole};
use super::Report;
use super::folder::RunFolder;
use super::prepare::Prepared;
use super::provenance::{corpus_files, lost_note, model_facts};
use super::record::{Clock, Record};
use crate::artifact::machine::available_memory;
use crate::artifact::manifest::{CorpusFacts, ModelFacts, SiteFacts};
use crate::artifact::similarity::{CLUSTERS, PARTNERS, REDUNDANCY, SHARED, SIMILARITY};
use crate::artifact::table::write_table;
use crate::artifact::tables::{RANKINGS, write_rankings};
use crate::config::Pool;
use crate::corpus::block::Counts;
use crate::engine::segment::RunId;
use crate::error::{Error, Result};
use crate::hash::hex;
use crate::id::Site;

/// Files of a finished folder, beside the page.
const OUTPUTS: [&str; 6] = [SIMILARITY, PARTNERS, CLUSTERS, REDUNDANCY, SHARED, RANKINGS];

/// Models, opened and checked.
pub struct Similarity {
    /// Its file.
    pub config: SimilarityConfig,
    /// Hash of everything that may change a number.
    pub run_id: RunId,
    models: Vec<Prepared>,
}

/// What a finished comparison leaves.
#[derive(Clone, Debug)]
pub struct Compared {
    /// Its folder.
    pub folder: PathBuf,
    /// The page to open.
    pub report: PathBuf,
    /// Rows that every model has.
    pub rows: usize,
    /// Sites of all models.
    pub sites: usize,
    /// Pairs of sites.
    pub pairs: usize,
    /// Blocks that earlier attempts had done, over all models.
    pub resumed_blocks: u64,
}

impl Similarity {
    /// Opens everything; refuses what cannot work.
    pub fn new(config: SimilarityConfig) -> Result<Self> {
        let open = |model| Prepared::new(config.run_of(model));
        let models: Vec<Prepared> = config.models.iter().map(open).collect::<Result<_>>()?;
        check_rows(&config, &models)?;
        if config.similarity.rows > 0 {
            check_memory(&config, &models)?;
        }
        let mut hasher = blake3::Hasher::new();
        for model in &models {
            hasher.update(&model.run_id);
        }
        let run_id = *hasher.update(config.identity().to_string().as_bytes()).finalize().as_bytes();
        let own = Self { config, run_id, models };
        if own.config.similarity.rows == 0 {
            whole::check_memory(&own)?;
        }
        Ok(own)
    }

    /// Model and site of each place, models in the order of the file.
    fn places(&self) -> Vec<(usize, Site)> {
        let of = |(number, model): (usize, &Prepared)| {
            model.sites.iter().map(move |site| (number, *site)).collect::<Vec<_>>()
        };
        self.models.iter().enumerate().flat_map(of).collect()
    }

    fn names(&self) -> Vec<String> {
        self.config.models.iter().map(|model| model.name.clone()).collect()
    }
}

/// Rows that are tokens are the same in two models only if their tokenizers are.
fn check_rows(config: &SimilarityConfig, models: &[Prepared]) -> Result<()> {
    let by_token = |model: &Prepared| config.capture.pool == Pool::None || model.plan.words == 0;
    let differs =
        models.windows(2).position(|two| two[0].tokenizer.hash() != two[1].tokenizer.hash());
    match differs {
        Some(at) if models.iter().any(by_token) => Err(Error::config(
            "capture.pool",
            format!(
                "rows are tokens, and those of '{}' and '{}' differ",
                config.models[at].name,
                config.models[at + 1].name
            ),
            "use pool = \"last\" and a corpus of words",
        )),
        _ => Ok(()),
    }
}

/// The rows of all sites, and four squares of each, are in memory at once.
fn check_memory(config: &SimilarityConfig, models: &[Prepared]) -> Result<()> {
    let rows = config.similarity.rows as u64;
    let widths = models
        .iter()
        .flat_map(|model| model.sites.iter().map(|site| model.model.spec.site_width(*site) as u64));
    let sites = widths.clone().count() as u64;
    let moments: u64 = widths.map(|width| 4 * rows * width + 4 * 8 * width * width).sum();
    // A kernel in f32 for each site, and one in f64 with half of it sorted for each that is being made.
    let kernels = match config.similarity.rbf > 0.0 {
        true => rows * rows * (4 * sites + 12 * sites.min(rayon::current_num_threads() as u64)),
        false => 0,
    };
    let needed = moments + kernels;
    match available_memory() {
        Some(free) if free < needed => Err(Error::config(
            "similarity",
            format!("rows and moments take {} MiB, {} are free", needed >> 20, free >> 20),
            "name fewer sites, or lower similarity.rows",
        )),
        _ => Ok(()),
    }
}

/// Runs everything where the file says; goes on where an earlier attempt in the same folder stopped.
pub fn similarity(asked: &Similarity, stop: &AtomicBool, report: Report<'_>) -> Result<Compared> {
    let folder = RunFolder::open_at(asked.config.out.clone(), hex(&asked.run_id))?;
    let clock = Clock::start();
    folder.own()?;
    let (sides, known, facts) = match asked.config.similarity.rows {
        0 => of_corpus(asked, &folder, (stop, &mut *report))?,
        _ => of_sample(asked, &folder, (stop, &mut *report))?,
    };
    let pairs = compare(asked, (&sides, &known), (stop, &mut *report))?;
    report("writing tables", 0, 1.0);
    write(asked, &folder, (&sides, &pairs))?;
    let rows = sides.first().map_or(0, Side::count);
    record(asked, &facts, (&sides, rows), &clock)?.write_in(folder.path(), &OUTPUTS)?;
    let page = crate::report::build(folder.path())?;
    Ok(Compared {
        folder: folder.path().to_path_buf(),
        report: page,
        rows: usize::try_from(rows).expect("rows are in memory"),
        sites: sides.len(),
        pairs: pairs.len(),
        resumed_blocks: facts.iter().map(|facts| facts.resumed).sum(),
    })
}

/// Sites, what is known of them together, and what the manifest says of each model's pass.
type Read = (Vec<Side>, Known, Vec<Facts>);

/// Every site over all rows that all models have.
fn of_corpus(
    asked: &Similarity,
    folder: &RunFolder,
    (stop, report): (&AtomicBool, Report<'_>),
) -> Result<Read> {
    let Whole { state, tokens, resumed, lost } =
        whole(asked, &folder.states().join("whole"), (stop, report))?;
    check_count(state.rows[0], "read more text")?;
    let share = asked.config.similarity.share;
    let places: Vec<(usize, (usize, Site))> = asked.places().into_iter().enumerate().collect();
    let side = |(at, place)| Side::new(place, moments_of(&state, at), share);
    let sides = places.into_par_iter().map(side).collect::<Result<_>>()?;
    let counts = state.counts;
    let mut facts = vec![Facts { counts: Some(counts), tokens, resumed, lost }];
    facts.resize_with(asked.models.len(), Facts::default);
    Ok((sides, Known::Whole(state), facts))
}

/// Every site over the rows of the sample that all models have.
fn of_sample(
    asked: &Similarity,
    folder: &RunFolder,
    (stop, report): (&AtomicBool, Report<'_>),
) -> Result<Read> {
    let mut sampled = Vec::with_capacity(asked.models.len());
    for (at, prepared) in asked.models.iter().enumerate() {
        let states = folder.states().join(at.to_string());
        sampled.push(sample(prepared, &states, (stop, &mut *report))?);
    }
    let facts = sampled.iter().map(Facts::of).collect();
    let rows = common_rows(&sampled);
    check_count(rows.len() as u64, "read more text, or raise similarity.rows")?;
    let SimilaritySettings { share, rbf: bandwidth, .. } = asked.config.similarity;
    let of_model = |(model, sampled): (usize, Sampled)| {
        let own = sampled.sites.into_iter();
        own.map(move |(site, neurons, sample)| (model, site, neurons, sample))
    };
    let all: Vec<_> = sampled.into_iter().enumerate().flat_map(of_model).collect();
    let side = |(model, site, neurons, sample): (usize, _, usize, _)| {
        let (own, moments) =
            SampledRows::new(neurons, values_of(&sample, neurons, &rows), bandwidth);
        Ok((Side::new((model, site), moments, share)?, own))
    };
    let both: Vec<(Side, SampledRows)> = all.into_par_iter().map(side).collect::<Result<_>>()?;
    let (sides, rows) = both.into_iter().unzip();
    Ok((sides, Known::Sample(rows), facts))
}

/// Fewer rows say nothing of how alike neurons are.
const LEAST: u64 = 16;

fn check_count(rows: u64, remedy: &str) -> Result<()> {
    match rows {
        LEAST.. => Ok(()),
        _ => {
            let what = format!("{rows} rows are rows of every model");
            Err(Error::config("corpus", what, remedy))
        }
    }
}

/// The pairs that the file asks for.
fn compare(
    asked: &Similarity,
    (sides, known): (&[Side], &Known),
    (stop, report): (&AtomicBool, Report<'_>),
) -> Result<Vec<Pair>> {
    let places = asked_pairs(&asked.places(), asked.config.similarity.pairs);
    let at_once = rayon::current_num_threads();
    let mut pairs = Vec::with_capacity(places.len());
    for some in places.chunks(at_once) {
        if stop.load(Ordering::Relaxed) {
            return Err(Error::Unfinished { what: "stopped by a signal".into() });
        }
        report("comparing sites", 0, pairs.len() as f64 / places.len() as f64);
        let one = |places: &(usize, usize)| Pair::new((sides, known), *places);
        let found: Vec<Pair> = some.par_iter().map(one).collect::<Result<_>>()?;
        pairs.extend(found);
    }
    Ok(pairs)
}

/// Every table.
fn write(asked: &Similarity, folder: &RunFolder, (sides, pairs): (&[Side], &[Pair])) -> Result<()> {
    let (names, path, id) = (asked.names(), folder.path(), folder.run_id());
    let rows = pairs.iter().flat_map(|pair| pair.rows(sides, &names));
    write_table(&path.join(SIMILARITY), id, rows)?;
    let models: Vec<Shared<'_>> =
        (0..names.len()).map(|model| Shared::new(&names, (sides, pairs), model)).collect();
    write_table(&path.join(PARTNERS), id, models.iter().flat_map(Shared::partners))?;
    write_table(&path.join(SHARED), id, models.iter().flat_map(Shared::means))?;
    write_rankings(&path.join(RANKINGS), id, models.iter().flat_map(Shared::rankings))?;
    let thresholds = &asked.config.similarity.thresholds;
    let places = asked.places();
    let clusters = |at: usize| {
        let next = next_layer(&places, at);
        let pair = pairs.iter().find(|pair| pair.seen_from(at).map(|(to, _)| to) == next);
        let cka_next = next.and(pair).map(|pair| pair.cka);
        sides[at].clusters(&names[sides[at].model], thresholds, cka_next)
    };
    let (clusters, redundancy): (Vec<_>, Vec<_>) =
        (0..sides.len()).into_par_iter().map(clusters).unzip();
    write_table(&path.join(CLUSTERS), id, clusters.into_iter().flatten())?;
    write_table(&path.join(REDUNDANCY), id, redundancy.into_iter().flatten()).map(drop)
}

/// What the manifest says of a model's pass; of models that are read side by side, the first has it all.
#[derive(Default)]
struct Facts {
    counts: Option<Counts>,
    tokens: u64,
    resumed: u64,
    lost: Vec<String>,
}

impl Facts {
    fn of(sampled: &Sampled) -> Self {
        let Sampled { counts, tokens, resumed, .. } = *sampled;
        Self { counts: Some(counts), tokens, resumed, lost: sampled.lost.clone() }
    }
}

/// The manifest. Its model is all of them: files by the names of the models, numbers of the first.
fn record(
    asked: &Similarity,
    facts: &[Facts],
    (sides, rows): (&[Side], u64),
    clock: &Clock,
) -> Result<Record> {
    let names = asked.names();
    let mut notes = vec![match asked.config.similarity.rows {
        0 => format!("{rows} rows of the corpus are rows of every model"),
        _ => format!("{rows} rows are in the sample of every model"),
    }];
    let mut models: Vec<ModelFacts> = Vec::new();
    for (at, prepared) in asked.models.iter().enumerate() {
        let own = sides.iter().filter(|side| side.model == at);
        let neurons = own.map(|side| side.moments.neurons() as u64).sum();
        let model = (&prepared.model, &prepared.model_files[..]);
        let mut model = model_facts(model, &prepared.config.model, neurons)?;
        let read = facts[at].counts.map_or(String::new(), |counts| {
            format!(
                ": {} tokens, {} words dropped, {} truncated",
                counts.tokens, counts.dropped_words, counts.truncated_words
            )
        });
        notes.push(format!(
            "{} is {} ({}, {} layers){read}",
            names[at], model.path, model.architecture, model.layers
        ));
        model.files.iter_mut().for_each(|file| file.name = format!("{}/{}", names[at], file.name));
        notes.extend(facts[at].lost.iter().map(lost_note));
        models.push(model);
    }
    let first = &asked.models[0];
    let model = ModelFacts {
        path: names.join(", "),
        files: models.iter().flat_map(|model| model.files.clone()).collect(),
        neurons: models.iter().map(|model| model.neurons).sum(),
        ..models[0].clone()
    };
    let site = |side: &Side| SiteFacts {
        site: format!("{}:{}", names[side.model], side.site),
        neurons: side.moments.neurons() as u64,
    };
    Ok(Record {
        run_id: asked.run_id,
        config: serde_json::to_value(&asked.config).expect("plain data"),
        model,
        corpus: CorpusFacts {
            files: corpus_files(first),
            counts: facts[0].counts.unwrap_or_default(),
        },
        sites: sides.iter().map(site).collect(),
        pieces: asked.models.iter().map(|model| u64::from(model.blocks())).sum(),
        devices: first.devices.facts(),
        timings: clock.timings(facts.iter().map(|facts| facts.tokens).sum()),
        notes,
    })
}
