//! `electrode stimulate`, and its short forms `ablate` and `attribute`.

use std::path::PathBuf;

use super::{device, output};
use crate::config::{DeviceConfig, Dtype, ModelConfig};
use crate::error::Result;
use crate::run::questions::config::{JudgeConfig, NeuronConfig, ProbeConfig};
use crate::run::questions::{Answered, Experiment, ExperimentConfig, experiment_memory, stimulate};
use crate::stimulate::read::{LongAnswers, QuestionConfig};

/// Ask a model questions while its neurons change, as an experiment file says
#[derive(clap::Args, Debug)]
pub struct StimulateArgs {
    /// Experiment file (TOML), see configs/experiments
    #[arg(value_name = "CONFIG")]
    config: PathBuf,
    /// Changes to it: questions.limit=100, methods='["gradact"]'
    #[arg(value_name = "KEY=VALUE")]
    overrides: Vec<String>,
    /// Print the resolved experiment and its memory plan, then stop
    #[arg(long)]
    dry_run: bool,
    /// Where it runs: auto (every GPU, else the CPU), cpu, cuda, cuda:0,2
    #[arg(long, value_name = "DEVICE")]
    device: Option<String>,
    /// CPU threads; all by default
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=4096))]
    threads: Option<u16>,
}

/// What the short forms have in common.
#[derive(clap::Args, Debug)]
pub struct QuestionArgs {
    /// Folder with config.json, or org/name in the local Hub cache
    #[arg(long, value_name = "DIR")]
    model: String,
    /// Questions, one JSON object a line
    #[arg(long, value_name = "FILE.jsonl")]
    questions: PathBuf,
    /// Key of the prompt; ___ is the blank of a masked model
    #[arg(long, default_value = "prompt", value_name = "KEY")]
    prompt: String,
    /// Key of the right answer
    #[arg(long, default_value = "answer", value_name = "KEY")]
    answer: String,
    /// Key of the wrong answer
    #[arg(long, value_name = "KEY")]
    wrong: Option<String>,
    /// Key of a second prompt of as many tokens (patch, attrpatch)
    #[arg(long, value_name = "KEY")]
    counterfactual: Option<String>,
    /// Key by which questions are grouped
    #[arg(long, value_name = "KEY")]
    group: Option<String>,
    /// Only questions with this value at this key; may be repeated
    #[arg(long, value_name = "KEY=VALUE", value_parser = key_value)]
    only: Vec<(String, String)>,
    /// Only so many questions, evenly spread
    #[arg(long, default_value_t = 0, value_name = "N")]
    limit: usize,
    /// Leave out questions whose answers are more than one token
    #[arg(long)]
    skip_long_answers: bool,
    /// Layers whose neurons are asked; all by default
    #[arg(long, value_delimiter = ',', value_name = "LAYER")]
    layers: Vec<usize>,
    /// Begin each prompt with the model's BOS where its tokenizer does not
    #[arg(long)]
    add_bos: bool,
    /// Take away the top so many neurons of each ranking, beside random ones
    #[arg(long, value_delimiter = ',', value_name = "N")]
    sizes: Vec<usize>,
    /// The folder to write
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Print the experiment and its memory plan, then stop
    #[arg(long)]
    dry_run: bool,
    /// Where it runs: auto (every GPU, else the CPU), cpu, cuda, cuda:0,2
    #[arg(long, value_name = "DEVICE")]
    device: Option<String>,
    /// CPU threads; all by default
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=4096))]
    threads: Option<u16>,
}

/// Replace neurons one at a time and measure what the answers lose
#[derive(clap::Args, Debug)]
pub struct AblateArgs {
    #[command(flatten)]
    questions: QuestionArgs,
    /// Settings of ablate, see `electrode methods`: how=mean,where=answer,metric=accuracy
    #[arg(long, default_value = "", value_name = "key=value,…")]
    settings: String,
}

/// Attribute answers to neurons by gradients
#[derive(clap::Args, Debug)]
pub struct AttributeArgs {
    #[command(flatten)]
    questions: QuestionArgs,
    /// kn, gradact, attrpatch or patch, with settings; may be repeated
    #[arg(long, required = true, value_name = "NAME[:key=value,…]")]
    method: Vec<String>,
}

pub(super) fn run(args: StimulateArgs) -> Result<()> {
    let mut config = ExperimentConfig::load(&args.config, &args.overrides)?;
    if args.device.is_some() {
        config.device.name = args.device;
    }
    config.device.threads = args.threads.map(usize::from).or(config.device.threads);
    start(config, args.dry_run)
}

pub(super) fn ablate(args: AblateArgs) -> Result<()> {
    let method = match args.settings.as_str() {
        "" => "ablate".to_owned(),
        settings => format!("ablate:{settings}"),
    };
    let dry_run = args.questions.dry_run;
    start(args.questions.config("Ablation", vec![method]), dry_run)
}

pub(super) fn attribute(args: AttributeArgs) -> Result<()> {
    let dry_run = args.questions.dry_run;
    start(args.questions.config("Attribution", args.method), dry_run)
}

impl QuestionArgs {
    fn config(self, name: &str, methods: Vec<String>) -> ExperimentConfig {
        ExperimentConfig {
            name: format!("{name}: {}", self.model),
            out: self.out,
            model: ModelConfig { path: self.model, dtype: Dtype::default() },
            questions: QuestionConfig {
                files: vec![self.questions],
                prompt: self.prompt,
                answer: self.answer,
                wrong: self.wrong,
                counterfactual: self.counterfactual,
                group: self.group,
                quantity: None,
                covariates: Vec::new(),
                only: self.only.into_iter().collect(),
                limit: self.limit,
                long_answers: if self.skip_long_answers {
                    LongAnswers::Skip
                } else {
                    LongAnswers::Refuse
                },
            },
            methods,
            neurons: NeuronConfig {
                layers: self.layers,
                add_bos: self.add_bos,
                ..NeuronConfig::default()
            },
            probe: ProbeConfig::default(),
            metric: None,
            judge: JudgeConfig { sizes: self.sizes, random: 3, ..JudgeConfig::default() },
            device: DeviceConfig {
                name: self.device,
                threads: self.threads.map(usize::from),
                ..DeviceConfig::default()
            },
        }
    }
}

fn key_value(text: &str) -> std::result::Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("write KEY=VALUE")?;
    Ok((key.to_owned(), value.to_owned()))
}

fn start(config: ExperimentConfig, dry_run: bool) -> Result<()> {
    device::threads(config.device.threads)?;
    let experiment = Experiment::new(config)?;
    if dry_run {
        return output::print(&plan(&experiment)?);
    }
    let stop = super::run::stop_flag()?;
    let answered = super::run::with_progress(|report| stimulate(&experiment, &stop, report))?;
    output::print(&summary(&answered))
}

/// What would be asked and what that takes, as comments before the resolved file.
fn plan(experiment: &Experiment) -> Result<String> {
    let (questions, neurons) = (&experiment.questions, &experiment.neurons);
    let toml = toml::to_string(&experiment.config);
    Ok(format!(
        "# experiment {}\n# questions: {} in {} groups, {} blocks, {} left out\n\
         # neurons: {} of {} in {} layers\n# batches: {} tokens\n{}{}",
        experiment.run_id_hex(),
        questions.list.len(),
        questions.groups.len(),
        experiment.blocks(),
        questions.skipped,
        neurons.count(),
        neurons.kind.name(),
        neurons.layers.len(),
        experiment.batch_tokens(),
        super::run::memory_lines(&experiment_memory(experiment)?),
        toml.expect("every value of an experiment has a TOML form"),
    ))
}

fn summary(answered: &Answered) -> String {
    let skipped = match answered.skipped {
        0 => String::new(),
        skipped => format!(", {skipped} left out"),
    };
    format!(
        "{} questions{skipped}, {:.1} % right; {:.1} s\n{}\n",
        answered.questions,
        100.0 * answered.accuracy,
        answered.seconds,
        answered.report.display(),
    )
}
