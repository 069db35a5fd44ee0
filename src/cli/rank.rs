//! `electrode rank`: one method on a matrix the user already has. Exact: values are taken one by
//! one, not in bins.

pub(super) mod input;
mod output;

use std::ops::Range;
use std::path::PathBuf;

use crate::error::{Error, Result};
use crate::methods::matrix::RowLabels;
use crate::methods::{MatrixSource, MethodCall, rank};

/// Run one method on a matrix of activations
#[derive(clap::Args, Debug, Clone)]
pub struct RankArgs {
    /// The matrix (rows, neurons): f32, f16, bf16 or f64
    #[arg(long, value_name = "FILE.safetensors:TENSOR")]
    pub activations: String,
    /// One label a row: integers (-1 = unlabelled), or a JSON list of strings (null = unlabelled)
    #[arg(long, value_name = "FILE.safetensors:TENSOR|FILE.json")]
    pub labels: Option<String>,
    /// Method and settings, see `electrode methods`
    #[arg(long, value_name = "NAME[:key=value,…]")]
    pub method: String,
    /// Only these rows, from 0, end excluded
    #[arg(long, value_name = "A..B")]
    pub rows: Option<String>,
    /// Only these neurons, from 0, end excluded; they keep their numbers
    #[arg(long, value_name = "A..B")]
    pub columns: Option<String>,
    /// Where the ranking goes
    #[arg(long, value_name = "FILE.json")]
    pub out: PathBuf,
}

/// Reads, ranks, writes.
pub fn run(args: RankArgs) -> Result<()> {
    let call = MethodCall::parse(&args.method)?;
    let activations = input::Tensor::parse("--activations", &args.activations)?;
    let part = input::Part {
        rows: args.rows.as_deref().map(|text| range("--rows", text)).transpose()?,
        columns: args.columns.as_deref().map(|text| range("--columns", text)).transpose()?,
    };
    // Labels are small: a mistake in them is found before the matrix is read.
    let labels = match (&args.labels, call.needs_labels()) {
        (Some(labels), _) => Some(input::labels(labels)?),
        (None, false) => None,
        (None, true) => {
            return Err(Error::config(
                "--labels",
                format!("missing, and '{call}' needs labels"),
                "give --labels FILE.safetensors:TENSOR or FILE.json",
            ));
        }
    };
    let (matrix, place) = activations.matrix(&part)?;
    let labels = labels.map(|labels| labels.select(&place, &activations)).transpose()?;
    let names = |labels: &RowLabels| labels.classes.clone();
    let classes = labels.as_ref().map(names).unwrap_or_default();
    let source = match labels {
        Some(labels) if call.needs_labels() => {
            MatrixSource::new(matrix, &labels, &activations.path)?
        }
        _ => MatrixSource::unlabelled(matrix, &activations.path)?,
    };
    let ranking = rank(&call, &source)?;
    for note in &ranking.notes {
        tracing::warn!("{note}");
    }
    output::write(&args.out, &output::to_json(&ranking, &place, &classes))
}

/// `A..B`.
fn range(place: &str, text: &str) -> Result<Range<usize>> {
    let ends = text.split_once("..").and_then(|(a, b)| Some((a.parse().ok()?, b.parse().ok()?)));
    match ends {
        Some((start, end)) if start < end => Ok(start..end),
        _ => Err(Error::config(
            place,
            format!("'{text}' is not a range"),
            "write A..B with A < B, for example 0..1000; B itself is left out",
        )),
    }
}
