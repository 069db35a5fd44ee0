//! Losses of a batch from its logits, in f64: one number per scored position.

use crate::error::{Error, Result};
use crate::model::{HeadSpec, ModelSpec};

/// What a loss is taken against, on the padded grid `[B, S]` (or `[B]` for sequence classes).
#[derive(Clone, Copy, Debug)]
pub struct Targets<'a> {
    /// Token ids, `[B, S]`.
    pub input_ids: &'a [i64],
    /// 1 = real token, `[B, S]`.
    pub attention_mask: &'a [i64],
    /// -100 = not scored; not needed by causal language models.
    pub labels: Option<&'a [i64]>,
    /// S.
    pub length: usize,
}

/// Loss at each position, or none where the head or the labels for it are missing.
///
/// Causal language models: -log p(next token), stored at the token before it. Others: cross-entropy
/// with the label at the position; ELECTRA's discriminator: sigmoid cross-entropy.
pub fn losses(spec: &ModelSpec, logits: &[f32], targets: Targets<'_>) -> Option<Vec<f32>> {
    let positions = targets.input_ids.len();
    match spec.head {
        HeadSpec::None => None,
        HeadSpec::Lm { .. } if spec.attention.causal => {
            let next = |t: usize| {
                let last = (t + 1).is_multiple_of(targets.length);
                let scored =
                    !last && targets.attention_mask[t] * targets.attention_mask[t + 1] == 1;
                scored.then(|| targets.input_ids[t + 1])
            };
            Some((0..positions).map(|t| nll(logits, positions, t, next(t))).collect())
        }
        HeadSpec::Discriminator { .. } => {
            let labels = targets.labels?;
            Some(logits.iter().zip(labels).map(|(&logit, &label)| bce(logit, label)).collect())
        }
        _ => {
            let labels = targets.labels?;
            let label = |t: usize| (labels[t] >= 0).then_some(labels[t]);
            Some((0..labels.len()).map(|t| nll(logits, labels.len(), t, label(t))).collect())
        }
    }
}

/// Refuses labels that do not fit the logits: `scored` of them, each a class or negative. Causal
/// language models read none.
pub fn check_labels(spec: &ModelSpec, labels: &[i64], scored: usize, classes: usize) -> Result<()> {
    if matches!(spec.head, HeadSpec::None) || spec.attention.causal {
        return Ok(());
    }
    if labels.len() != scored {
        let what = format!("{} labels, the model's head scores {scored}", labels.len());
        let remedy = "give one a token, or one a row for sequence classes";
        return Err(Error::config("labels", what, remedy));
    }
    // A discriminator has one logit, for yes or no.
    let classes = classes.max(2);
    match labels.iter().position(|&l| usize::try_from(l).is_ok_and(|label| label >= classes)) {
        None => Ok(()),
        Some(at) => Err(Error::config(
            format!("labels, entry {at}"),
            format!("{} is out of range", labels[at]),
            format!("labels are 0 to {}, or -100 for what is not scored", classes - 1),
        )),
    }
}

/// `-log softmax(logits of row t)[target]`; 0 where there is no target.
fn nll(logits: &[f32], rows: usize, t: usize, target: Option<i64>) -> f32 {
    let width = logits.len() / rows;
    let row = &logits[t * width..][..width];
    let Some(target) = target.and_then(|target| usize::try_from(target).ok()) else { return 0.0 };
    let Some(&chosen) = row.get(target) else { return f32::NAN };
    let max = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = row.iter().map(|&logit| f64::from(logit - max).exp()).sum();
    #[expect(clippy::cast_possible_truncation, reason = "the output is f32")]
    {
        (sum.ln() + f64::from(max) - f64::from(chosen)) as f32
    }
}

/// log(1 + e^x) - label * x, without overflow; 0 where the label is not 0 or 1.
fn bce(logit: f32, label: i64) -> f32 {
    if !(0..=1).contains(&label) {
        return 0.0;
    }
    let x = f64::from(logit);
    #[expect(clippy::cast_precision_loss, reason = "0 or 1")]
    let y = label as f64;
    #[expect(clippy::cast_possible_truncation, reason = "the output is f32")]
    {
        (x.max(0.0) - x * y + (-x.abs()).exp().ln_1p()) as f32
    }
}
