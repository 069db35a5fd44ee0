//! Overlap of sets of neurons.

use crate::methods::algebra::Dense;

/// `|A ∩ B| / |A ∪ B|` of two ascending lists; 0 if both are empty.
pub fn jaccard(a: &[u32], b: &[u32]) -> f64 {
    let both = shared(a, b);
    let either = a.len() + b.len() - both;
    if either > 0 { both as f64 / either as f64 } else { 0.0 }
}

fn shared(a: &[u32], b: &[u32]) -> usize {
    debug_assert!(a.is_sorted() && b.is_sorted(), "ascending");
    let (mut i, mut j, mut both) = (0, 0, 0);
    while i < a.len() && j < b.len() {
        let (x, y) = (a[i], b[j]);
        both += usize::from(x == y);
        i += usize::from(x <= y);
        j += usize::from(y <= x);
    }
    both
}

/// [`jaccard`] of every two sets: of methods for one concept, of concepts for one method
/// (`rep-overlap`; of one size by [`Ranked::top`](super::Ranked::top), or as a method selected them).
pub fn jaccard_matrix(sets: &[Vec<u32>]) -> Dense {
    Dense::symmetric(sets.len(), |i, j| jaccard(&sets[i], &sets[j]))
}

/// The overlap of random sets of `size` out of `neurons`, about: `s / (2N - s)`.
pub fn chance_overlap(size: usize, neurons: usize) -> f64 {
    let (s, n) = (size as f64, neurons as f64);
    if size == 0 { 0.0 } else { s / (2.0 * n - s) }
}
