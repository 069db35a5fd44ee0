//! How few neurons carry what a counterfactual prompt changes: the ranking of `patch`, patched
//! cumulatively (Vig et al. 2020, arXiv 2004.12265, section 3; neurons are added in the order of their
//! own effects and never taken back).

use std::collections::BTreeMap;

use super::judge::id;
use super::passes::Passes;
use super::ranking::{Place, Ranking};
use super::resolve::Chosen;
use crate::accumulate::effects::Spread;
use crate::artifact::mediators::MediatorRow;
use crate::device::suffix_ops::SuffixOps;
use crate::engine::fleet::Device;
use crate::error::Result;
use crate::stimulate::arms::NeuronSet;
use crate::stimulate::mediation::Mediation;
use crate::stimulate::neurons::Neurons;

/// Sizes that are tried at once between one that is too small and one that is enough.
const AT_ONCE: usize = 16;

/// The curves of every `patch` of the experiment that asks for a share.
pub(super) fn mediators<O: SuffixOps + Device>(
    passes: &mut Passes<'_, O>,
    rankings: &[Ranking],
) -> Result<Vec<MediatorRow>> {
    let experiment = passes.experiment;
    let mut rows = Vec::new();
    for (at, chosen) in experiment.methods.iter().enumerate() {
        let Some((share, none)) = chosen.mediation(experiment.neurons.kind) else { continue };
        let name = chosen.call.to_string();
        let whole = |ranking: &&Ranking| ranking.group == 0 && ranking.method == name;
        let ranking = rankings.iter().find(whole).expect("one of all questions");
        rows.extend(curve(passes, (at, chosen), ranking, (share, none))?);
    }
    Ok(rows)
}

/// One curve: sizes that double, then those between the last that is too small and the first that is
/// enough, until these are neighbours.
fn curve<O: SuffixOps + Device>(
    passes: &mut Passes<'_, O>,
    (at, chosen): (usize, &Chosen),
    ranking: &Ranking,
    (share, none): (f64, Mediation),
) -> Result<Vec<MediatorRow>> {
    let neurons = &passes.experiment.neurons;
    let total = passes.mediated(&format!("mediators-{at}"), &none)?[0];
    if total.mean == 0.0 || !total.mean.is_finite() {
        return Ok(Vec::new());
    }
    let order = towards(ranking, total.mean);
    let mut tried: BTreeMap<usize, Spread> = BTreeMap::new();
    let mut sizes = doubling(order.len());
    while !sizes.is_empty() {
        let sets = sizes.iter().map(|&size| set(neurons, &order[..size])).collect();
        let name = format!("mediators-{at}-{}", tried.len());
        let found = passes.mediated(&name, &Mediation { sets, ..none.clone() })?;
        tried.extend(sizes.into_iter().zip(found.into_iter().skip(1)));
        let reached: BTreeMap<usize, bool> =
            tried.iter().map(|(size, one)| (*size, one.mean / total.mean >= share)).collect();
        sizes = between(&reached);
    }
    let enough = |of: &&Spread| of.mean / total.mean >= share;
    let smallest = tried.iter().find(|(_, of)| enough(of)).map(|(size, _)| *size);
    let row = |(&size, of): (&usize, &Spread)| {
        let smallest = smallest == Some(size);
        let members = order[..if smallest { size } else { 0 }].iter();
        MediatorRow {
            method: chosen.call.to_string(),
            size: i32::try_from(size).unwrap_or(i32::MAX),
            n: i64::try_from(of.n).unwrap_or(i64::MAX),
            effect: of.mean,
            error: of.error,
            total: total.mean,
            recovered: of.mean / total.mean,
            smallest,
            neurons: members.map(|&place| id(neurons, place)).collect(),
        }
    };
    Ok(tried.iter().map(row).collect())
}

/// The neurons, those first whose own effect goes furthest the way of the total.
fn towards(ranking: &Ranking, total: f64) -> Vec<Place> {
    let effect = |of: &super::ranking::Ranked| of.spread.mean * total.signum();
    let mut order: Vec<_> = ranking.neurons.iter().collect();
    order.sort_by(|a, b| effect(b).total_cmp(&effect(a)).then(a.place.cmp(&b.place)));
    order.into_iter().map(|neuron| neuron.place).collect()
}

fn set(neurons: &Neurons, places: &[Place]) -> NeuronSet {
    let mut set = NeuronSet::new();
    for &(layer, column) in places {
        set.entry(neurons.layers[layer]).or_default().push(column);
    }
    set.values_mut().for_each(|columns| columns.sort_unstable());
    set
}

/// 1, 2, 4 and so on, and all.
fn doubling(count: usize) -> Vec<usize> {
    let doubled = std::iter::successors(Some(1), |size| Some(2 * size));
    let mut sizes: Vec<usize> = doubled.take_while(|size| *size < count).collect();
    sizes.extend((count > 0).then_some(count));
    sizes
}

/// Sizes to be tried next, ascending: none where the smallest that is enough has a neighbour that is
/// not, or where no size is enough.
fn between(reached: &BTreeMap<usize, bool>) -> Vec<usize> {
    let Some(enough) = reached.iter().find(|(_, is)| **is).map(|(size, _)| *size) else {
        return Vec::new();
    };
    let less = reached.range(..enough).next_back().map_or(0, |(size, _)| *size);
    let gap = enough - less - 1;
    let count = gap.min(AT_ONCE);
    (1..=count).map(|i| less + i * (gap + 1) / (count + 1)).collect()
}

#[cfg(test)]
mod tests {
    //! Oracle: trying every size.
    use super::*;

    #[test]
    fn every_threshold_is_found() {
        for count in [1, 2, 3, 17, 1000] {
            for smallest in 1..=count + 1 {
                let mut reached = BTreeMap::new();
                let (mut sizes, mut rounds) = (doubling(count), 0);
                while !sizes.is_empty() {
                    assert!(sizes.windows(2).all(|pair| pair[0] < pair[1]), "{sizes:?}");
                    assert!(sizes.iter().all(|size| (1..=count).contains(size)), "{sizes:?}");
                    reached.extend(sizes.iter().map(|size| (*size, *size >= smallest)));
                    sizes = between(&reached);
                    rounds += 1;
                }
                let found = reached.iter().find(|(_, is)| **is).map(|(size, _)| *size);
                assert_eq!(found, (smallest <= count).then_some(smallest));
                assert!(smallest == 1 || found.is_none() || !reached[&(smallest - 1)]);
                assert!(rounds <= 4, "{count}: {rounds}");
            }
        }
    }
}
