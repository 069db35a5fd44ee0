//! `electrode export`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::output;
use crate::error::Result;
use crate::run::neuronpedia::{NeuronpediaNames, export_neuronpedia};

/// Write a finished run in the format of another program
#[derive(Args, Debug)]
pub struct ExportArgs {
    #[command(subcommand)]
    format: Format,
}

#[derive(Subcommand, Debug)]
enum Format {
    /// Features and activations as Neuronpedia imports them, a source for each site
    Neuronpedia {
        /// The run folder
        #[arg(value_name = "RUN")]
        run: PathBuf,
        /// Where it goes; the folder must not be there yet
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
        /// The model's name there; by default the last part of its path
        #[arg(long, value_name = "NAME")]
        model_id: Option<String>,
        /// Id of the user to whom it will belong
        #[arg(long, value_name = "ID", default_value = "")]
        creator_id: String,
    },
}

pub(super) fn run(args: ExportArgs) -> Result<()> {
    match args.format {
        Format::Neuronpedia { run, out, model_id, creator_id } => {
            let names = NeuronpediaNames { model: model_id, creator: creator_id };
            let done = export_neuronpedia(&run, &out, &names)?;
            output::print(&format!(
                "{} sources, {} features, {} activations ({} contexts were not traced)\n{}\n",
                done.sources,
                done.features,
                done.activations,
                done.left_out,
                out.display()
            ))
        }
    }
}
