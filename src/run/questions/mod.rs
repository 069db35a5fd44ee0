//! `electrode stimulate`: a model asked questions while its neurons change, from the file of the
//! experiment to its tables and page.
//!
//! Up to three passes over the questions, block by block, each resumed where an earlier attempt
//! stopped: the survey (means of neurons, where something asks for them), the methods, and the
//! judging of their rankings by sets of neurons taken away or moved.

pub mod config;
mod judge;
pub mod keys;
mod passes;
mod ranking;
mod resolve;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

pub use config::ExperimentConfig;

use self::passes::Passes;
pub use self::resolve::Chosen;
use super::devices::Devices;
use super::folder::RunFolder;
use super::provenance::model_facts;
use super::{Report, devices};
use crate::artifact::effects::{CURVES, EFFECTS, write_curves, write_effects};
use crate::artifact::machine::{Machine, environment, peak_memory, utc_now};
use crate::artifact::manifest::{
    CorpusFacts, FORMAT, FileFacts, LabelFacts, Manifest, PlanFacts, Program,
    SiteFacts, Timings, hash_json,
};
use crate::device::cpu::CpuDevice;
use crate::device::suffix_ops::SuffixOps;
use crate::engine::segment::RunId;
use crate::engine::tokenizer::open_tokenizer;
use crate::error::{Error, Result};
use crate::hash::blake3_of_file;
use crate::model::Model;
use crate::report;
use crate::stimulate::gradients::neurons_of;
use crate::stimulate::read::{self, Questions};

/// Questions of a block, unless the file says otherwise.
const BLOCK: usize = 64;
/// Tokens of a batch, copies included.
const BATCH_TOKENS: usize = 4096;

/// An experiment, opened and checked.
pub struct Experiment {
    /// Its file.
    pub config: ExperimentConfig,
    /// Its model.
    pub model: Model,
    /// What it is asked.
    pub questions: Questions,
    /// Its methods, parsed.
    pub methods: Vec<Chosen>,
    /// Layers whose neurons are asked.
    pub layers: Vec<usize>,
    /// Hash of everything that may change a number.
    pub run_id: RunId,
    model_files: Vec<(String, u64, String)>,
    question_files: Vec<FileFacts>,
    devices: Devices,
}

/// What a finished experiment leaves.
#[derive(Clone, Debug)]
pub struct Answered {
    /// Its folder.
    pub folder: PathBuf,
    /// The page to open.
    pub report: PathBuf,
    /// Questions asked.
    pub questions: usize,
    /// Questions left out for their answers.
    pub skipped: u64,
    /// Share answered right by the untouched model.
    pub accuracy: f64,
    /// Seconds it took.
    pub seconds: f64,
}

impl Experiment {
    /// Opens model, tokenizer and questions; refuses what cannot work.
    pub fn new(config: ExperimentConfig) -> Result<Self> {
        let devices = Devices::choose(config.device.name.as_deref(), config.model.dtype)?;
        let model = Model::open(&config.model.path)?;
        let tokenizer = open_tokenizer(&model, config.neurons.add_bos)?;
        let questions = read::read(&config.questions, &model, &tokenizer)?;
        let methods = resolve::methods(&config.methods, &questions)?;
        resolve::tokens_at_once(&methods, &questions, model.spec.attention.causal)?;
        let layers = layers(&config, &model)?;
        judge::check(&config.judge, &questions, layers.len() * model.spec.mlp.width)?;
        if model.spec.classes().is_none() || model.spec.logits_per_sequence() {
            let remedy = "use a checkpoint with its language-model head";
            return Err(Error::input("config.json", "the model cannot answer questions", remedy));
        }
        let model_files = model.hashes()?;
        let hashed = |path: &PathBuf| {
            let (bytes, hash) = blake3_of_file(path)?;
            let name = path.display().to_string();
            Ok(FileFacts { name, bytes, sha256: None, blake3: Some(hash) })
        };
        let question_files =
            config.questions.files.iter().map(hashed).collect::<Result<Vec<_>>>()?;
        let hashes: Vec<_> = question_files.iter().map(|file| file.blake3.clone()).collect();
        let facts = serde_json::json!([
            env!("CARGO_PKG_VERSION"),
            config.identity(),
            model_files,
            hashes,
            tokenizer.hash(),
            devices.kind(),
        ]);
        let run_id = *blake3::hash(facts.to_string().as_bytes()).as_bytes();
        Ok(Self {
            config,
            model,
            questions,
            methods,
            layers,
            run_id,
            model_files,
            question_files,
            devices,
        })
    }

    /// Blocks of questions.
    fn blocks(&self) -> u32 {
        let size = self.config.neurons.block.unwrap_or(BLOCK).max(1);
        u32::try_from(self.questions.list.len().div_ceil(size)).expect("block numbers are u32")
    }

    fn run_id_hex(&self) -> String {
        crate::hash::hex(&self.run_id)
    }
}

/// The layers asked for, ascending.
fn layers(config: &ExperimentConfig, model: &Model) -> Result<Vec<usize>> {
    let mut layers = config.neurons.layers.clone();
    if layers.is_empty() {
        layers = (0..model.spec.layers).collect();
    }
    layers.sort_unstable();
    layers.dedup();
    if let Some(wrong) = layers.iter().find(|&&layer| layer >= model.spec.layers) {
        let what = format!("layer {wrong} is out of range");
        let remedy = format!("layers are 0 to {}", model.spec.layers - 1);
        return Err(Error::config("neurons.layers", what, remedy));
    }
    Ok(layers)
}

/// Runs everything where the file says, of several GPUs on the first; goes on where an earlier attempt in
/// the same folder stopped.
pub fn stimulate(
    experiment: &Experiment,
    stop: &AtomicBool,
    progress: Report<'_>,
) -> Result<Answered> {
    match &experiment.devices {
        Devices::Cpu => stimulate_on(experiment, CpuDevice, stop, progress),
        Devices::Cuda(found) => {
            let gpu = found.first().expect("at least one");
            let ops = devices::open(gpu, experiment.config.model.dtype)?;
            stimulate_on(experiment, ops, stop, progress)
        }
    }
}

/// As [`stimulate`], on this device.
pub fn stimulate_on<O: SuffixOps>(
    experiment: &Experiment,
    ops: O,
    stop: &AtomicBool,
    progress: Report<'_>,
) -> Result<Answered> {
    let folder = RunFolder::open_at(experiment.config.out.clone(), experiment.run_id_hex())?;
    let (start, clock) = (utc_now(), Instant::now());
    let mut passes = Passes::new(experiment, ops, &folder, (stop, progress))?;
    folder.own()?;
    let survey = passes.survey()?;
    let means = survey.as_ref().map(|survey| Arc::clone(&survey.means));
    let (tasks, state) = passes.methods(means.as_ref())?;
    let rankings = ranking::rank(experiment, &tasks, &state);
    let rows = rankings.iter().flat_map(|ranking| ranking.rows(experiment));
    write_effects(&folder.path().join(EFFECTS), folder.run_id(), rows)?;
    let curves = judge::judge(&mut passes, &rankings, (survey.as_ref(), &state.measures[0]))?;
    write_curves(&folder.path().join(CURVES), folder.run_id(), curves.into_iter())?;
    let tokens = passes.tokens();
    experiment.model.check_unchanged()?;
    let timings = Timings {
        start,
        seconds: clock.elapsed().as_secs_f64(),
        tokens,
        tokens_per_second: tokens as f64 / clock.elapsed().as_secs_f64(),
        peak_memory_bytes: peak_memory(),
    };
    manifest(experiment, &folder, (&state.counts, timings))?;
    let page = report::build(folder.path())?;
    let accuracy = if experiment.questions.list[0].foil.is_some() { 3 } else { 2 };
    Ok(Answered {
        folder: folder.path().to_path_buf(),
        report: page,
        questions: experiment.questions.list.len(),
        skipped: experiment.questions.skipped,
        accuracy: state.measures[0].spread(0, accuracy).mean,
        seconds: clock.elapsed().as_secs_f64(),
    })
}

fn manifest(
    experiment: &Experiment,
    folder: &RunFolder,
    (counts, timings): (&crate::corpus::block::Counts, Timings),
) -> Result<()> {
    let config = serde_json::to_value(&experiment.config).expect("plain data");
    let spec = &experiment.model.spec;
    let neurons = (experiment.layers.len() * spec.mlp.width) as u64;
    let model = (&experiment.model, &experiment.model_files[..]);
    let blocks = u64::from(experiment.blocks());
    let outputs = [EFFECTS, CURVES].map(|name| FileFacts::output(folder.path(), name));
    Manifest {
        format: FORMAT.to_owned(),
        run_id: experiment.run_id_hex(),
        electrode: Program::default(),
        config_hash: hash_json(&experiment.config.identity()),
        config,
        model: model_facts(model, &experiment.config.model, neurons)?,
        corpus: CorpusFacts { files: experiment.question_files.clone(), counts: *counts },
        labels: Vec::<LabelFacts>::new(),
        sites: experiment
            .layers
            .iter()
            .map(|&layer| SiteFacts {
                site: neurons_of(layer).to_string(),
                neurons: spec.mlp.width as u64,
            })
            .collect(),
        plan: PlanFacts { blocks, hash: experiment.run_id_hex(), done: blocks },
        machine: Machine::here(rayon::current_num_threads()),
        devices: experiment.devices.facts(),
        timings,
        environment: environment(),
        notes: match experiment.questions.skipped {
            0 => Vec::new(),
            skipped => {
                vec![format!("{skipped} questions were left out for their answers or lengths")]
            }
        },
        outputs: outputs.into_iter().collect::<Result<_>>()?,
    }
    .write(folder.path())
}
