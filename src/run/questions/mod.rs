//! `electrode stimulate`: a model asked questions while its neurons change, from the file of the
//! experiment to its tables and page.
//!
//! Up to three passes over the questions, block by block, each resumed where an earlier attempt
//! stopped: the survey (means of neurons, where something asks for them), the methods, and the
//! judging of their rankings by sets of neurons taken away or moved.

pub mod config;
mod judge;
pub mod keys;
mod mask;
mod mediators;
mod memory;
mod passes;
mod probe_metric;
mod ranking;
mod resolve;
mod sets;
mod syntax;
mod worth;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use self::config::JudgeHow;
pub use config::ExperimentConfig;
pub use memory::experiment_memory;

use self::passes::Passes;
use self::ranking::Ranking;
pub use self::resolve::Chosen;
use self::resolve::Given;
use self::sets::Order;
use super::devices::Devices;
use super::folder::RunFolder;
use super::provenance::{lost_note, model_facts};
use super::{Report, devices};
use crate::accumulate::effects::Effects;
use crate::artifact::effects::{
    CURVES, EFFECTS, SETS, TIME, write_curves, write_effects, write_sets, write_time,
};
use crate::artifact::machine::{Machine, environment, peak_memory, utc_now};
use crate::artifact::manifest::{
    CorpusFacts, FORMAT, FileFacts, LabelFacts, Manifest, PlanFacts, Program, SiteFacts, Timings,
    hash_json,
};
use crate::artifact::mediators::{MEDIATORS, write_mediators};
use crate::corpus::block::Counts;
use crate::device::backward::has_gradient;
use crate::device::forward::Limits;
use crate::device::suffix_ops::SuffixOps;
use crate::engine::fleet::{Device, Slot};
use crate::engine::segment::RunId;
use crate::engine::tokenizer::open_tokenizer;
use crate::error::{Error, Result};
use crate::hash::blake3_of_file;
use crate::id::SiteKind;
use crate::methods::registry::Causal;
use crate::model::Model;
use crate::report;
use crate::stimulate::diffmask;
use crate::stimulate::log_prob_increase::FrozenNorm;
use crate::stimulate::neurons::{Neurons, site_of};
use crate::stimulate::read::{self, Questions};
use crate::stimulate::readout::Readout;
use crate::stimulate::task::ByLayer;

/// Questions of a block, unless the file says otherwise.
const BLOCK: usize = 64;

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
    /// Which neurons are asked.
    pub neurons: Neurons,
    /// The probe of `metric=probe`.
    readout: Option<Arc<Readout>>,
    /// Rankings and sets that are judged beside those of the methods.
    orders: Vec<Order>,
    /// Hash of everything that may change a number.
    pub run_id: RunId,
    model_files: Vec<(String, u64, String)>,
    question_files: Vec<FileFacts>,
    devices: Devices,
    /// Largest batch and prompt, and the tokens that a batch must have room for.
    limits: (Limits, usize),
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
        let devices = Devices::choose(config.device.name.as_deref())?;
        let model = Model::open(&config.model.path)?;
        let tokenizer = open_tokenizer(&model, config.neurons.add_bos)?;
        let questions = read::read(&config.questions, &model, &tokenizer)?;
        let neurons = neurons(&config, &model)?;
        let methods = resolve::methods(&config.methods, &questions, (neurons.kind, &model.spec))?;
        let (readout, readout_hash) =
            probe_metric::open(&config, (&neurons, &methods), &model.spec)?;
        let limits = resolve::limits(&config.neurons, (&methods, &questions), &model.spec)?;
        judge::check(&config.judge, &questions, &methods, &neurons)?;
        let (orders, order_hashes) = sets::elsewhere(&config.judge, &neurons)?;
        sets::check_names(&methods, &orders)?;
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
            order_hashes,
            readout_hash,
            tokenizer.hash(),
            devices.kind(config.model.dtype),
        ]);
        let run_id = *blake3::hash(facts.to_string().as_bytes()).as_bytes();
        let experiment = Self {
            config,
            model,
            questions,
            methods,
            neurons,
            readout,
            orders,
            run_id,
            model_files,
            question_files,
            devices,
            limits,
        };
        syntax::check(&experiment)?;
        Ok(experiment)
    }

    /// Blocks of questions.
    pub fn blocks(&self) -> u32 {
        let size = self.config.neurons.block.unwrap_or(BLOCK).max(1);
        u32::try_from(self.questions.list.len().div_ceil(size)).expect("block numbers are u32")
    }

    /// Whether anything asks for the means of neurons.
    fn is_surveyed(&self) -> bool {
        let judge = &self.config.judge;
        let judged = judge.takes_away() && judge.how == JudgeHow::Mean;
        judged || !judge.steer.is_empty() || self.methods.iter().any(Chosen::needs_means)
    }

    /// Tokens of a batch, where there is room for them.
    pub fn batch_tokens(&self) -> usize {
        self.limits.0.tokens
    }

    /// The identity as people see it.
    pub fn run_id_hex(&self) -> String {
        crate::hash::hex(&self.run_id)
    }
}

/// The neurons asked for.
fn neurons(config: &ExperimentConfig, model: &Model) -> Result<Neurons> {
    let name = config.neurons.site.as_deref().unwrap_or(SiteKind::MlpAct.name());
    let kind = SiteKind::ALL.iter().find(|(_, known)| *known == name).map(|(kind, _)| *kind);
    let kind = kind.filter(|kind| kind.per_layer() && model.spec.has_site(site_of(*kind, 0)));
    let Some(kind) = kind.filter(|kind| has_gradient(site_of(*kind, 0))) else {
        let what = format!("this model has no '{name}' whose neurons can be changed");
        return Err(Error::config("neurons.site", what, "see `electrode inspect MODEL`"));
    };
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
    Ok(Neurons::of(&model.spec, kind, layers))
}

/// Runs everything where the file says; goes on where an earlier attempt in the same folder stopped.
pub fn stimulate(
    experiment: &Experiment,
    stop: &AtomicBool,
    progress: Report<'_>,
) -> Result<Answered> {
    experiment_memory(experiment)?.warn();
    match &experiment.devices {
        Devices::Cpu => stimulate_on(
            experiment,
            vec![devices::cpu(experiment.config.model.dtype)],
            stop,
            progress,
        ),
        Devices::Cuda(found) => {
            let slots = devices::gpus(found, experiment.config.model.dtype);
            stimulate_on(experiment, slots, stop, progress)
        }
    }
}

/// As [`stimulate`], on these devices: how many they are changes no bit. They are all of the kind that
/// the experiment was made for.
pub fn stimulate_on<O: SuffixOps + Device>(
    experiment: &Experiment,
    slots: Vec<Slot<'_, O>>,
    stop: &AtomicBool,
    progress: Report<'_>,
) -> Result<Answered> {
    let folder = RunFolder::open_at(experiment.config.out.clone(), experiment.run_id_hex())?;
    let (start, clock) = (utc_now(), Instant::now());
    let mut passes = Passes::new(experiment, slots, &folder, (stop, progress))?;
    folder.own()?;
    let survey = passes.survey()?;
    let means = survey.as_ref().map(|survey| Arc::clone(&survey.means));
    let (rankings, baseline, counts) = answers(&mut passes, means.as_ref())?;
    let rows = rankings.iter().flat_map(|ranking| ranking.rows(experiment));
    write_effects(&folder.path().join(EFFECTS), folder.run_id(), rows)?;
    let time = passes.time(&experiment.config.probe)?;
    write_time(&folder.path().join(TIME), folder.run_id(), time.into_iter())?;
    let judged = judge::judge(&mut passes, &rankings, (survey.as_ref(), &baseline))?;
    write_curves(&folder.path().join(CURVES), folder.run_id(), judged.curves.into_iter())?;
    write_sets(&folder.path().join(SETS), folder.run_id(), judged.sets.into_iter())?;
    let mediators = mediators::mediators(&mut passes, &rankings)?;
    write_mediators(&folder.path().join(MEDIATORS), folder.run_id(), mediators.into_iter())?;
    let tokens = passes.tokens();
    experiment.model.check_unchanged()?;
    let timings = Timings {
        start,
        seconds: clock.elapsed().as_secs_f64(),
        tokens,
        tokens_per_second: tokens as f64 / clock.elapsed().as_secs_f64(),
        peak_memory_bytes: peak_memory(),
    };
    manifest(experiment, &folder, (&counts, timings), passes.fleet.lost())?;
    let page = report::build(folder.path())?;
    let accuracy = if experiment.questions.list[0].foil.is_some() { 3 } else { 2 };
    Ok(Answered {
        folder: folder.path().to_path_buf(),
        report: page,
        questions: experiment.questions.list.len(),
        skipped: experiment.questions.skipped,
        accuracy: baseline.spread(0, accuracy).mean,
        seconds: clock.elapsed().as_secs_f64(),
    })
}

/// The rankings of every method: those that a gradient screens are asked twice, gates are searched.
fn answers<O: SuffixOps + Device>(
    passes: &mut Passes<'_, O>,
    means: Option<&ByLayer>,
) -> Result<(Vec<Ranking>, Effects, Counts)> {
    let experiment = passes.experiment;
    let given = Given { means, norm: &Arc::new(FrozenNorm::of(&experiment.model)?) };
    let asked = || experiment.methods.iter().filter(|chosen| chosen.is_task());
    let tasks = asked().map(|chosen| chosen.task(given)).collect();
    let (baseline, found, counts) = passes.tasks("asking", tasks)?;
    let screened = asked().zip(&found).map(|(chosen, measures)| {
        chosen.screened().map(|top| Arc::new(ranking::largest(measures, top)))
    });
    let screened: Vec<Option<Arc<Vec<Vec<u32>>>>> = screened.collect();
    let exact = asked().zip(&screened).filter_map(|(chosen, only)| {
        only.as_ref().map(|only| chosen.exact(given, Some(Arc::clone(only))))
    });
    let exact: Vec<_> = exact.collect();
    let again = if exact.is_empty() { Vec::new() } else { passes.tasks("exactly", exact)?.1 };
    let (mut found, mut again) = (found.into_iter(), again.into_iter());
    let (mut screened, mut rankings) = (screened.into_iter(), Vec::new());
    for (at, chosen) in experiment.methods.iter().enumerate() {
        if let Some(settings) = chosen.search() {
            rankings.push(gates(passes, (at, chosen), settings, means)?);
            continue;
        }
        if chosen.causal == Causal::DiagnosticWeights {
            let weights = syntax::diagnostic_weights(passes)?;
            let questions = experiment.questions.list.len() as u64;
            rankings.push(ranking::rank_weights(chosen, &weights, questions));
            continue;
        }
        let (first, only) = found.next().zip(screened.next()).expect("one for each");
        let own = if only.is_some() { again.next() } else { None };
        let only = only.as_ref().map(|only| &only[..]);
        rankings.extend(ranking::rank(chosen, &own.unwrap_or(first), only));
    }
    Ok((rankings, baseline, counts))
}

/// A search of gates: its ranking, and what it decided as a file.
fn gates<O: SuffixOps + Device>(
    passes: &mut Passes<'_, O>,
    (at, chosen): (usize, &Chosen),
    settings: diffmask::Settings,
    means: Option<&ByLayer>,
) -> Result<Ranking> {
    let experiment = passes.experiment;
    let neurons = &experiment.neurons;
    let towards = |&layer: &usize| match means.filter(|_| chosen.towards_means()) {
        Some(means) => means[layer].clone(),
        None => vec![0.0; neurons.width],
    };
    let towards: Vec<Vec<f32>> = neurons.layers.iter().map(towards).collect();
    let search = passes.mask((at, chosen), settings, &towards)?;
    let file = passes.folder.path().join(mask::gates_file(at));
    mask::write_gates(&file, neurons, &search.decided())?;
    let questions = experiment.questions.list.len() as u64;
    Ok(ranking::rank_gates(chosen, &search, neurons, questions))
}

fn manifest(
    experiment: &Experiment,
    folder: &RunFolder,
    (counts, timings): (&Counts, Timings),
    lost: &[String],
) -> Result<()> {
    let config = serde_json::to_value(&experiment.config).expect("plain data");
    let neurons = experiment.neurons.count() as u64;
    let model = (&experiment.model, &experiment.model_files[..]);
    let blocks = u64::from(experiment.blocks());
    let searched = (0..).zip(&experiment.methods).filter(|(_, chosen)| chosen.search().is_some());
    let gates = searched.map(|(at, _)| mask::gates_file(at));
    let names =
        [EFFECTS, CURVES, SETS, TIME, MEDIATORS].map(str::to_owned).into_iter().chain(gates);
    let outputs = names.map(|name| FileFacts::output(folder.path(), &name));
    let skipped = match experiment.questions.skipped {
        0 => None,
        left => Some(format!("{left} questions were left out for their answers or lengths")),
    };
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
            .neurons
            .sites()
            .into_iter()
            .map(|site| SiteFacts {
                site: site.to_string(),
                neurons: experiment.neurons.width as u64,
            })
            .collect(),
        plan: PlanFacts { blocks, hash: experiment.run_id_hex(), done: blocks },
        machine: Machine::here(rayon::current_num_threads()),
        devices: experiment.devices.facts(),
        timings,
        environment: environment(),
        notes: skipped.into_iter().chain(lost.iter().map(lost_note)).collect(),
        outputs: outputs.collect::<Result<_>>()?,
    }
    .write(folder.path())
}
