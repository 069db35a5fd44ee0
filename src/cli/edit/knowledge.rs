//! `electrode edit knowledge`, `erase`, `undo` and `dir-ablate`: other weights, the same shapes.

use std::path::{Path, PathBuf};

use super::Folders;
use super::neurons::RankingArgs;
use crate::artifact::effects::read_effects;
use crate::engine::tokenizer::open_tokenizer;
use crate::error::{Error, Result};
use crate::model::Model;
use crate::rewrite::Rewrite;
use crate::rewrite::direction::{ablate, read_direction};
use crate::rewrite::knowledge::{self, Fact};
use crate::rewrite::neurons::Neurons;
use crate::rewrite::selected::{of_group, read_list};
use crate::rewrite::undo::Undo;

/// Which neurons, and where their columns are saved.
#[derive(clap::Args, Debug)]
struct ColumnArgs {
    #[command(flatten)]
    folders: Folders,
    /// effects.parquet with the neurons that a method selected, or a list
    /// [{"layer": 3, "neurons": [17, 40]}]
    #[arg(long, value_name = "FILE.parquet|FILE.json")]
    neurons: PathBuf,
    #[command(flatten)]
    which: RankingArgs,
    /// Leave out neurons selected in more than this share of the groups (of a relation's facts)
    #[arg(long, value_name = "SHARE")]
    shared: Option<f64>,
    /// Save the columns here; `electrode edit undo` puts them back
    #[arg(long, value_name = "FILE.safetensors")]
    undo_file: Option<PathBuf>,
}

/// Make neurons say another answer (Dai et al. 2022)
#[derive(clap::Args, Debug)]
pub(super) struct KnowledgeArgs {
    #[command(flatten)]
    columns: ColumnArgs,
    /// The answer so far: one token, with the blank that stands before it, as in ' Paris'
    #[arg(long, value_name = "TOKEN")]
    old: String,
    /// The answer from now on
    #[arg(long, value_name = "TOKEN")]
    new: String,
    /// How much of the old answer's embedding is taken away
    #[arg(long, default_value_t = 1.0, value_name = "X")]
    lambda1: f64,
    /// How much of the new answer's embedding is added
    #[arg(long, default_value_t = 8.0, value_name = "X")]
    lambda2: f64,
    /// Count both in units of the neuron's own length, as the official code does
    #[arg(long)]
    normalise: bool,
}

/// Make neurons say nothing: their columns become 0
#[derive(clap::Args, Debug)]
pub(super) struct EraseArgs {
    #[command(flatten)]
    columns: ColumnArgs,
}

/// Put the columns back that knowledge or erase changed
#[derive(clap::Args, Debug)]
pub(super) struct UndoArgs {
    #[command(flatten)]
    folders: Folders,
    /// What --undo-file wrote
    #[arg(long, value_name = "FILE.safetensors")]
    undo: PathBuf,
}

/// Take a direction out of everything that is written to the stream
#[derive(clap::Args, Debug)]
pub(super) struct DirAblateArgs {
    #[command(flatten)]
    folders: Folders,
    /// A tensor with one value for each column of the stream, or a JSON list
    #[arg(long, value_name = "FILE.safetensors[:TENSOR]|FILE.json")]
    direction: String,
    /// Give a head that shares the token table the table as it was
    #[arg(long)]
    untie: bool,
}

impl ColumnArgs {
    fn neurons(&self) -> Result<Neurons> {
        let path = &self.neurons;
        if path.extension().is_some_and(|suffix| suffix == "json") {
            return match self.shared {
                None => read_list(path),
                Some(_) => Err(Error::config(
                    "--shared",
                    "a list has no groups to count",
                    "leave it out, or give effects.parquet",
                )),
            };
        }
        if let Some(share) = self.shared.filter(|share| !(0.0..=1.0).contains(share)) {
            return Err(Error::config("--shared", format!("{share} is no share"), "from 0 to 1"));
        }
        let place = path.display().to_string();
        of_group(&place, &read_effects(path)?, &self.which.wanted(), self.shared)
    }

    fn write(&self, (rewrite, undo): (Rewrite<'_>, Undo), what: &str) -> Result<()> {
        write_undo(&undo, self.undo_file.as_deref())?;
        self.folders.write(rewrite, what)
    }
}

/// Saves columns where asked: before the new checkpoint is there, and never in place of others.
pub(super) fn write_undo(undo: &Undo, path: Option<&Path>) -> Result<()> {
    let Some(path) = path else { return Ok(()) };
    if path.exists() {
        let place = path.display().to_string();
        let what = "exists already, and may be all that is left of other columns";
        return Err(Error::config(place, what, "give a file that is not there yet"));
    }
    undo.write(path)
}

fn count(neurons: &Neurons) -> usize {
    neurons.values().map(std::collections::BTreeSet::len).sum()
}

pub(super) fn knowledge(args: KnowledgeArgs) -> Result<()> {
    for (place, lambda) in [("--lambda1", args.lambda1), ("--lambda2", args.lambda2)] {
        if !lambda.is_finite() {
            return Err(Error::config(place, format!("{lambda} is no factor"), "give a number"));
        }
    }
    let model = args.columns.folders.open()?;
    let neurons = args.columns.neurons()?;
    let fact = Fact {
        old: token(&model, "--old", &args.old)?,
        new: token(&model, "--new", &args.new)?,
        lambdas: (args.lambda1, args.lambda2),
        normalise: args.normalise,
    };
    let edited = knowledge::edit(&model, &neurons, &fact)?;
    let what = format!(
        "{} neurons: {:?} (token {}) for {:?} (token {})",
        count(&neurons),
        args.new,
        fact.new,
        args.old,
        fact.old
    );
    args.columns.write(edited, &what)
}

pub(super) fn erase(args: EraseArgs) -> Result<()> {
    let model = args.columns.folders.open()?;
    let neurons = args.columns.neurons()?;
    let edited = knowledge::erase(&model, &neurons)?;
    args.columns.write(edited, &format!("{} neurons write nothing", count(&neurons)))
}

pub(super) fn undo(args: UndoArgs) -> Result<()> {
    let model = args.folders.open()?;
    let rewrite = Undo::read(&args.undo)?.restore(&model)?;
    args.folders.write(rewrite, "columns are as they were")
}

pub(super) fn dir_ablate(args: DirAblateArgs) -> Result<()> {
    let model = args.folders.open()?;
    let rewrite = ablate(&model, &read_direction(&args.direction)?, args.untie)?;
    args.folders.write(rewrite, "nothing is written along the direction")
}

/// The one token of a text.
fn token(model: &Model, place: &str, text: &str) -> Result<u32> {
    let tokenizer = open_tokenizer(model, false)?;
    let tokens = tokenizer.encode(text)?.tokens;
    match tokens[..] {
        [token] => Ok(token),
        _ => {
            let pieces: Vec<String> =
                tokens.iter().map(|&id| tokenizer.id_to_token(id).unwrap_or_default()).collect();
            let what = format!("'{text}' is {} tokens, not one: {pieces:?}", tokens.len());
            Err(Error::config(
                place,
                what,
                "choose a word that is one token; a blank before it counts",
            ))
        }
    }
}
