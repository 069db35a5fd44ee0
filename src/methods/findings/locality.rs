//! `rep-locality`: whether few neurons carry a concept or many, by the mass |score| of each.

use super::layers::layer_ranges;

/// Gini's coefficient of magnitudes: 0 if all are equal, (N - 1) / N if one has everything. 0 without
/// mass.
pub fn gini(scores: &[f64]) -> f64 {
    let mut mass: Vec<f64> = scores.iter().map(|x| x.abs()).collect();
    mass.sort_by(f64::total_cmp);
    let (n, all) = (mass.len() as f64, mass.iter().sum::<f64>());
    if all <= 0.0 {
        return 0.0;
    }
    let weighted: f64 = (1..).zip(&mass).map(|(i, x)| (2.0 * f64::from(i) - n - 1.0) * x).sum();
    weighted / (n * all)
}

/// `-Σ q ln q` of magnitudes divided by their sum, in nats; 0 without mass.
pub fn entropy(scores: &[f64]) -> f64 {
    let all: f64 = scores.iter().map(|x| x.abs()).sum();
    if all <= 0.0 {
        return 0.0;
    }
    let shares = scores.iter().map(|x| x.abs() / all).filter(|q| *q > 0.0);
    shares.map(|q| -q * q.ln()).sum()
}

/// How many neurons of equal mass would have the same [`entropy`]: exp(H), 1..=N; 0 without mass.
pub fn effective_number(scores: &[f64]) -> f64 {
    let any = scores.iter().any(|x| *x != 0.0);
    if any { entropy(scores).exp() } else { 0.0 }
}

/// The entropy of the mass of layers, as a share of what L layers can have: 0 if one layer has
/// everything, 1 if all have the same. `sizes` are the layers' numbers of neurons, layer after layer.
pub fn layer_entropy(scores: &[f64], sizes: &[usize]) -> f64 {
    assert_eq!(scores.len(), sizes.iter().sum::<usize>(), "a layer for each neuron");
    let mass = |range: std::ops::Range<usize>| scores[range].iter().map(|x| x.abs()).sum();
    let by_layer: Vec<f64> = layer_ranges(sizes).into_iter().map(mass).collect();
    if sizes.len() > 1 { entropy(&by_layer) / (sizes.len() as f64).ln() } else { 0.0 }
}

/// `rep-redundancy`: how many neurons score at least `share` of the best one, as 0.95 of the best
/// average precision. 0 where the best is not positive.
pub fn near_best(scores: &[f64], share: f64) -> usize {
    let best = scores.iter().copied().fold(0.0, f64::max);
    if best > 0.0 { scores.iter().filter(|&&x| x >= share * best).count() } else { 0 }
}
