//! `electrode generate`: prompts continued by a model while its neurons change.

use std::io::Write as _;
use std::path::PathBuf;

use clap::ValueEnum;

use super::texts::{TextArgs, summary_table};
use super::{device, output};
use crate::capture::intervention::Intervention;
use crate::error::Result;
use crate::generate::continuation::On;
use crate::run::generate::{Generation, Summary, Text, TextArm, json_lines};

/// Continue prompts, with neurons overwritten on the way
#[derive(clap::Args, Debug)]
pub struct GenerateArgs {
    #[command(flatten)]
    texts: TextArgs,
    /// JSON file of activations to overwrite, see `electrode extract --help`; of several arms each
    /// continues every prompt
    #[arg(long, value_name = "FILE")]
    intervene: Option<PathBuf>,
    /// Tokens at which they are overwritten
    #[arg(long, value_enum, default_value = "all", requires = "intervene", value_name = "WHICH")]
    on: OnArg,
    /// Also score each continuation under the model without edits
    #[arg(long)]
    judge: bool,
    /// JSON Lines, one object for each continuation; a stopped command goes on when it is given
    /// again. Standard output by default, where a stopped command begins anew
    #[arg(long, value_name = "FILE.jsonl")]
    out: Option<PathBuf>,
}

/// See `--on`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum OnArg {
    /// Every token.
    All,
    /// Those of the prompt.
    Prompt,
    /// Those that were generated.
    Generated,
}

impl From<OnArg> for On {
    fn from(on: OnArg) -> Self {
        match on {
            OnArg::All => Self::All,
            OnArg::Prompt => Self::Prompt,
            OnArg::Generated => Self::Generated,
        }
    }
}

pub(super) fn run(args: GenerateArgs) -> Result<()> {
    device::threads(args.texts.threads())?;
    let generation = Generation::open(args.texts.config())?;
    let arms = match &args.intervene {
        None => vec![TextArm::default()],
        Some(path) => {
            let arms = Intervention::load(path)?.of_texts(&generation.model.spec)?;
            let arm = |(name, edits)| TextArm { name, edits, on: args.on.into() };
            arms.into_iter().map(arm).collect()
        }
    };
    let table = |texts: &[Vec<Text>]| {
        summary_table(&texts.iter().map(|texts| Summary::of(texts)).collect::<Vec<_>>())
    };
    let judge = args.judge;
    if let Some(path) = &args.out {
        let stop = super::run::stop_flag()?;
        let texts = super::run::with_progress(|report| {
            generation.write(path, (&arms, judge), &stop, report)
        })?;
        return output::print(&format!("{}{}\n", table(&texts), path.display()));
    }
    let texts = super::run::with_progress(|report| generation.run(&arms, judge, report))?;
    output::print(&json_lines(&texts))?;
    // Nothing can be done about a closed stderr.
    let _ = std::io::stderr().lock().write_all(table(&texts).as_bytes());
    Ok(())
}
