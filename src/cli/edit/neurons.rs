//! `electrode edit prune-neurons` and `p-prune`.

use std::path::{Path, PathBuf};

use super::Folders;
use crate::artifact::ranked::read_ranked;
use crate::error::Result;
use crate::rewrite::activations::Activations;
use crate::rewrite::choose::{Amount, Choice, Wanted, choose, scores};
use crate::rewrite::means::read_means;
use crate::rewrite::merge::merge;
use crate::rewrite::neurons::{Removal, remove};

/// Which ranking of a table is meant.
#[derive(clap::Args, Debug)]
pub(super) struct RankingArgs {
    /// Method with its settings, as written in the table; may be left out where it has one
    #[arg(long, value_name = "METHOD")]
    method: Option<String>,
    /// Label column, or key of groups of questions
    #[arg(long, value_name = "LABEL")]
    label: Option<String>,
    /// Concept or group; by default the ranking for all of them
    #[arg(long, value_name = "CONCEPT")]
    concept: Option<String>,
}

impl RankingArgs {
    pub(super) fn wanted(&self) -> Wanted {
        Wanted {
            method: self.method.clone(),
            label: self.label.clone(),
            concept: self.concept.clone(),
        }
    }
}

/// Remove the neurons that a ranking puts last (or first) from the MLPs
#[derive(clap::Args, Debug)]
pub(super) struct PruneNeuronsArgs {
    #[command(flatten)]
    folders: Folders,
    /// rankings.parquet of a run, or effects.parquet of an experiment
    #[arg(long, value_name = "FILE.parquet")]
    ranking: PathBuf,
    #[command(flatten)]
    which: RankingArgs,
    /// How many: 100, or a share as 0.1 or 10%; of each layer with --per-layer, else of the model
    #[arg(long, value_name = "N|SHARE", value_parser = Amount::parse)]
    remove: Amount,
    /// The lowest scores, as without it
    #[arg(long, conflicts_with = "highest")]
    lowest: bool,
    /// The highest scores
    #[arg(long)]
    highest: bool,
    /// As many in each layer, so that they can be deleted
    #[arg(long, required_unless_present = "zero")]
    per_layer: bool,
    /// Set their weights to 0 instead of deleting them; shapes stay
    #[arg(long)]
    zero: bool,
    /// Add what they wrote on average to the bias: neurons.parquet of a run, or a file with
    /// layers.*.mlp_act of `electrode extract --corpus`
    #[arg(long, value_name = "FILE")]
    compensate: Option<PathBuf>,
}

pub(super) fn run(args: PruneNeuronsArgs) -> Result<()> {
    let model = args.folders.open()?;
    let place = args.ranking.display().to_string();
    let scores = scores(&place, read_ranked(&args.ranking)?, &args.which.wanted())?;
    let shape = (model.spec.layers, model.spec.mlp.width);
    let (highest, per_layer) = (args.highest, args.per_layer);
    let choice = Choice { amount: args.remove, highest, per_layer };
    let neurons = choose(&scores, shape, &choice)?;
    let means = |path: &Path| read_means(path, &model);
    let means = args.compensate.as_deref().map(means).transpose()?;
    let removal = if args.zero { Removal::Zero } else { Removal::Delete };
    let rewrite = remove(&model, &neurons, removal, means.as_ref())?;
    let count: usize = neurons.values().map(std::collections::BTreeSet::len).sum();
    let done = if args.zero { "set to 0" } else { "deleted" };
    let what = format!("{count} of {} neurons {done}", shape.0 * shape.1);
    args.folders.write(rewrite, &what)
}

/// Merge neurons that say the same, so that fewer are left in each layer
#[derive(clap::Args, Debug)]
pub(super) struct PPruneArgs {
    #[command(flatten)]
    folders: Folders,
    /// Activations of `electrode extract --corpus FILE --sites 'layers.*.mlp_act'`
    #[arg(long, value_name = "FILE.safetensors")]
    activations: PathBuf,
    /// Share of the neurons of each layer that is kept, rounded up
    #[arg(long, value_name = "SHARE")]
    keep: f64,
}

pub(super) fn p_prune(args: PPruneArgs) -> Result<()> {
    let model = args.folders.open()?;
    let (rewrite, layers) = merge(&model, &Activations::open(&args.activations)?, args.keep)?;
    let lines = layers.iter().enumerate().map(|(number, layer)| {
        let (kept, width) = (layer.kept.len(), model.spec.mlp.width);
        let lost = 100.0 * layer.lost;
        format!("layer {number}: {kept} of {width} neurons, {lost:.2}% of the variance lost")
    });
    args.folders.write(rewrite, &lines.collect::<Vec<_>>().join("\n"))
}
