//! `rep-polysemy`: how many concepts a neuron has.

use crate::error::Result;
use crate::methods::agreement::Ranked;

/// The best `size` neurons of a concept, ascending, without those whose value (`values`, by neuron: an
/// average precision, an IoU) is below `floor`: a top exists where nothing was found, too.
pub fn top_with_floor(
    ranking: &Ranked,
    size: usize,
    values: &[f64],
    floor: f64,
) -> Result<Vec<u32>> {
    ranking.check(values.len())?;
    let mut top = ranking.top(size)?;
    top.retain(|&neuron| values[neuron as usize] >= floor);
    Ok(top)
}

/// In how many of the sets each of `neurons` neurons stands, `[N]`. Sets name a neuron once, and none
/// beyond N.
pub fn concepts_per_neuron(sets: &[Vec<u32>], neurons: usize) -> Vec<u32> {
    let mut counts = vec![0; neurons];
    for neuron in sets.iter().flatten() {
        counts[*neuron as usize] += 1;
    }
    counts
}

/// How many neurons have 0, 1, 2 .. concepts, up to the most that one has: to hold against the same of
/// shuffled labels.
pub fn neurons_by_concepts(concepts: &[u32]) -> Vec<usize> {
    let most = concepts.iter().max().map_or(0, |most| *most as usize + 1);
    let mut counts = vec![0; most];
    concepts.iter().for_each(|&n| counts[n as usize] += 1);
    counts
}
