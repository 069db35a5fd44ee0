//! How likely a score is by chance alone: one analytic test per kind of statistic, and the
//! control of the false discovery rate over all neurons of a ranking.

use super::evidence::{ClassStat, Ranks};
use super::special::{beta_inc, erfc, gamma_q, ln_gamma};

/// Above this many degrees of freedom the middle of F is that of chi-square.
const MANY: f64 = 1e6;

/// P(F >= f) with `d1` and `d2` degrees of freedom.
pub fn f_tail(f: f64, d1: f64, d2: f64) -> f64 {
    if f.is_nan() || f <= 0.0 || d1 <= 0.0 || d2 <= 0.0 {
        return 1.0;
    }
    if f.is_infinite() {
        return 0.0;
    }
    if d2 > MANY && d1 * f < 50.0 {
        // The likelihood ratio of F with Bartlett's factor is chi-square to O(1/d2^2). Here the
        // fraction would need sqrt(d2) steps; further out it needs few.
        return chi_square_tail((d2 + d1 / 2.0 - 1.0) * (d1 * f / d2).ln_1p(), d1);
    }
    let all = d2 + d1 * f;
    beta_inc(d2 / 2.0, d1 / 2.0, d2 / all, d1 * f / all)
}

/// P(chi-square >= x) with `df` degrees of freedom.
pub fn chi_square_tail(x: f64, df: f64) -> f64 {
    if x.is_nan() || x <= 0.0 || df <= 0.0 {
        return 1.0;
    }
    gamma_q(df / 2.0, x / 2.0)
}

/// P(Z >= z) for a standard normal Z.
pub fn normal_tail(z: f64) -> f64 {
    erfc(z / std::f64::consts::SQRT_2) / 2.0
}

/// Two-sided p of Student's t.
pub fn t_two_sided(t: f64, df: f64) -> f64 {
    f_tail(t * t, 1.0, df)
}

/// Welch's test of equal means (Welch 1947); the pooled test when a side has one row only.
pub fn welch(a: &ClassStat, b: &ClassStat) -> f64 {
    let (n, m) = (a.count(), b.count());
    if a.n == 0 || b.n == 0 || a.n + b.n < 3 {
        return 1.0;
    }
    let difference = a.mean - b.mean;
    let (va, vb, df) = if a.n < 2 || b.n < 2 {
        let df = n + m - 2.0;
        let pooled = (a.m2 + b.m2) / df;
        (pooled / n, pooled / m, df)
    } else {
        let (va, vb) = (a.m2 / (n - 1.0) / n, b.m2 / (m - 1.0) / m);
        (va, vb, (va + vb).powi(2) / (va * va / (n - 1.0) + vb * vb / (m - 1.0)))
    };
    if va + vb > 0.0 {
        f_tail(difference * difference / (va + vb), 1.0, df)
    } else if difference == 0.0 {
        1.0
    } else {
        0.0
    }
}

/// p of a correlation over `n` pairs, by t with n - 2 degrees of freedom.
pub fn correlation(r: f64, n: f64) -> f64 {
    let left = 1.0 - r * r;
    if n < 3.0 {
        return 1.0;
    }
    if left <= 0.0 {
        return 0.0;
    }
    f_tail(r * r * (n - 2.0) / left, 1.0, n - 2.0)
}

/// F where classes differ and nothing varies inside them.
pub const CAPPED_F: f64 = 1e30;

/// What a one-way analysis of variance over classes says.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Anova {
    /// F, at most [`CAPPED_F`].
    pub f: f64,
    /// P(F or more) if all class means are equal.
    pub p: f64,
}

/// One-way analysis of variance.
pub fn anova<'a>(classes: impl Iterator<Item = &'a ClassStat> + Clone) -> Anova {
    let mut total = ClassStat::default();
    let (mut within, mut groups) = (0.0, 0.0);
    for class in classes.clone().filter(|class| class.n > 0) {
        total.merge(class);
        within += class.m2;
        groups += 1.0;
    }
    let square = |class: &ClassStat| class.count() * (class.mean - total.mean).powi(2);
    let between: f64 = classes.map(square).sum();
    let (d1, d2) = (groups - 1.0, total.count() - groups);
    if d1 < 1.0 || d2 < 1.0 || between <= 0.0 {
        return Anova { f: 0.0, p: 1.0 };
    }
    let f = (between / d1 / (within / d2)).min(CAPPED_F);
    Anova { f, p: f_tail(f, d1, d2) }
}

/// z of the Mann-Whitney test of one class against the rest, variance corrected for ties.
pub fn mann_whitney_z(ranks: &Ranks, class: usize, n_class: f64) -> f64 {
    let (n, m) = (n_class, ranks.n - n_class);
    let expected = n * (ranks.n + 1.0) / 2.0;
    let variance = n * m / (ranks.n * (ranks.n - 1.0)) * ranks.m2();
    if variance > 0.0 { (ranks.sums[class] - expected) / variance.sqrt() } else { 0.0 }
}

/// P(overlap >= k) when `drawn` of `all` rows fire at random and `marked` carry the concept.
pub fn overlap_tail(k: u64, drawn: u64, marked: u64, all: u64) -> f64 {
    let (drawn_, marked_, all_) = (drawn as f64, marked as f64, all as f64);
    if k + all <= drawn + marked || k == 0 {
        return 1.0;
    }
    let mean = drawn_ * marked_ / all_;
    let spread = mean * (1.0 - marked_ / all_) * (all_ - drawn_) / (all_ - 1.0).max(1.0);
    if spread > 1e4 {
        // Hundreds of rows of spread: the normal with half a row of continuity.
        return normal_tail((k as f64 - 0.5 - mean) / spread.sqrt()).min(1.0);
    }
    // The longer tail is one minus the shorter, so that the shorter keeps its digits.
    if (k as f64) > mean {
        tail_sum(k, drawn.min(marked), |i| mass(i, drawn, marked, all), 1)
    } else {
        let least = (drawn + marked).saturating_sub(all);
        1.0 - tail_sum(k - 1, least, |i| mass(i, drawn, marked, all), -1)
    }
    .clamp(0.0, 1.0)
}

/// ln of the hypergeometric probability.
fn mass(i: u64, drawn: u64, marked: u64, all: u64) -> f64 {
    choose(marked, i) + choose(all - marked, drawn - i) - choose(all, drawn)
}

fn choose(n: u64, k: u64) -> f64 {
    let ln_factorial = |n: u64| ln_gamma(n as f64 + 1.0);
    ln_factorial(n) - ln_factorial(k) - ln_factorial(n - k)
}

/// Sum of masses from `start` towards `end`, away from the mode.
fn tail_sum(start: u64, end: u64, ln_mass: impl Fn(u64) -> f64, step: i64) -> f64 {
    let mut sum = 0.0;
    let mut i = start;
    loop {
        let term = ln_mass(i).exp();
        sum += term;
        if i == end || term <= sum * 1e-17 {
            return sum;
        }
        i = i.saturating_add_signed(step);
    }
}

/// False discovery rate at which each p would be called (Benjamini & Hochberg 1995), in the
/// order of `p`.
pub fn benjamini_hochberg(p: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..p.len()).collect();
    order.sort_by(|&a, &b| p[a].total_cmp(&p[b]));
    let mut q = vec![1.0; p.len()];
    let mut least = 1.0_f64;
    for (rank, &i) in order.iter().enumerate().rev() {
        // The factor first: it is at least 1, so that rounding cannot take q below p.
        least = least.min(p[i] * (p.len() as f64 / (rank + 1) as f64));
        q[i] = least;
    }
    q
}
