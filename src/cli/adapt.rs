//! `electrode adapt`: a classifier moved to another domain without training (IDANI).

use std::path::PathBuf;

use serde_json::json;

use super::output;
use super::rank::input::{Part, Tensor, labels};
use crate::artifact::atomic::write_bytes_atomic;
use crate::error::{Error, Result};
use crate::hash::{GAMMA, mix};
use crate::methods::domain_shift::{Choice, DomainShift, LinearHead, chosen_and_oracle};
use crate::methods::matrix::Matrix;

const WHOLE: Part = Part { rows: None, columns: None };

/// Move the neurons that tell two domains apart, so that a frozen classifier fits the other (idani)
#[derive(clap::Args, Debug)]
pub struct AdaptArgs {
    /// Rows of the domain that the classifier knows (rows, neurons); no labels are needed
    #[arg(long, value_name = "FILE.safetensors:TENSOR")]
    source: String,
    /// Rows of the domain it is moved to
    #[arg(long, value_name = "FILE.safetensors:TENSOR")]
    target: String,
    /// Classes of the target's rows, from 0: some choose, the others test
    #[arg(long, value_name = "FILE.safetensors:TENSOR")]
    classes: String,
    /// The classifier's weight (classes, neurons)
    #[arg(long, value_name = "FILE.safetensors:TENSOR")]
    weight: String,
    /// Its bias (1, classes)
    #[arg(long, value_name = "FILE.safetensors:TENSOR")]
    bias: Option<String>,
    /// Neurons to move; 1, 2, 4, … and all by default
    #[arg(long, value_delimiter = ',', value_name = "K")]
    sizes: Vec<usize>,
    /// How far the first of them goes; each next one less, down to 0.001
    #[arg(long, value_delimiter = ',', value_name = "X",
          default_values_t = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0])]
    betas: Vec<f64>,
    /// Share of the target's rows that choose size and distance
    #[arg(long, default_value_t = 0.5, value_name = "SHARE")]
    development: f64,
    /// Chooses these rows
    #[arg(long, default_value_t = 0, value_name = "N")]
    seed: u64,
    /// Where the order of neurons, every choice and the chosen one go
    #[arg(long, value_name = "FILE.json")]
    out: PathBuf,
}

pub(super) fn run(args: AdaptArgs) -> Result<()> {
    let (source, _) = Tensor::parse("--source", &args.source)?.matrix(&WHOLE)?;
    let target = Tensor::parse("--target", &args.target)?;
    let (rows, place) = target.matrix(&WHOLE)?;
    let shift = DomainShift::fit(&source, &rows, &target.path)?;
    let head = head(&args, rows.columns())?;
    let truth = labels(&args.classes)?.select(&place, &target)?;
    let class = |class: &Option<u32>| {
        class.map(|at| truth.classes[at as usize].0 as usize).ok_or_else(|| {
            let what = "a row of the target has no class";
            Error::config("--classes", what, "give every row one, from 0")
        })
    };
    let classes: Vec<usize> = truth.of_row.iter().map(class).collect::<Result<_>>()?;
    if let Some(wrong) = classes.iter().find(|class| **class >= head.weight.rows()) {
        let what = format!("class {wrong}, the classifier has {}", head.weight.rows());
        return Err(Error::config("--classes", what, "count classes from 0, as the weight does"));
    }
    let (sizes, development) = (sizes(&args, rows.columns())?, aside(&args, rows.rows())?);
    let grid = (&sizes[..], &args.betas[..]);
    let choices = shift.choices(&head, (&rows, &classes), &development, grid);
    let (chosen, oracle) = chosen_and_oracle(&choices).expect("nothing moved is a choice");
    let shown = |choice: &Choice| json!({"k": choice.k, "beta": choice.beta, "development": choice.development, "test": choice.test});
    let report = json!({
        "order": shift.order, "difference": shift.difference,
        "unmoved": shown(&choices[0]), "chosen": shown(&chosen),
        "best_on_test": shown(&oracle),
        "choices": choices.iter().map(shown).collect::<Vec<_>>(),
    });
    write_bytes_atomic(&args.out, report.to_string().as_bytes())?;
    output::print(&format!(
        "unmoved {:.1} % right; {} neurons, beta {}: {:.1} % (best on the test rows themselves {:.1} %)\n",
        100.0 * choices[0].test,
        chosen.k,
        chosen.beta,
        100.0 * chosen.test,
        100.0 * oracle.test,
    ))
}

fn head(args: &AdaptArgs, neurons: usize) -> Result<LinearHead> {
    let from = Tensor::parse("--weight", &args.weight)?;
    let (weight, _) = from.matrix(&WHOLE)?;
    if weight.columns() != neurons {
        let what = format!("reads {} neurons, the rows have {neurons}", weight.columns());
        return Err(Error::input(&from.path, what, "give the classifier of these rows"));
    }
    let bias = match &args.bias {
        None => vec![0.0; weight.rows()],
        Some(text) => {
            let from = Tensor::parse("--bias", text)?;
            let (bias, _): (Matrix, _) = from.matrix(&WHOLE)?;
            if (bias.rows(), bias.columns()) != (1, weight.rows()) {
                let what = format!("shape ({}, {})", bias.rows(), bias.columns());
                let remedy = format!("store it as (1, {}), one per class", weight.rows());
                return Err(Error::input(&from.path, what, remedy));
            }
            (0..weight.rows()).map(|class| bias.get(0, class)).collect()
        }
    };
    Ok(LinearHead { weight, bias })
}

fn sizes(args: &AdaptArgs, neurons: usize) -> Result<Vec<usize>> {
    if let Some(wrong) = args.sizes.iter().find(|&&k| k == 0 || k > neurons) {
        let remedy = format!("choose 1 to {neurons}");
        return Err(Error::config("--sizes", format!("{wrong} neurons"), remedy));
    }
    if let Some(wrong) = args.betas.iter().find(|beta| !(beta.is_finite() && **beta > 0.0)) {
        return Err(Error::config("--betas", format!("beta {wrong}"), "choose above 0"));
    }
    let doubled = std::iter::successors(Some(1), |k| Some(2 * k)).take_while(|k| *k < neurons);
    Ok(if args.sizes.is_empty() { doubled.chain([neurons]).collect() } else { args.sizes.clone() })
}

/// The rows that choose.
fn aside(args: &AdaptArgs, rows: usize) -> Result<Vec<usize>> {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share of rows")]
    let count = (args.development * rows as f64).round() as usize;
    if !(0.0..1.0).contains(&args.development) || count == 0 || count >= rows {
        let what = format!("a share of {} of {rows} rows", args.development);
        return Err(Error::config(
            "--development",
            what,
            "leave some rows to choose, some to test",
        ));
    }
    let mut order: Vec<usize> = (0..rows).collect();
    order.sort_by_key(|&row| mix(mix(args.seed ^ GAMMA) ^ (row as u64).wrapping_add(GAMMA)));
    order.truncate(count);
    Ok(order)
}
