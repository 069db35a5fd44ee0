//! `electrode edit p-prune-heads`.

use std::path::PathBuf;

use super::Folders;
use crate::error::Result;
use crate::id::SiteKind;
use crate::methods::clustering::heads::{HeadOutputs, HeadPruning, PrunedHeads};
use crate::model::{LayerParam, Model, Param};
use crate::rewrite::activations::Activations;
use crate::rewrite::heads::{HeadRemoval, LayerHeads, removal, remove_heads};

/// Merge attention heads that say the same, so that fewer are left in each layer
#[derive(clap::Args, Debug)]
pub(super) struct PPruneHeadsArgs {
    #[command(flatten)]
    folders: Folders,
    /// Outputs of `electrode extract --corpus FILE --sites 'layers.*.head_out'`
    #[arg(long, value_name = "FILE.safetensors")]
    activations: PathBuf,
    /// Share of the heads of each layer that is kept, rounded up
    #[arg(long, value_name = "SHARE")]
    keep: f64,
    /// Keep as many heads for each key head, so that they can be deleted where key heads are shared
    #[arg(long)]
    per_group: bool,
    /// Set the weights of the others to 0 instead of deleting them; shapes stay. Where the
    /// architecture cannot do with fewer heads, this happens anyway
    #[arg(long)]
    zero: bool,
    /// Drop the others with what they say
    #[arg(long)]
    no_merge: bool,
}

pub(super) fn run(args: PPruneHeadsArgs) -> Result<()> {
    let model = args.folders.open()?;
    let layers = prune(&args, &model)?;
    let heads: Vec<LayerHeads> = layers.iter().map(|layer| layer.heads.clone()).collect();
    let how = match args.zero {
        true => HeadRemoval::Zeroed("as asked".to_owned()),
        false => removal(&model, &heads),
    };
    let rewrite = remove_heads(&model, &heads, &how)?;
    let all = model.spec.attention.heads;
    let mut lines: Vec<String> = (0..).zip(&layers).map(|(n, layer)| line(n, layer, all)).collect();
    let gone: usize = heads.iter().map(|layer| all - layer.kept.len()).sum();
    let count = format!("{gone} of {} heads", all * layers.len());
    lines.push(match &how {
        HeadRemoval::Deleted { kv_heads, .. } => {
            let (left, old) = (model.spec.layers * kv_heads, model.spec.attention.kv_heads);
            format!("{count} deleted, {left} of {} key heads are left", old * layers.len())
        }
        HeadRemoval::Zeroed(why) => format!("{count} set to 0: {why}"),
    });
    args.folders.write(rewrite, &lines.join("\n"))
}

/// What becomes of each layer.
fn prune(args: &PPruneHeadsArgs, model: &Model) -> Result<Vec<PrunedHeads>> {
    let file = Activations::of_kind(&args.activations, SiteKind::HeadOut)?;
    let attention = &model.spec.attention;
    let layer = |layer: usize| {
        let matrix = file.layer(layer, attention.heads * attention.head_width)?;
        let how = HeadPruning {
            keep: args.keep,
            per_group: args.per_group,
            merge: !args.no_merge,
            bias: model.has(Param::Layer(layer, LayerParam::OutBias)),
        };
        HeadOutputs::new(&matrix, attention.heads, attention.kv_heads)?.prune(&how)
    };
    (0..model.spec.layers).map(layer).collect()
}

fn line(number: usize, PrunedHeads { heads, lost }: &PrunedHeads, all: usize) -> String {
    let kept: Vec<String> = heads.kept.iter().map(ToString::to_string).collect();
    let (count, lost) = (kept.len(), 100.0 * lost);
    let kept = kept.join(", ");
    format!("layer {number}: {count} of {all} heads ({kept}), {lost:.2}% of the variance lost")
}
