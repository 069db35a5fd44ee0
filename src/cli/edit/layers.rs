//! `electrode edit drop-layers`.

use std::path::PathBuf;

use clap::{ArgGroup, ValueEnum};

use super::Folders;
use crate::config::Dtype;
use crate::corpus::config::CorpusConfig;
use crate::device::cpu::CpuDevice;
use crate::error::{Error, Result};
use crate::model::Model;
use crate::rewrite::layers::{Measure, Strategy, drop_layers, lowest, weigh};
use crate::run::contribution::contributions;
use crate::run::devices::{Devices, open};

/// Drop layers, named or chosen by a strategy of Sajjad et al. 2023
#[derive(clap::Args, Debug)]
#[command(group = ArgGroup::new("which").required(true).args(["layers", "keep", "strategy"]))]
pub(super) struct DropLayersArgs {
    #[command(flatten)]
    folders: Folders,
    /// Layers to drop, from 0
    #[arg(long, value_delimiter = ',', value_name = "LAYER")]
    layers: Option<Vec<usize>>,
    /// Layers to keep, from 0
    #[arg(long, value_delimiter = ',', value_name = "LAYER")]
    keep: Option<Vec<usize>>,
    /// How layers are chosen
    #[arg(long, value_enum, requires = "drop", value_name = "STRATEGY")]
    strategy: Option<StrategyArg>,
    /// With --strategy: how many layers are dropped
    #[arg(long, value_name = "N", requires = "strategy")]
    drop: Option<usize>,
    /// With --strategy parameters: what is smallest in the layers that go
    #[arg(long, value_enum, default_value = "magnitude", value_name = "MEASURE")]
    measure: MeasureArg,
    /// With --strategy contribution: the text it is measured on, one document a line
    #[arg(long, value_name = "FILE", required_if_eq("strategy", "contribution"))]
    corpus: Option<PathBuf>,
    /// With --strategy contribution: where the model runs (auto, cpu, cuda, cuda:1)
    #[arg(long, default_value = "auto", value_name = "DEVICE")]
    device: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum StrategyArg {
    /// The last layers
    Top,
    /// The first layers
    Bottom,
    /// The middle layers
    Symmetric,
    /// Every other layer downwards from the highest of odd number, counted from 1
    OddAlternate,
    /// The same for even numbers
    EvenAlternate,
    /// Those whose weights have the smallest sum of magnitudes, or the smallest variance
    Parameters,
    /// Those whose output is most similar to their input (mean cosine over a text)
    Contribution,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum MeasureArg {
    /// The sum of magnitudes
    Magnitude,
    /// The variance
    Variance,
}

pub(super) fn run(args: DropLayersArgs) -> Result<()> {
    let model = args.folders.open()?;
    let drop = chosen(&args, &model)?;
    let rewrite = drop_layers(&model, &drop)?;
    let names: Vec<String> = drop.iter().map(ToString::to_string).collect();
    let kept = model.spec.layers - drop.len();
    let what = format!("dropped layers {}, {kept} are left", names.join(", "));
    args.folders.write(rewrite, &what)
}

/// The layers that go, ascending where a strategy chose them.
fn chosen(args: &DropLayersArgs, model: &Model) -> Result<Vec<usize>> {
    let layers = model.spec.layers;
    if let Some(drop) = &args.layers {
        return Ok(drop.clone());
    }
    if let Some(keep) = &args.keep {
        if let Some(unknown) = keep.iter().find(|layer| **layer >= layers) {
            let what = format!("no layer {unknown}: the model has {layers}, counted from 0");
            let remedy = format!("name layers from 0 to {}", layers - 1);
            return Err(Error::config("--keep", what, remedy));
        }
        if !keep.is_sorted_by(|a, b| a < b) {
            let what = "layers are kept in their order, each once";
            return Err(Error::config("--keep", what, "name them ascending"));
        }
        return Ok((0..layers).filter(|layer| !keep.contains(layer)).collect());
    }
    let (Some(strategy), Some(drop)) = (args.strategy, args.drop) else {
        unreachable!("clap asks for one of them")
    };
    match strategy {
        StrategyArg::Top => Strategy::Top.choose(layers, drop),
        StrategyArg::Bottom => Strategy::Bottom.choose(layers, drop),
        StrategyArg::Symmetric => Strategy::Symmetric.choose(layers, drop),
        StrategyArg::OddAlternate => Strategy::OddAlternate.choose(layers, drop),
        StrategyArg::EvenAlternate => Strategy::EvenAlternate.choose(layers, drop),
        StrategyArg::Parameters => {
            let measure = match args.measure {
                MeasureArg::Magnitude => Measure::Magnitude,
                MeasureArg::Variance => Measure::Variance,
            };
            lowest(&weigh(model, measure)?, drop)
        }
        StrategyArg::Contribution => {
            let path = args.corpus.as_deref().expect("clap asks for it");
            let corpus = CorpusConfig::of_file(path);
            let cosines = match Devices::choose(Some(&args.device))? {
                Devices::Cpu => contributions(CpuDevice::F32, model, &corpus)?,
                Devices::Cuda(found) => {
                    contributions(open(&found[0], Dtype::F32)?, model, &corpus)?
                }
            };
            for (layer, cosine) in cosines.iter().enumerate() {
                tracing::info!(layer, cosine, "similarity of input and output");
            }
            // The least contribution is the largest cosine.
            let scores: Vec<f64> = cosines.iter().map(|cosine| -cosine).collect();
            lowest(&scores, drop)
        }
    }
}
