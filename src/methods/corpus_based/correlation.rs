//! `corr`: correlation of a neuron with a class (0/1), or with the number a class stands for.

use crate::error::Result;
use crate::methods::evidence::Evidence;
use crate::methods::rank::Context;
use crate::methods::ranking::{Score, Scores};
use crate::methods::significance::correlation as p_of;

/// What is correlated: the values or their ranks, as means by class and one sum of squares.
struct Sums {
    counts: Vec<f64>,
    means: Vec<f64>,
    mean: f64,
    m2: f64,
    n: f64,
}

impl Sums {
    fn of_values(evidence: &Evidence) -> Self {
        Self {
            counts: evidence.classes.iter().map(|class| class.count()).collect(),
            means: evidence.classes.iter().map(|class| class.mean).collect(),
            mean: evidence.total.mean,
            m2: evidence.total.m2,
            n: evidence.total.count(),
        }
    }

    fn of_ranks(evidence: &Evidence) -> Self {
        let ranks = evidence.cells.ranks(evidence.classes.len());
        let counts: Vec<f64> = evidence.classes.iter().map(|class| class.count()).collect();
        let mean = |(sum, n): (&f64, &f64)| if *n > 0.0 { sum / n } else { 0.0 };
        Self {
            means: ranks.sums.iter().zip(&counts).map(mean).collect(),
            mean: (ranks.n + 1.0) / 2.0,
            m2: ranks.m2(),
            n: ranks.n,
            counts,
        }
    }

    /// r with y = 1 in the class and 0 outside.
    fn with_class(&self, class: usize) -> f64 {
        let (n, rest) = (self.counts[class], self.n - self.counts[class]);
        let scale = n * self.n / (rest * self.m2);
        let r = (self.means[class] - self.mean) * scale.sqrt();
        if n > 0.0 && rest > 0.0 && self.m2 > 0.0 { r.clamp(-1.0, 1.0) } else { 0.0 }
    }

    /// r with y = `numbers[class]`.
    fn with_numbers(&self, numbers: &[f64]) -> f64 {
        let weighted = numbers.iter().zip(&self.counts);
        let centre = weighted.clone().map(|(y, n)| y * n).sum::<f64>() / self.n;
        let spread: f64 = weighted.clone().map(|(y, n)| n * (y - centre).powi(2)).sum();
        let joint: f64 =
            weighted.zip(&self.means).map(|((y, n), m)| n * (y - centre) * (m - self.mean)).sum();
        let scale = (spread * self.m2).sqrt();
        if scale > 0.0 { (joint / scale).clamp(-1.0, 1.0) } else { 0.0 }
    }
}

/// Mid-ranks of class numbers, each class with as many rows as it has.
fn ranked(numbers: &[f64], counts: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..numbers.len()).collect();
    order.sort_by(|&a, &b| numbers[a].total_cmp(&numbers[b]));
    let mut ranks = vec![0.0; numbers.len()];
    let mut seen = 0.0;
    for tie in order.chunk_by(|&a, &b| numbers[a] == numbers[b]) {
        let n: f64 = tie.iter().map(|&class| counts[class]).sum();
        for &class in tie {
            ranks[class] = seen + (n + 1.0) / 2.0;
        }
        seen += n;
    }
    ranks
}

/// `corr`: Pearson's r, or Spearman's on mid-ranks; by class, and overall with the numbers that
/// the classes stand for.
pub fn correlation(context: &Context<'_>, evidence: &Evidence) -> Result<Scores> {
    let spearman = context.call.flag("spearman");
    let sums = if spearman { Sums::of_ranks(evidence) } else { Sums::of_values(evidence) };
    let constant = evidence.constant();
    let score = |r: f64| {
        let r = if constant { 0.0 } else { r };
        Score::signed(r, Some(p_of(r, sums.n)))
    };
    let groups = (0..evidence.classes.len()).map(|class| score(sums.with_class(class))).collect();
    let numbers = if context.design.numeric || context.call.flag("numeric") {
        Some(context.design.numbers().ok_or_else(|| {
            context.call.wrong(
                &format!("not every class of '{}' is a number", context.design.label),
                "leave out numeric, or label the rows with numbers",
            )
        })?)
    } else {
        None
    };
    let overall = numbers.map(|numbers| {
        let y = if spearman { ranked(&numbers, &sums.counts) } else { numbers };
        score(sums.with_numbers(&y))
    });
    Ok(Scores { groups, overall })
}
