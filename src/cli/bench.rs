//! `electrode bench`: how fast this machine runs a model, and how near its limits.

use std::path::{Path, PathBuf};

use serde_json::json;

use super::device::DtypeArg;
use super::{device, output};
use crate::artifact::machine::Machine;
use crate::config::Dtype;
use crate::disk;
use crate::engine::measure::{Load, Measured, measure};
use crate::error::{Error, Result, did_you_mean};
use crate::model::Model;
use crate::run::devices::{Devices, device_name, open, processor};

/// Shapes that need no file.
const SHAPES: [(&str, &str); 4] = [
    ("gpt2", include_str!("../../configs/models/gpt2.json")),
    ("pythia-1.4b", include_str!("../../configs/models/pythia-1.4b.json")),
    ("llama-3.2-1b", include_str!("../../configs/models/llama-3.2-1b.json")),
    ("llama-3.1-8b", include_str!("../../configs/models/llama-3.1-8b.json")),
];

/// Measure tokens/s of a model of some shape with random weights, and what statistics cost
#[derive(clap::Args, Debug)]
pub struct BenchArgs {
    /// gpt2, pythia-1.4b, llama-3.2-1b, llama-3.1-8b, or a config.json of your own
    #[arg(value_name = "SHAPE", default_value = "gpt2")]
    shape: String,
    /// Tokens of a device call
    #[arg(long, value_name = "N", default_value_t = 2048)]
    tokens: usize,
    /// Tokens of a sequence
    #[arg(long, value_name = "N", default_value_t = 512)]
    sequence: usize,
    /// Device calls timed together
    #[arg(long, value_name = "N", default_value_t = 1)]
    batches: usize,
    /// Times each workload is timed; the median is told
    #[arg(long, value_name = "N", default_value_t = 5)]
    rounds: usize,
    /// Where it runs: auto, cpu, cuda:1; on one GPU, the first of those named
    #[arg(long, value_name = "DEVICE")]
    device: Option<String>,
    /// Of the forward pass
    #[arg(long, value_enum, default_value = "f32", value_name = "DTYPE")]
    dtype: DtypeArg,
    /// CPU threads; all by default
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=4096))]
    threads: Option<u16>,
    /// As JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: BenchArgs) -> Result<()> {
    device::threads(args.threads.map(usize::from))?;
    let dtype = Dtype::from(args.dtype);
    let devices = Devices::choose(args.device.as_deref())?;
    let model = model(&args.shape)?;
    let load = Load {
        tokens: args.tokens,
        sequence: args.sequence,
        batches: args.batches,
        rounds: args.rounds,
    };
    let (device, measured) = match devices {
        Devices::Cpu => {
            let device = processor(dtype);
            (cpu_name(), measure(&device, &model, load, Some(&|| device.peak_flops()))?)
        }
        Devices::Cuda(found) => {
            (device_name(&found[0]), measure(&open(&found[0], dtype)?, &model, load, None)?)
        }
    };
    if args.json {
        output::print_json(&json!({
            "shape": args.shape,
            "device": device,
            "dtype": args.dtype.to_string(),
            "measured": measured,
        }))
    } else {
        output::print(&as_text(&device, args.dtype, &measured))
    }
}

/// `cpu (A Processor, 8 threads)`.
fn cpu_name() -> String {
    let machine = Machine::here(rayon::current_num_threads());
    let name = machine.cpu.unwrap_or(machine.system);
    format!("cpu ({name}, {} threads)", machine.threads)
}

fn model(shape: &str) -> Result<Model> {
    if let Some((name, text)) = SHAPES.iter().find(|(name, _)| *name == shape) {
        return Model::random((Path::new(name), text.as_bytes()), 0);
    }
    let path = PathBuf::from(shape);
    if !path.exists() {
        let names = SHAPES.map(|(name, _)| name);
        let hint = did_you_mean(shape, names);
        let what = format!("'{shape}' is neither a shape nor a file{hint}");
        return Err(Error::config("SHAPE", what, format!("one of {}", names.join(", "))));
    }
    let text = disk::read(&path).map_err(Error::io(&path, "read"))?;
    Model::random((&path, &text), 0)
}

fn as_text(device: &str, dtype: DtypeArg, measured: &Measured) -> String {
    let copy = measured.copy_bytes_per_s / 1e9;
    let mut out = format!("device  {device}, {dtype}\ncopy    {copy:.1} GB/s\n");
    if let Some(peak) = measured.peak_flops_per_s {
        out += &format!("peak    {:.3} TFLOP/s, in registers alone\n", peak / 1e12);
    }
    let percent = |share: f64| format!("{:.1} %", 100.0 * share);
    let products: Vec<Vec<String>> = measured
        .products
        .iter()
        .map(|product| {
            let [rows, out, inner] = product.shape;
            let rate = format!("{:.3}", product.flops_per_s / 1e12);
            let share = product.share_of_peak.map_or_else(|| "-".into(), percent);
            vec![product.name.to_owned(), format!("{rows} x {out} x {inner}"), rate, share]
        })
        .collect();
    out += &output::table(&["product", "shape", "TFLOP/s", "of the peak"], &products);
    let passes: Vec<Vec<String>> = measured
        .passes
        .iter()
        .map(|pass| {
            vec![
                pass.name.to_owned(),
                format!("{:.0}", pass.tokens_per_s),
                format!("{:.0} to {:.0}", pass.spread[0], pass.spread[1]),
                percent(pass.share_of_ceiling),
                percent(pass.cost_of_statistics),
            ]
        })
        .collect();
    let header = ["pass", "tokens/s", "spread", "of the products' rate", "for statistics"];
    out + &output::table(&header, &passes)
        + &format!(
            "{} neurons, {:.1} MFLOP a token; moments: sums, range and firing in 18 groups;\n\
             statistics: with 64-bin histograms and the 20 largest values\n",
            measured.neurons,
            measured.flops_per_token as f64 / 1e6
        )
}
