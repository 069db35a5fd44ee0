//! Facts by the neurons they are attributed to (`edit-ece`, Zhang et al. 2025): facts whose attributions
//! point the same way are edited together.

use super::{Likeness, Tree};
use crate::methods::algebra::Dense;
use crate::rewrite::neurons::Neurons;

/// Where facts are cut into clusters unless told otherwise.
pub const FACT_DISTANCE: f64 = 0.5;

/// Clusters of facts by the cosine distance of their attributions, `[facts][neurons]`, joined by mean
/// distance up to `distance`. A fact without any attribution stays alone.
pub fn fact_clusters(attributions: &[Vec<f32>], distance: f64) -> Vec<Vec<usize>> {
    let dot = |a: &[f32], b: &[f32]| -> f64 {
        a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
    };
    let squares: Vec<f64> = attributions.iter().map(|of| dot(of, of)).collect();
    let cosine = |a: usize, b: usize| {
        let size = (squares[a] * squares[b]).sqrt();
        if size > 0.0 { dot(&attributions[a], &attributions[b]) / size } else { 0.0 }
    };
    let nothing: Vec<bool> = squares.iter().map(|square| *square == 0.0).collect();
    let cosines = Dense::symmetric(attributions.len(), cosine);
    Tree::new(&cosines, &nothing, Likeness::Signed).cut(distance).members().to_vec()
}

/// The neurons of a fact: those whose attribution reaches a share `threshold` of its largest over all
/// layers (Dai et al. 2022), at most the `most` largest, of equal ones the first. `attributions` are
/// `[L * width]`; those that are not positive never count.
pub fn fact_neurons(
    attributions: &[f32],
    width: usize,
    (threshold, most): (f32, usize),
) -> Neurons {
    let largest = attributions.iter().copied().fold(0.0_f32, f32::max);
    let mut order: Vec<usize> = (0..attributions.len())
        .filter(|&at| attributions[at] > 0.0 && attributions[at] >= threshold * largest)
        .collect();
    order.sort_by(|&a, &b| attributions[b].total_cmp(&attributions[a]).then(a.cmp(&b)));
    let mut neurons = Neurons::new();
    for at in order.into_iter().take(most) {
        neurons.entry(at / width).or_default().insert(at % width);
    }
    neurons
}
