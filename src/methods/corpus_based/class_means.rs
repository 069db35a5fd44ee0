//! Methods on class means and variances alone: `meandiff`, `probeless`, `selectivity`, `ccmas`,
//! `fstat`.

use crate::error::Result;
use crate::methods::evidence::{ClassStat, Evidence};
use crate::methods::rank::Context;
use crate::methods::ranking::{Score, Scores, sign};
use crate::methods::significance::{anova, welch};

/// One class against the rest, for every class.
fn one_against_rest(
    evidence: &Evidence,
    score: impl Fn(&ClassStat, &ClassStat) -> Score,
) -> Vec<Score> {
    let against = |g: usize| score(&evidence.classes[g], &evidence.rest(g));
    (0..evidence.classes.len()).map(against).collect()
}

fn difference(a: &ClassStat, b: &ClassStat) -> f64 {
    if a.n == 0 || b.n == 0 { 0.0 } else { a.mean - b.mean }
}

/// 0 where nothing can be divided.
fn ratio(a: f64, b: f64) -> f64 {
    if b > 0.0 { a / b } else { 0.0 }
}

/// What a difference without spread around it is capped to; as F in `fstat`.
const PERFECT: f64 = 1e30;

/// `meandiff`: mean with the concept minus mean without; with `std`, Cohen's d.
pub fn mean_difference(context: &Context<'_>, evidence: &Evidence) -> Result<Scores> {
    let (std, abs) = (context.call.flag("std"), context.call.flag("abs"));
    let constant = evidence.constant();
    let groups = one_against_rest(evidence, |class, rest| {
        let freedom = (class.count() + rest.count() - 2.0).max(1.0);
        let pooled = ((class.m2 + rest.m2) / freedom).sqrt();
        let raw = if constant { 0.0 } else { difference(class, rest) };
        let value = match (std, pooled > 0.0) {
            (false, _) => raw,
            (true, true) => raw / pooled,
            // The classes do not overlap at all: beyond every other neuron, and never infinite.
            (true, false) => PERFECT * f64::from(sign(raw)),
        };
        let p = Some(welch(class, rest));
        Score { score: if abs { value.abs() } else { value }, sign: sign(value), value, p }
    });
    Ok(Scores { groups, overall: None })
}

/// `probeless` (Antverg & Belinkov 2022): sum of distances between class means, of one class to
/// all others and over all unordered pairs. Sorting the means gives all sums in O(G log G).
///
/// p is that of the analysis of variance: both say by chance alone all class means are equal.
pub fn probeless(context: &Context<'_>, evidence: &Evidence) -> Result<Scores> {
    let seen: Vec<usize> =
        (0..evidence.classes.len()).filter(|&g| evidence.classes[g].n > 0).collect();
    let mut by_mean = seen;
    let mean = |g: usize| evidence.classes[g].mean;
    by_mean.sort_by(|&a, &b| mean(a).total_cmp(&mean(b)));
    let sum: f64 = by_mean.iter().map(|&g| mean(g)).sum();
    let sd = evidence.total.variance().sqrt();
    let unit = match (evidence.constant(), context.call.flag("std")) {
        (true, _) => 0.0,
        (false, true) => ratio(1.0, sd),
        (false, false) => 1.0,
    };
    let p = Some(anova(evidence.classes.iter()).p);
    let mut groups = vec![Score::unsigned(0.0, p); evidence.classes.len()];
    let (mut below, mut total) = (0.0, 0.0);
    for (i, &g) in by_mean.iter().enumerate() {
        let (lower, upper) = (i as f64, (by_mean.len() - 1 - i) as f64);
        let above = sum - below - mean(g);
        let distance = (lower * mean(g) - below) + (above - upper * mean(g));
        groups[g] = Score::unsigned(distance * unit, p);
        total += distance;
        below += mean(g);
    }
    // Each pair was counted from both of its ends.
    Ok(Scores { groups, overall: Some(Score::unsigned(total / 2.0 * unit, p)) })
}

/// `selectivity` (Na et al. 2019): difference of means over the range of the neuron, which with
/// `robust` is that between its 0.1 and 99.9 percentiles.
pub fn selectivity(context: &Context<'_>, evidence: &Evidence) -> Result<Scores> {
    let range = if context.call.flag("robust") {
        let at = |q| evidence.cells.quantile(q, None);
        at(0.999).zip(at(0.001)).map_or(0.0, |(high, low)| high - low)
    } else {
        evidence.total.max - evidence.total.min
    };
    let constant = evidence.constant();
    let groups = one_against_rest(evidence, |class, rest| {
        let raw = if constant { 0.0 } else { difference(class, rest) };
        Score::signed(ratio(raw, range), Some(welch(class, rest)))
    });
    Ok(Scores { groups, overall: None })
}

/// `ccmas` (Morcos et al. 2018): (mu - mu_rest) / (mu + mu_rest) for the class, and overall for
/// the class with the largest mean; mu_rest is the mean of the other classes' means. Defined for
/// non-negative activations; other neurons score 0.
pub fn class_selectivity(_: &Context<'_>, evidence: &Evidence) -> Result<Scores> {
    let defined = evidence.total.min >= 0.0 && !evidence.constant();
    let seen = || evidence.classes.iter().filter(|class| class.n > 0);
    let (count, sum) = (seen().count() as f64, seen().map(|class| class.mean).sum::<f64>());
    let index = |class: &ClassStat| {
        let rest = (sum - class.mean) / (count - 1.0).max(1.0);
        if defined && class.n > 0 { ratio(class.mean - rest, class.mean + rest) } else { 0.0 }
    };
    let groups = one_against_rest(evidence, |class, rest| {
        Score::signed(index(class), Some(welch(class, rest)))
    });
    let best = seen().max_by(|a, b| a.mean.total_cmp(&b.mean)).map_or(0.0, index);
    let p = Some(anova(evidence.classes.iter()).p);
    Ok(Scores { groups, overall: Some(Score::unsigned(best, p)) })
}

/// `fstat`: one-way analysis of variance, of one class against the rest and over all classes.
pub fn f_statistic(_: &Context<'_>, evidence: &Evidence) -> Result<Scores> {
    let constant = evidence.constant();
    let score = |classes: &[ClassStat]| {
        let anova = anova(classes.iter());
        Score::unsigned(if constant { 0.0 } else { anova.f }, Some(anova.p))
    };
    let groups = one_against_rest(evidence, |class, rest| score(&[*class, *rest]));
    Ok(Scores { groups, overall: Some(score(&evidence.classes)) })
}
