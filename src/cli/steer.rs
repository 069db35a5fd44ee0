//! `electrode steer`: texts of a model whose neurons are steered by a ranking.

use std::path::PathBuf;

use clap::ValueEnum;

use super::generate::OnArg;
use super::texts::TextArgs;
use super::{device, output};
use crate::artifact::steering::SteerRow;
use crate::error::{Error, Result};
use crate::run::steer::{Act, RankingName, Spacing, SteerConfig, Steering, Value};

/// Steer what a model writes by the neurons of a ranking, beside random ones
#[derive(clap::Args, Debug)]
pub struct SteerArgs {
    #[command(flatten)]
    texts: TextArgs,
    /// Folder of a finished run of this model
    #[arg(long, value_name = "RUNFOLDER")]
    run: PathBuf,
    /// Method of the ranking: ap, or with its settings as in rankings.parquet
    #[arg(long)]
    method: String,
    /// Label column of the ranking: upos
    #[arg(long)]
    label: String,
    /// Class of that column: NOUN
    #[arg(long)]
    concept: String,
    /// Neurons from its top
    #[arg(long, default_value_t = 50, value_name = "K")]
    top: usize,
    /// What is done to a neuron x at strength s
    #[arg(long, value_enum, default_value = "set", value_name = "ACT")]
    act: ActArg,
    /// With --act set, x = s v: the value v. A quantile in the class (p50, p90), mean, zero or a
    /// number
    #[arg(long, default_value = "p50", allow_negative_numbers = true, value_name = "VALUE")]
    value: String,
    /// With --act translate: the strength for all, or geometrically down to 0.001 over the ranking
    #[arg(long, value_enum, default_value = "constant", value_name = "HOW")]
    spacing: SpacingArg,
    /// An arm for each
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "1",
        allow_negative_numbers = true,
        value_name = "S"
    )]
    strengths: Vec<f64>,
    /// Draws of as many random neurons of the same sites, at each strength
    #[arg(long, default_value_t = 3, value_name = "N")]
    random: u32,
    /// Words whose presence is counted, one a line; NAME by default the concept; may be repeated
    #[arg(long, required = true, value_name = "[NAME=]FILE")]
    presence: Vec<String>,
    /// Tokens at which neurons are steered
    #[arg(long, value_enum, default_value = "all", value_name = "WHICH")]
    on: OnArg,
    /// The folder to write; a stopped command goes on when it is given again
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

/// See `--act`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ActArg {
    /// x = s v.
    Set,
    /// x = s x.
    Scale,
    /// x = x + s times its standard deviation.
    Add,
    /// x is clamped to its mean ± s times its standard deviation.
    Clamp,
    /// x = x + s (mean in the class - mean in the others).
    Translate,
}

/// See `--spacing`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum SpacingArg {
    /// The strength for all.
    Constant,
    /// From the strength down to 0.001.
    Log,
}

impl SteerArgs {
    fn config(self) -> Result<SteerConfig> {
        let act = match self.act {
            ActArg::Set => Act::Set(value(&self.value)?),
            ActArg::Scale => Act::Scale,
            ActArg::Add => Act::Add,
            ActArg::Clamp => Act::Clamp,
            ActArg::Translate => Act::Translate(match self.spacing {
                SpacingArg::Constant => Spacing::Constant,
                SpacingArg::Log => Spacing::Log,
            }),
        };
        let presence = self.presence.iter().map(|text| match text.split_once('=') {
            Some((name, path)) if !PathBuf::from(text).exists() => (name.to_owned(), path.into()),
            _ => (self.concept.clone(), text.into()),
        });
        Ok(SteerConfig {
            presence: presence.collect(),
            texts: self.texts.config(),
            run: self.run,
            ranking: RankingName {
                method: self.method,
                label: self.label,
                concept: self.concept.clone(),
            },
            top: self.top,
            act,
            strengths: self.strengths,
            random: self.random,
            on: self.on.into(),
            out: self.out,
        })
    }
}

/// `p50`, `mean`, `zero` or a number.
fn value(text: &str) -> Result<Value> {
    let number = |text: &str| text.parse::<f64>().ok().filter(|x| x.is_finite());
    let percent = text.strip_prefix('p').and_then(number);
    match (text, percent, number(text)) {
        ("mean", ..) => Ok(Value::Mean),
        ("zero", ..) => Ok(Value::Number(0.0)),
        (_, Some(percent), _) if (0.0..=100.0).contains(&percent) => {
            Ok(Value::Quantile(percent / 100.0))
        }
        (_, None, Some(number)) => Ok(Value::Number(number)),
        _ => {
            let remedy = "write p50 (or another percentile), mean, zero or a number";
            Err(Error::config("value", format!("'{text}' is no value"), remedy))
        }
    }
}

pub(super) fn run(args: SteerArgs) -> Result<()> {
    device::threads(args.texts.threads())?;
    let config = args.config()?;
    let out = config.out.clone();
    let steering = Steering::open(config)?;
    let stop = super::run::stop_flag()?;
    let rows = super::run::with_progress(|report| steering.run(&stop, report))?;
    output::print(&format!("{}{}\n", table(&rows), out.display()))
}

fn table(rows: &[SteerRow]) -> String {
    let line = |row: &SteerRow| {
        let order = match row.order.as_str() {
            "" => "untouched".to_owned(),
            "random" => format!("random {}", row.draw),
            other => other.to_owned(),
        };
        vec![
            order,
            row.strength.to_string(),
            row.words.clone(),
            row.n.to_string(),
            format!("{:.3} +- {:.3}", row.presence, row.presence_error),
            format!("{:.2}", row.judge_perplexity),
            format!("{:.3}", row.distinct_1),
            format!("{:.3}", row.distinct_2),
        ]
    };
    let header = [
        "neurons",
        "strength",
        "words",
        "texts",
        "presence",
        "judge_perplexity",
        "distinct_1",
        "distinct_2",
    ];
    output::table(&header, &rows.iter().map(line).collect::<Vec<_>>())
}
