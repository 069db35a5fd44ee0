//! `electrode detect`: inputs that drive neurons where clean ones do not (BadActs).

use std::path::{Path, PathBuf};

use safetensors::tensor::TensorView;
use serde_json::json;

use super::output;
use super::rank::input::{Part, Tensor, labels};
use crate::artifact::atomic::write_bytes_atomic;
use crate::error::{Error, Result};
use crate::methods::matrix::Matrix;
use crate::methods::normal_bounds::{NormalBounds, Settings, auroc};

const WHOLE: Part = Part { rows: None, columns: None };

/// Flag rows whose neurons leave the range that clean rows have (badacts), and clamp them into it
#[derive(clap::Args, Debug)]
pub struct DetectArgs {
    /// Rows known to be clean (rows, neurons), as `extract` writes them
    #[arg(long, value_name = "FILE.safetensors:TENSOR")]
    clean: String,
    /// Rows to be judged, of the same neurons
    #[arg(long, value_name = "FILE.safetensors:TENSOR")]
    rows: String,
    /// What they are, to measure how well they are told apart: 1 or "clean", 0 or "suspicious"
    #[arg(long, value_name = "FILE.safetensors:TENSOR|FILE.json")]
    labels: Option<String>,
    /// Standard deviations on either side of a neuron's mean
    #[arg(long, default_value_t = 3.0, value_name = "X")]
    delta: f64,
    /// Share of clean rows that may be flagged
    #[arg(long, default_value_t = 0.05, value_name = "SHARE")]
    false_rejections: f64,
    /// Chooses the half of the clean rows that is fitted
    #[arg(long, default_value_t = 0, value_name = "N")]
    seed: u64,
    /// Where scores and flags go
    #[arg(long, value_name = "FILE.json")]
    out: PathBuf,
    /// Where the rows go, each neuron clamped into its range: tensor `purified`
    #[arg(long, value_name = "FILE.safetensors")]
    purified: Option<PathBuf>,
}

pub(super) fn run(args: DetectArgs) -> Result<()> {
    let (clean, rows) =
        (Tensor::parse("--clean", &args.clean)?, Tensor::parse("--rows", &args.rows)?);
    let (clean_rows, _) = clean.matrix(&WHOLE)?;
    let (judged, place) = rows.matrix(&WHOLE)?;
    if clean_rows.columns() != judged.columns() {
        let what =
            format!("{} neurons, the clean rows have {}", judged.columns(), clean_rows.columns());
        return Err(Error::input(&rows.path, what, "take both from the same model and site"));
    }
    let truth = args.labels.as_deref().map(|text| labels(text)?.select(&place, &rows));
    let truth = truth.transpose()?;
    let settings =
        Settings { delta: args.delta, false_rejections: args.false_rejections, seed: args.seed };
    let bounds = NormalBounds::fit(&clean_rows, &settings, &clean.path)?;
    let scores = bounds.scores(&judged);
    let flagged = bounds.flagged(&scores);
    let measured: Option<serde_json::Value> = match &truth {
        Some(truth) => Some(measured(&args, truth, (&scores, &flagged))?),
        None => None,
    };
    let report = json!({
        "delta": args.delta, "false_rejections": args.false_rejections, "seed": args.seed,
        "threshold": bounds.threshold, "scores": scores, "flagged": flagged,
        "measured": measured,
    });
    write_bytes_atomic(&args.out, report.to_string().as_bytes())?;
    if let Some(path) = &args.purified {
        write_purified(path, &bounds, &judged)?;
    }
    let count = flagged.iter().filter(|flag| **flag).count();
    let auroc = measured.as_ref().and_then(|of| of["auroc"].as_f64());
    let told = auroc.map_or_else(String::new, |auroc| format!(", AUROC {auroc:.3}"));
    output::print(&format!("{count} of {} rows are suspicious{told}\n", flagged.len()))
}

/// How well the flags tell suspicious rows from clean ones.
fn measured(
    args: &DetectArgs,
    truth: &crate::methods::matrix::RowLabels,
    (scores, flagged): (&[f64], &[bool]),
) -> Result<serde_json::Value> {
    let path = Path::new(args.labels.as_deref().unwrap_or_default());
    let is = |class: Option<u32>| match class.map(|at| truth.classes[at as usize].1.as_str()) {
        Some("1" | "clean") => Ok(Some(true)),
        Some("0" | "suspicious") => Ok(Some(false)),
        None => Ok(None),
        Some(other) => {
            let remedy = "label rows 1 or \"clean\", 0 or \"suspicious\"";
            Err(Error::input(path, format!("a row is labelled '{other}'"), remedy))
        }
    };
    let clean: Vec<Option<bool>> =
        truth.of_row.iter().map(|class| is(*class)).collect::<Result<_>>()?;
    let of = |wanted: bool| -> Vec<usize> {
        (0..clean.len()).filter(|&row| clean[row] == Some(wanted)).collect()
    };
    let (clean, suspicious) = (of(true), of(false));
    if clean.is_empty() || suspicious.is_empty() {
        let remedy = "label some rows of each kind, or leave out --labels";
        return Err(Error::input(path, "all labelled rows are of one kind", remedy));
    }
    let pick = |rows: &[usize]| rows.iter().map(|&row| scores[row]).collect::<Vec<f64>>();
    let share = |rows: &[usize], flag: bool| {
        rows.iter().filter(|&&row| flagged[row] == flag).count() as f64 / rows.len() as f64
    };
    Ok(json!({
        "auroc": auroc(&pick(&clean), &pick(&suspicious), path)?,
        "false_rejection_rate": share(&clean, true),
        "false_acceptance_rate": share(&suspicious, false),
    }))
}

fn write_purified(path: &Path, bounds: &NormalBounds, rows: &Matrix) -> Result<()> {
    let purified = (0..rows.rows()).flat_map(|row| {
        let inside = bounds.purified(rows, row).into_iter().zip(&bounds.intervals);
        inside.map(|(x, interval)| rounded(x, *interval)).collect::<Vec<f32>>()
    });
    let bytes: Vec<u8> = purified.flat_map(f32::to_le_bytes).collect();
    let shape = vec![rows.rows(), rows.columns()];
    let view = TensorView::new(safetensors::Dtype::F32, shape, &bytes).expect("rows x neurons");
    let file = safetensors::serialize([("purified", view)], None).expect("one tensor");
    write_bytes_atomic(path, &file)
}

/// To f32, and not out of the interval by that.
#[expect(clippy::cast_possible_truncation, reason = "activations are f32")]
fn rounded(x: f64, (low, high): (f64, f64)) -> f32 {
    let near = x as f32;
    if f64::from(near) > high {
        near.next_down()
    } else if f64::from(near) < low {
        near.next_up()
    } else {
        near
    }
}
