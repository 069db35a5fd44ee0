//! `electrode maximize`.

use std::path::PathBuf;

use clap::{ArgGroup, ValueEnum};

use super::device::{self, DtypeArg};
use super::output;
use crate::error::Result;
use crate::id::NeuronId;
use crate::run::maximize::neurons::FromRanking;
use crate::run::maximize::{Best, MaximizeConfig, maximize_neurons};
use crate::stimulate::maximize::Settings;
use crate::stimulate::maximize::ascent::At;
use crate::stimulate::maximize::relax::Variant;

/// Nearest words told by `textualize`, unless asked otherwise.
const NEAREST: usize = 10;

/// Make texts that drive neurons as high as they go, by gradient ascent
#[derive(clap::Args, Debug)]
#[command(group = ArgGroup::new("which").required(true).args(["neurons", "ranking"]))]
pub struct MaximizeArgs {
    /// Folder with config.json, or org/name in the local Hub cache
    #[arg(long, value_name = "DIR")]
    model: String,
    /// The neurons: layers.2.mlp_act.17,layers.3.mlp_act.5; any site with a gradient will do
    #[arg(long, value_delimiter = ',', value_name = "SITE.N")]
    neurons: Vec<NeuronId>,
    /// The first of a ranking instead: rankings.parquet, effects.parquet, or the JSON of `rank`
    #[arg(long, value_name = "FILE")]
    ranking: Option<PathBuf>,
    /// With --ranking: only neurons of this layer
    #[arg(long, requires = "ranking", value_name = "L")]
    layer: Option<u32>,
    /// With --ranking: how many
    #[arg(long, requires = "ranking", default_value_t = 10, value_name = "N")]
    top: usize,
    /// With --ranking: this method, as the table writes it; the first by default
    #[arg(long, requires = "ranking", value_name = "NAME")]
    method: Option<String>,
    /// With --ranking: this concept; the first by default
    #[arg(long, requires = "ranking", value_name = "NAME")]
    concept: Option<String>,
    #[command(flatten)]
    how: HowArgs,
    /// Folder of a run over a corpus: percentile of each value, and the best corpus context
    #[arg(long, value_name = "DIR")]
    run: Option<PathBuf>,
    /// Begin each text with the model's BOS where its tokenizer does not
    #[arg(long)]
    add_bos: bool,
    /// The JSON Lines file to write, and FILE.manifest.json; a stopped command goes on when it is
    /// given again
    #[arg(long, value_name = "FILE.jsonl")]
    out: PathBuf,
    /// Where it runs: auto, cpu, cuda, cuda:1; of several GPUs on the first
    #[arg(long, value_name = "DEVICE")]
    device: Option<String>,
    /// Of the forward and the backward pass
    #[arg(long, value_enum, default_value = "f32", value_name = "DTYPE")]
    dtype: DtypeArg,
    /// Tokens of a batch
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1 << 20))]
    batch_tokens: Option<u32>,
    /// CPU threads; all by default
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=4096))]
    threads: Option<u16>,
}

/// How texts are made.
#[derive(clap::Args, Debug)]
struct HowArgs {
    /// What climbs; textualize is one free vector, described by its nearest words
    #[arg(long, value_enum, default_value = "embed", value_name = "VARIANT")]
    variant: VariantArg,
    /// Where the neuron is read
    #[arg(long, value_enum, default_value = "last", value_name = "WHERE")]
    at: AtArg,
    /// Free positions of a text; 8 by default, 1 for textualize
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=512))]
    length: Option<u16>,
    /// Steps of Adam; 500 by default
    #[arg(long, default_value_t = 500, value_name = "N")]
    steps: u32,
    /// Rate of Adam; of free vectors in units of the RMS of the token table
    #[arg(long, default_value_t = 0.1, value_name = "RATE")]
    rate: f32,
    /// Temperature of softmax and gumbel at the first and the last step
    #[arg(long, num_args = 2, default_values_t = [1.0, 0.1], value_names = ["FROM", "TO"])]
    temperature: Vec<f32>,
    /// Texts for each neuron
    #[arg(long, default_value_t = 8, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=65536))]
    restarts: u32,
    /// Rounds of one-token changes after snapping (HotFlip)
    #[arg(long, default_value_t = 0, value_name = "N")]
    refine: u32,
    /// Weight of the text's mean log probability beside the neuron (causal models)
    #[arg(long, default_value_t = 0.0, value_name = "W")]
    fluency: f32,
    /// Nearest tokens to tell of each free vector; 10 for textualize, else none
    #[arg(long, value_name = "K")]
    nearest: Option<usize>,
    /// Of everything that is drawn
    #[arg(long, default_value_t = 0, value_name = "N")]
    seed: u64,
}

/// See [`HowArgs::variant`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum VariantArg {
    /// Free vectors.
    Embed,
    /// Softmax over tokens.
    Softmax,
    /// The same with Gumbel noise.
    Gumbel,
    /// One free vector and its nearest words.
    Textualize,
}

/// See [`HowArgs::at`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum AtArg {
    /// The last free position.
    Last,
    /// The free position where it is largest.
    Any,
}

impl HowArgs {
    fn settings(&self) -> (Settings, &'static str) {
        let textualize = self.variant == VariantArg::Textualize;
        let variant = match self.variant {
            VariantArg::Softmax => Variant::Softmax,
            VariantArg::Gumbel => Variant::Gumbel,
            VariantArg::Embed | VariantArg::Textualize => Variant::Embed,
        };
        let at = if self.at == AtArg::Any { At::Any } else { At::Last };
        let settings = Settings {
            variant,
            at,
            length: self.length.map_or(if textualize { 1 } else { 8 }, usize::from),
            steps: self.steps,
            rate: self.rate,
            temperature: (self.temperature[0], self.temperature[1]),
            restarts: self.restarts,
            refine: self.refine,
            fluency: self.fluency,
            nearest: self.nearest.unwrap_or(if textualize { NEAREST } else { 0 }),
            seed: self.seed,
        };
        (settings, if textualize { "textualize" } else { variant.name() })
    }
}

pub(super) fn run(args: MaximizeArgs) -> Result<()> {
    device::threads(args.threads.map(usize::from))?;
    let neurons = match args.ranking {
        None => args.neurons,
        Some(file) => {
            let (layer, top) = (args.layer, args.top);
            let (method, concept) = (args.method, args.concept);
            FromRanking { file, layer, top, method, concept }.neurons()?
        }
    };
    let (settings, variant) = args.how.settings();
    let config = MaximizeConfig {
        model: args.model,
        neurons,
        settings,
        variant,
        add_bos: args.add_bos,
        run: args.run,
        batch_tokens: args.batch_tokens.map(|tokens| tokens as usize),
        device: args.device,
        dtype: args.dtype.into(),
        out: args.out,
    };
    let stop = super::run::stop_flag()?;
    let best = super::run::with_progress(|report| {
        maximize_neurons(&config, &stop, |share| report("climbing", 0, share))
    })?;
    output::print(&table(&best))?;
    output::print(&format!("{}\n", config.out.display()))
}

fn table(best: &[Best]) -> String {
    let header =
        ["neuron", "random", "relaxed", "snapped", "discrete", "corpus max", "percentile", "text"];
    let row = |best: &Best| {
        let number = |x: f32| format!("{x:.3}");
        let mut cells = vec![best.neuron.to_string(), number(best.random)];
        match &best.text {
            None => cells.extend(["", "", "", "", "", "(constant: left out)"].map(str::to_owned)),
            Some((found, text)) => {
                cells.extend([found.relaxed, found.snapped, found.discrete].map(number));
                cells.push(best.corpus.map(|(max, _)| number(max)).unwrap_or_default());
                let share = |(_, share): (f32, f64)| format!("{:.1} %", 100.0 * share);
                cells.push(best.corpus.map(share).unwrap_or_default());
                cells.push(format!("{text:?}"));
            }
        }
        cells
    };
    output::table(&header, &best.iter().map(row).collect::<Vec<_>>())
}
