//! The hard concrete distribution: gates from 0 to 1 that reach both ends with some probability and
//! still have a gradient (Louizos et al. 2018, arXiv 1712.01312, equations 10 to 12). The constants are
//! those of DiffMask (De Cao et al. 2020, arXiv 2004.14992): its stretched interval ends at 1, so that
//! a gate of exactly 1 is a limit and 0 has a probability.

/// Temperature.
const BETA: f64 = 0.2;
/// Ends of the stretched interval.
const GAMMA: f64 = -0.2;
const ZETA: f64 = 1.0;

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

/// A gate of logit `a` at the draw `u`, 0 < u < 1, and its slope dz/da.
pub fn gate(a: f64, u: f64) -> (f64, f64) {
    let s = sigmoid((u.ln() - (1.0 - u).ln() + a) / BETA);
    let z = s * (ZETA - GAMMA) + GAMMA;
    if z > 0.0 { (z.min(1.0), (ZETA - GAMMA) * s * (1.0 - s) / BETA) } else { (0.0, 0.0) }
}

/// The gate in the middle of its distribution (u = 1/2).
pub fn middle(a: f64) -> f64 {
    gate(a, 0.5).0
}

/// The probability that a gate is not 0, and its slope.
pub fn open(a: f64) -> (f64, f64) {
    let p = sigmoid(a - BETA * (-GAMMA / ZETA).ln());
    (p, p * (1.0 - p))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Slopes against differences, the share of open gates against 100,000 evenly spread draws.
    #[test]
    fn gates_are_distributed_as_they_say() {
        for a in [-3.0, -0.5, 0.0, 0.7, 2.0, 5.0] {
            let step = 1e-6;
            for u in [0.05, 0.3, 0.5, 0.9] {
                let slope = (gate(a + step, u).0 - gate(a - step, u).0) / (2.0 * step);
                assert!((slope - gate(a, u).1).abs() < 1e-6, "{a} {u}");
            }
            let slope = (open(a + step).0 - open(a - step).0) / (2.0 * step);
            assert!((slope - open(a).1).abs() < 1e-6, "{a}");
            let draws = 100_000;
            let open_gates =
                (0..draws).filter(|i| gate(a, (f64::from(*i) + 0.5) / f64::from(draws)).0 > 0.0);
            let share = open_gates.count() as f64 / f64::from(draws);
            assert!((share - open(a).0).abs() < 1e-4, "{a}: {share} {}", open(a).0);
        }
        assert!(middle(5.0) > 0.99 && middle(-5.0) == 0.0);
    }
}
