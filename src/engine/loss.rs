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

impl Targets<'_> {
    /// What is scored at each position (or row of sequence classes), none where nothing is; or none
    /// where the head or the labels for it are missing.
    ///
    /// Causal language models: the next token, at the token before it. Others: the label at the
    /// position; ELECTRA's discriminator has the labels 0 and 1.
    pub fn of(&self, spec: &ModelSpec) -> Option<Vec<Option<i64>>> {
        let next = |t: usize| {
            let last = (t + 1).is_multiple_of(self.length);
            let scored = !last && self.attention_mask[t] * self.attention_mask[t + 1] == 1;
            scored.then(|| self.input_ids[t + 1])
        };
        let label = |known: fn(&i64) -> bool| {
            Some(self.labels?.iter().map(|&label| Some(label).filter(known)).collect())
        };
        match spec.head {
            HeadSpec::None => None,
            HeadSpec::Lm { .. } if spec.attention.causal => {
                Some((0..self.input_ids.len()).map(next).collect())
            }
            HeadSpec::Discriminator { .. } => label(|label| (0..=1).contains(label)),
            _ => label(|label| *label >= 0),
        }
    }
}

/// Loss at each position, 0 where nothing is scored; or none, see [`Targets::of`]: -log p(target), or
/// sigmoid cross-entropy of a discriminator.
pub fn losses(spec: &ModelSpec, logits: &[f32], targets: Targets<'_>) -> Option<Vec<f32>> {
    let targets = targets.of(spec)?;
    let yes_or_no = matches!(spec.head, HeadSpec::Discriminator { .. });
    let loss = |(t, target): (usize, &Option<i64>)| match target {
        None => 0.0,
        Some(label) if yes_or_no => bce(logits[t], *label),
        Some(target) => nll(logits, targets.len(), t, *target),
    };
    Some(targets.iter().enumerate().map(loss).collect())
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

/// `-log softmax(logits of row t)[target]`.
fn nll(logits: &[f32], rows: usize, t: usize, target: i64) -> f32 {
    let width = logits.len() / rows;
    let row = &logits[t * width..][..width];
    let chosen = usize::try_from(target).ok().and_then(|target| row.get(target));
    let Some(&chosen) = chosen else { return f32::NAN };
    let max = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = row.iter().map(|&logit| f64::from(logit - max).exp()).sum();
    #[expect(clippy::cast_possible_truncation, reason = "the output is f32")]
    {
        (sum.ln() + f64::from(max) - f64::from(chosen)) as f32
    }
}

/// log(1 + e^x) - label * x, without overflow.
fn bce(logit: f32, label: i64) -> f32 {
    let x = f64::from(logit);
    #[expect(clippy::cast_precision_loss, reason = "0 or 1")]
    let y = label as f64;
    #[expect(clippy::cast_possible_truncation, reason = "the output is f32")]
    {
        (x.max(0.0) - x * y + (-x.abs()).exp().ln_1p()) as f32
    }
}
