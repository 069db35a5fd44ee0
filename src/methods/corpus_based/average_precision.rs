//! Methods on the order of a neuron's values: `ap`, `ap2`, `auroc`, and `iou-neurox`, which is
//! average precision under another name.

use crate::error::Result;
use crate::methods::evidence::{Cells, Evidence};
use crate::methods::rank::Context;
use crate::methods::ranking::{Score, Scores, sign};
use crate::methods::significance::{mann_whitney_z, normal_tail};

/// What NeuroX sets to 0 before it computes average precision.
const NEUROX_FLOOR: f64 = 0.05;

/// Average precision of every class at once: sum over distinct thresholds of (R_i - R_{i-1}) P_i,
/// from the largest value down, or from the smallest up. Ties enter together.
pub fn average_precision(cells: &Cells, sizes: &[f64], from_top: bool) -> Vec<f64> {
    let mut found = vec![0.0; sizes.len()];
    let mut result = vec![0.0; sizes.len()];
    let mut seen = 0.0;
    for step in 0..cells.len() {
        let entries = cells.entries(if from_top { cells.len() - 1 - step } else { step });
        for &(class, count) in entries {
            found[class as usize] += f64::from(count);
            seen += f64::from(count);
        }
        for &(class, count) in entries {
            let class = class as usize;
            result[class] += f64::from(count) / sizes[class] * found[class] / seen;
        }
    }
    result
}

/// Average precision of "not the class" by large values, for every class.
fn complement_precision(cells: &Cells, sizes: &[f64]) -> Vec<f64> {
    let n: f64 = sizes.iter().sum();
    let mut found = vec![0.0; sizes.len()];
    let mut result = vec![0.0; sizes.len()];
    let mut here = vec![0.0; sizes.len()];
    let mut seen = 0.0;
    for cell in (0..cells.len()).rev() {
        here.fill(0.0);
        for &(class, count) in cells.entries(cell) {
            here[class as usize] += f64::from(count);
        }
        let k: f64 = here.iter().sum();
        seen += k;
        for class in 0..sizes.len() {
            found[class] += here[class];
            let outside = (n - sizes[class]).max(1.0);
            result[class] += (k - here[class]) / outside * (seen - found[class]) / seen;
        }
    }
    result
}

fn sizes(evidence: &Evidence) -> Vec<f64> {
    evidence.classes.iter().map(|class| class.count()).collect()
}

/// z of Mann-Whitney by class: the test behind all methods of this file.
fn z_by_class(cells: &Cells, sizes: &[f64]) -> Vec<f64> {
    let ranks = cells.ranks(sizes.len());
    (0..sizes.len()).map(|class| mann_whitney_z(&ranks, class, sizes[class])).collect()
}

fn one_sided(cells: &Cells, sizes: &[f64]) -> Vec<Score> {
    let z = z_by_class(cells, sizes);
    let ap = average_precision(cells, sizes, true);
    let score = |(value, z): (f64, f64)| Score {
        score: value,
        sign: sign(z),
        value,
        p: Some(normal_tail(z).min(1.0)),
    };
    ap.into_iter().zip(z).map(score).collect()
}

/// `ap` (Suau et al. 2020): average precision of the neuron as a detector of the class.
///
/// p is the one-sided Mann-Whitney test: both ask whether the class has the larger values.
pub fn precision(_: &Context<'_>, evidence: &Evidence) -> Result<Scores> {
    Ok(Scores { groups: one_sided(&evidence.cells, &sizes(evidence)), overall: None })
}

/// `ap2` (Zhang et al. 2023): the better of two directions.
///
/// By default that of x and that of -x, which stays fair when classes are unequal. With
/// `complement`, the paper's max(AP(y), AP(1 - y)): under rare classes AP(1 - y) is close to 1
/// for every neuron.
pub fn predictivity(context: &Context<'_>, evidence: &Evidence) -> Result<Scores> {
    let (cells, sizes) = (&evidence.cells, sizes(evidence));
    let up = average_precision(cells, &sizes, true);
    let down = if context.call.flag("complement") {
        complement_precision(cells, &sizes)
    } else {
        average_precision(cells, &sizes, false)
    };
    let z = z_by_class(cells, &sizes);
    let score = |class: usize| {
        let value = up[class].max(down[class]);
        let sign = if evidence.constant() { 0 } else { sign(up[class] - down[class]) };
        Score { score: value, sign, value, p: Some((2.0 * normal_tail(z[class].abs())).min(1.0)) }
    };
    Ok(Scores { groups: (0..sizes.len()).map(score).collect(), overall: None })
}

/// `auroc`: P(x+ > x-) + P(x+ = x-)/2; ranked by its distance from 1/2.
pub fn auroc(_: &Context<'_>, evidence: &Evidence) -> Result<Scores> {
    let sizes = sizes(evidence);
    let ranks = evidence.cells.ranks(sizes.len());
    let score = |class: usize| {
        let (n, m) = (sizes[class], ranks.n - sizes[class]);
        let above = ranks.sums[class] - n * (n + 1.0) / 2.0;
        let value = if n > 0.0 && m > 0.0 { above / (n * m) } else { 0.5 };
        let z = mann_whitney_z(&ranks, class, n);
        let p = Some((2.0 * normal_tail(z.abs())).min(1.0));
        Score { score: (value - 0.5).abs(), sign: sign(value - 0.5), value, p }
    };
    Ok(Scores { groups: (0..sizes.len()).map(score).collect(), overall: None })
}

/// `iou-neurox`: what NeuroX's `iou_probe.py` computes, average precision after |x| < 0.05 is
/// set to 0. For comparison with published results only.
pub fn neurox(context: &Context<'_>, evidence: &Evidence) -> Result<Scores> {
    if !context.design.exact {
        return Err(context.call.needs_a_matrix());
    }
    let flat = evidence.cells.flattened(NEUROX_FLOOR);
    Ok(Scores { groups: one_sided(&flat, &sizes(evidence)), overall: None })
}
