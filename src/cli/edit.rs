//! `electrode edit`: another checkpoint made of one. Each subcommand writes a new folder and leaves
//! the model's own as it is.

mod ece;
mod heads;
mod knowledge;
mod layers;
mod neurons;

use std::path::PathBuf;

use clap::Subcommand;

use super::output;
use crate::error::Result;
use crate::model::Model;
use crate::rewrite::{Rewrite, SHARD_BYTES};

/// Write a changed copy of a checkpoint: without layers, neurons or heads, with other value vectors
#[derive(clap::Args, Debug)]
#[command(arg_required_else_help = true)]
pub struct EditArgs {
    #[command(subcommand)]
    edit: Edit,
}

#[derive(Debug, Subcommand)]
enum Edit {
    DropLayers(layers::DropLayersArgs),
    PruneNeurons(neurons::PruneNeuronsArgs),
    PPrune(neurons::PPruneArgs),
    PPruneHeads(heads::PPruneHeadsArgs),
    Knowledge(knowledge::KnowledgeArgs),
    Ece(Box<ece::EceArgs>),
    Erase(knowledge::EraseArgs),
    Undo(knowledge::UndoArgs),
    DirAblate(knowledge::DirAblateArgs),
}

/// The checkpoint that is read, and the one that is written.
#[derive(clap::Args, Debug)]
struct Folders {
    /// Folder with config.json, or org/name in the local Hub cache
    #[arg(long, value_name = "DIR")]
    model: String,
    /// The new folder; it must not exist yet
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Largest size of a file of weights; a larger checkpoint is cut into several
    #[arg(long, value_name = "BYTES", default_value_t = SHARD_BYTES)]
    shard_bytes: u64,
}

impl Folders {
    fn open(&self) -> Result<Model> {
        Model::open(&self.model)
    }

    /// Writes the new folder and says what is in it.
    fn write(&self, rewrite: Rewrite<'_>, what: &str) -> Result<()> {
        let written = rewrite.write(&self.out, self.shard_bytes)?;
        output::print(&format!(
            "{what}\n{}: {} tensors, {} of them changed, {} bytes in {} {}\n",
            self.out.display(),
            written.tensors,
            written.changed,
            written.bytes,
            written.files,
            if written.files == 1 { "file" } else { "files" },
        ))
    }
}

pub(super) fn run(args: EditArgs) -> Result<()> {
    match args.edit {
        Edit::DropLayers(args) => layers::run(args),
        Edit::PruneNeurons(args) => neurons::run(args),
        Edit::PPrune(args) => neurons::p_prune(args),
        Edit::PPruneHeads(args) => heads::run(args),
        Edit::Knowledge(args) => knowledge::knowledge(args),
        Edit::Ece(args) => ece::run(*args),
        Edit::Erase(args) => knowledge::erase(args),
        Edit::Undo(args) => knowledge::undo(args),
        Edit::DirAblate(args) => knowledge::dir_ablate(args),
    }
}
