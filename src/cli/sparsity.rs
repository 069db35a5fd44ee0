//! `electrode sparsity`.

use std::path::PathBuf;

use super::device::{self, DtypeArg};
use super::extract::CorpusFormat;
use super::output;
use crate::artifact::sparsity::SparsityRow;
use crate::corpus::config::{CorpusConfig, Format};
use crate::error::Result;
use crate::run::sparsity::{Measured, SparsityConfig, measure_sparsity};
use crate::stimulate::sparsity::Firing;

/// Measure how many neurons a model uses, and how many it needs
#[derive(clap::Args, Debug)]
pub struct SparsityArgs {
    /// Folder with config.json, or org/name in the local Hub cache
    #[arg(long, value_name = "DIR")]
    model: String,
    /// Texts; files, folders, globs
    #[arg(long, required = true, num_args = 1.., value_name = "FILE")]
    corpus: Vec<PathBuf>,
    /// How they are read, by default as their suffix says
    #[arg(long, value_enum, value_name = "FORMAT")]
    format: Option<CorpusFormat>,
    /// Begin each sequence with the model's BOS where its tokenizer does not
    #[arg(long)]
    add_bos: bool,
    /// Longest sequence in tokens; by default the model's limit, at most 2048
    #[arg(long, value_name = "N")]
    max_tokens: Option<usize>,
    /// Tokens of the corpus that are measured, about
    #[arg(long, default_value_t = 100_000, value_name = "N")]
    tokens: usize,
    /// A neuron fires if |x| is above this; 0 for ReLU, 0.01 for others
    #[arg(long, value_name = "EPS")]
    eps: Option<f32>,
    /// Shares of each layer's output that the tail may hold
    #[arg(long, value_delimiter = ',', default_value = "0.05,0.1,0.2", value_name = "C,…")]
    cett: Vec<f64>,
    /// Growth of the perplexity allowed, 0.01 for 1 %; 0 for no search (causal models only)
    #[arg(long, default_value_t = 0.01, value_name = "P")]
    ppl: f64,
    /// Thresholds of a pass
    #[arg(long, default_value_t = 16, value_name = "J", value_parser = clap::value_parser!(u32).range(2..=4096))]
    thresholds: u32,
    /// How near the largest c within that perplexity is looked for, by bisection
    #[arg(long, default_value_t = 1e-4, value_name = "T")]
    tolerance: f64,
    /// The folder to write; a stopped command goes on when it is given again
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Where it runs: auto, cpu, cuda, cuda:1; of several GPUs on the first
    #[arg(long, value_name = "DEVICE")]
    device: Option<String>,
    /// Of the forward pass
    #[arg(long, value_enum, default_value = "f32", value_name = "DTYPE")]
    dtype: DtypeArg,
    /// Tokens of a batch
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1 << 20))]
    batch_tokens: Option<u32>,
    /// CPU threads; all by default
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=4096))]
    threads: Option<u16>,
}

pub(super) fn run(args: SparsityArgs) -> Result<()> {
    device::threads(args.threads.map(usize::from))?;
    let mut corpus = CorpusConfig::of_file(&args.corpus[0]);
    corpus.files = args.corpus;
    corpus.format = args.format.map(Format::from);
    corpus.add_bos = args.add_bos;
    corpus.max_tokens = args.max_tokens;
    let config = SparsityConfig {
        model: args.model,
        corpus,
        tokens: args.tokens,
        eps: args.eps,
        cett: args.cett,
        ppl: (args.ppl != 0.0).then_some(args.ppl),
        thresholds: args.thresholds,
        tolerance: args.tolerance,
        batch_tokens: args.batch_tokens.map(|tokens| tokens as usize),
        device: args.device,
        dtype: args.dtype.into(),
        out: args.out,
    };
    let stop = super::run::stop_flag()?;
    let measured = super::run::with_progress(|report| measure_sparsity(&config, &stop, report))?;
    output::print(&format!("{}{}\n", summary(&measured), config.out.display()))
}

fn summary(measured: &Measured) -> String {
    let percent = |share: f64| format!("{:.2} %", 100.0 * share);
    let mut kinds: Vec<(String, Option<f64>)> = Vec::new();
    for row in measured.sparsity.iter().filter(|row| row.definition != "curve") {
        let kind = (row.definition.clone(), row.c);
        if !kinds.contains(&kind) {
            kinds.push(kind);
        }
    }
    let name = |(definition, c): &(String, Option<f64>)| match c {
        Some(c) => format!("{definition} {c:.4}"),
        None => definition.clone(),
    };
    let mut header = vec!["layer".to_owned()];
    header.extend(kinds.iter().map(name));
    header.extend(["never", "always"].map(str::to_owned));
    let header: Vec<&str> = header.iter().map(String::as_str).collect();
    let layers = (0_i32..).zip(&measured.firing).map(|(layer, firing)| (Some(layer), Some(firing)));
    let row = |(layer, firing): (Option<i32>, Option<&Firing>)| {
        let of = |kind: &&(String, Option<f64>), row: &SparsityRow| {
            (&row.definition, row.c, row.layer) == (&kind.0, kind.1, layer)
        };
        let cell = |kind: &(String, Option<f64>)| {
            let found = measured.sparsity.iter().find(|row| of(&kind, row));
            found.map(|row| percent(row.activation_ratio)).unwrap_or_default()
        };
        let mut cells = vec![layer.map_or("all".to_owned(), |layer| layer.to_string())];
        cells.extend(kinds.iter().map(cell));
        let all = || measured.firing.iter().collect::<Vec<_>>();
        let firing = firing.map_or_else(all, |one| vec![one]);
        let count = |which: fn(u64, u64) -> bool| {
            let of = |f: &&Firing| f.counts.iter().filter(|&&c| which(c, f.tokens)).count();
            firing.iter().map(of).sum::<usize>().to_string()
        };
        cells.extend([count(|count, _| count == 0), count(|count, tokens| count == tokens)]);
        cells
    };
    let rows: Vec<Vec<String>> = layers.chain([(None, None)]).map(row).collect();
    let mut text = format!("Active neurons by layer\n{}", output::table(&header, &rows));
    if !measured.perplexity.is_empty() {
        text += &perplexities(measured);
    }
    text
}

fn perplexities(measured: &Measured) -> String {
    let told = measured.perplexity.iter().filter(|row| row.best || row.method == "dense");
    let row = |row: &crate::artifact::sparsity::PerplexityRow| {
        vec![
            row.method.clone(),
            row.parameter.map(|x| format!("{x:.4}")).unwrap_or_default(),
            format!("{:.2} %", 100.0 * row.activation_ratio),
            format!("{:.4}", row.perplexity),
            format!("{:.5}", row.ratio),
        ]
    };
    let header = ["method", "parameter", "active", "perplexity", "ratio"];
    format!(
        "\nSparsest within the perplexity allowed\n{}",
        output::table(&header, &told.map(row).collect::<Vec<_>>())
    )
}
