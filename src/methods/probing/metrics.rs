//! How good scores are at telling rows with a concept from rows without (`sparse`; Gurnee et al. 2023,
//! `metrics.py`, but average precision from scores and not from decisions).

use crate::methods::corpus_based::average_precision::average_precision;
use crate::methods::dual::auc;
use crate::methods::evidence::Cells;

/// What scores above 0 decide, and how they order rows. A ratio without anything to divide by is 0.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Metrics {
    /// Share of right decisions.
    pub accuracy: f64,
    /// Of the rows called positive, those that are.
    pub precision: f64,
    /// Of the positive rows, those called so.
    pub recall: f64,
    /// Harmonic mean of precision and recall.
    pub f1: f64,
    /// Matthews' correlation of decisions and labels.
    pub mcc: f64,
    /// Average precision; equal scores enter together.
    pub pr_auc: f64,
    /// Area under the ROC curve; equal scores count half.
    pub roc_auc: f64,
}

/// Metrics of scores; none without rows of both kinds, or where a score is not a number.
pub fn metrics(scores: &[f64], labels: &[bool]) -> Option<Metrics> {
    if scores.iter().any(|score| score.is_nan()) {
        return None;
    }
    let roc_auc = auc(scores, labels)?;
    let count = |said: bool, is: bool| {
        let pairs = scores.iter().zip(labels);
        pairs.filter(|&(score, &label)| (*score > 0.0) == said && label == is).count() as f64
    };
    let (tp, fp, r#fn, tn) =
        (count(true, true), count(true, false), count(false, true), count(false, false));
    let ratio = |a: f64, b: f64| if b > 0.0 { a / b } else { 0.0 };
    let mut pairs: Vec<(f64, u32)> =
        scores.iter().zip(labels).map(|(&score, &label)| (score, u32::from(label))).collect();
    let precisions =
        average_precision(&Cells::from_values(&mut pairs), &[fp + tn, tp + r#fn], true);
    Some(Metrics {
        accuracy: ratio(tp + tn, scores.len() as f64),
        precision: ratio(tp, tp + fp),
        recall: ratio(tp, tp + r#fn),
        f1: ratio(2.0 * tp, 2.0 * tp + fp + r#fn),
        mcc: ratio(tp * tn - fp * r#fn, ((tp + fp) * (tp + r#fn) * (tn + fp) * (tn + r#fn)).sqrt()),
        pr_auc: precisions[1],
        roc_auc,
    })
}
