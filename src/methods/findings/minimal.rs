//! `rep-minset`: how few neurons, or layers, do as well as all of them. Of layers it is `layer-select`,
//! of neurons the last step of `feat-select` (Dalvi et al. 2020).

/// Shares of all neurons that feature selection tries: 0.1 to 0.5 %, 1 to 10 %, then in steps of 5 and 10.
pub const FEATURE_SHARES: [f64; 27] = [
    0.001, 0.002, 0.003, 0.004, 0.005, 0.01, 0.02, 0.03, 0.04, 0.05, 0.06, 0.07, 0.08, 0.09, 0.1,
    0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.6, 0.7, 0.8, 0.9,
];

/// The smallest k of a curve of (k, score), in any order, whose score is at least `(1 - delta) * full`,
/// with that score. None if none is. The curve need not rise: the first that reaches it counts, though
/// larger ones may fall short again.
pub fn smallest_reaching(curve: &[(usize, f64)], full: f64, delta: f64) -> Option<(usize, f64)> {
    let enough = curve.iter().filter(|(_, score)| *score >= (1.0 - delta) * full);
    enough.min_by_key(|(k, _)| *k).copied()
}
