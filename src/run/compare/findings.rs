//! What each source's rankings say of its model as a whole (`rep-layers`, `rep-locality`,
//! `rep-redundancy`, `rep-polysemy`, `rep-overlap`), in a form in which models of other depths and widths
//! can stand beside it (`rep-xarch`).

use std::collections::BTreeMap;

use super::Tables;
use super::agree::SIZES;
use super::source::{Order, Source, layer_of};
use crate::artifact::comparison::{
    ConceptPairRow, LocalityRow, PolysemyRow, ProbedLayerRow, ProfileRow,
};
use crate::error::Result;
use crate::methods::agreement::sets::{chance_overlap, jaccard_matrix};
use crate::methods::findings::{
    LayerShare, concepts_per_neuron, effective_number, gini, layer_entropy, layer_shares,
    near_best, neurons_by_concepts,
};

/// Share of the neurons that count as top, unless another is asked for.
pub(super) const SHARE: f64 = 0.01;
/// Share of the best score that counts as near it.
const NEAR: f64 = 0.95;
/// Labels of more concepts, as word types, have too many pairs for a table.
const MOST_CONCEPTS: usize = 400;
/// Share of resamples that an interval holds.
const LEVEL: f64 = 0.95;

/// Fills everything that is said of one source at a time.
pub(super) fn findings(
    sources: &[Source],
    (sizes, share): (Option<&[usize]>, f64),
    tables: &mut Tables,
) -> Result<()> {
    let mut alike: Alike<'_> = BTreeMap::new();
    for order in sources.iter().flat_map(|source| &source.orders) {
        alike.entry(key(order)).or_default().push(order);
    }
    for source in sources {
        for order in &source.orders {
            let shares = shares(&alike[&key(order)], order, share)?;
            if let Some(shares) = &shares {
                tables.profiles.extend(profile(source, order, shares));
            }
            tables.locality.push(locality(source, order, shares.as_deref()));
        }
        let mut done: Vec<(&str, &str, String)> = Vec::new();
        for order in &source.orders {
            let this = (order.method.as_str(), order.label.as_str(), order.place());
            if order.concept != "*" && !done.contains(&this) {
                concepts(source, order, sizes.unwrap_or(&SIZES), tables)?;
                done.push(this);
            }
        }
        tables.layers.extend(layers(source));
    }
    tables.layers.sort_by(|a, b| a.label.cmp(&b.label));
    Ok(())
}

/// What a ranking is of, and by which method.
type Key<'a> = (&'a str, &'a str, &'a str, &'a [(String, usize)]);

/// Rankings of the same by the same method, whoever's they are.
type Alike<'a> = BTreeMap<Key<'a>, Vec<&'a Order>>;

fn key(order: &Order) -> Key<'_> {
    (&order.method, &order.label, &order.concept, &order.sites)
}

/// How many of the top neurons each site has; none if there is one site, or the table does not keep all
/// of the top. The interval is over those that are `alike`.
fn shares(alike: &[&Order], order: &Order, share: f64) -> Result<Option<Vec<LayerShare>>> {
    let sizes: Vec<usize> = order.sites.iter().map(|(_, neurons)| *neurons).collect();
    let size = ((order.neurons() as f64 * share).round() as usize).max(1);
    let kept = |order: &Order| order.order.len() >= size;
    if sizes.len() < 2 || !kept(order) {
        return Ok(None);
    }
    let again: Vec<_> =
        alike.iter().filter(|other| kept(other)).map(|other| other.ranked(&other.method)).collect();
    layer_shares((&order.ranked(&order.method), &again), &sizes, share, LEVEL).map(Some)
}

fn profile<'a>(
    source: &'a Source,
    order: &'a Order,
    shares: &'a [LayerShare],
) -> impl Iterator<Item = ProfileRow> + 'a {
    order.sites.iter().zip(shares).map(|((site, _), share)| {
        let layer = layer_of(site);
        ProfileRow {
            source: source.name.clone(),
            model: source.manifest.model.path.clone(),
            method: order.method.clone(),
            label: order.label.clone(),
            concept: order.concept.clone(),
            site: site.clone(),
            layer,
            depth: source.depth(layer),
            neurons: signed(share.neurons),
            top: signed(share.top),
            share: share.share,
            low: share.low,
            high: share.high,
        }
    })
}

fn locality(source: &Source, order: &Order, shares: Option<&[LayerShare]>) -> LocalityRow {
    let mut mass = vec![0.0; order.neurons()];
    for (neuron, score) in order.order.iter().zip(&order.scores) {
        mass[*neuron as usize] = *score;
    }
    let sizes: Vec<usize> = order.sites.iter().map(|(_, neurons)| *neurons).collect();
    let whole = order.whole();
    LocalityRow {
        source: source.name.clone(),
        model: source.manifest.model.path.clone(),
        method: order.method.clone(),
        label: order.label.clone(),
        concept: order.concept.clone(),
        neurons: signed(order.neurons()),
        ranked: signed(order.order.len()),
        gini: whole.then(|| gini(&mass)),
        effective: whole.then(|| effective_number(&mass)),
        layer_entropy: (whole && sizes.len() > 1).then(|| layer_entropy(&mass, &sizes)),
        near_best: signed(near_best(&order.scores, NEAR)),
        depth: shares.and_then(|shares| mean_depth(source, order, shares)),
    }
}

/// Of the top neurons that have a layer.
fn mean_depth(source: &Source, order: &Order, shares: &[LayerShare]) -> Option<f64> {
    let (mut sum, mut count) = (0.0, 0.0);
    for ((site, _), share) in order.sites.iter().zip(shares) {
        if let Some(depth) = source.depth(layer_of(site)) {
            sum += depth * share.top as f64;
            count += share.top as f64;
        }
    }
    (count > 0.0).then(|| sum / count)
}

/// The concepts of a label against each other, by the method and over the sites of one of them.
fn concepts(source: &Source, like: &Order, sizes: &[usize], tables: &mut Tables) -> Result<()> {
    let same = |order: &&Order| {
        order.method == like.method
            && order.label == like.label
            && order.sites == like.sites
            && order.concept != "*"
    };
    let own: Vec<&Order> = source.orders.iter().filter(same).collect();
    let most = own.iter().map(|order| order.order.len()).min().unwrap_or(0);
    if own.len() < 2 {
        return Ok(());
    }
    if own.len() > MOST_CONCEPTS {
        tracing::warn!(source = source.name, label = like.label, "too many concepts for all pairs");
        return Ok(());
    }
    for &size in sizes.iter().filter(|size| **size <= most) {
        let tops: Vec<Vec<u32>> =
            own.iter().map(|order| order.ranked(&order.method).top(size)).collect::<Result<_>>()?;
        let overlap = jaccard_matrix(&tops);
        for a in 0..own.len() {
            for b in a + 1..own.len() {
                tables.concepts.push(ConceptPairRow {
                    source: source.name.clone(),
                    method: like.method.clone(),
                    sites: like.place(),
                    label: like.label.clone(),
                    concept_a: own[a].concept.clone(),
                    concept_b: own[b].concept.clone(),
                    size: signed(size),
                    overlap: overlap.at(a, b),
                    chance: chance_overlap(size, like.neurons()),
                });
            }
        }
        let counts = neurons_by_concepts(&concepts_per_neuron(&tops, like.neurons()));
        tables.polysemy.extend((0..).zip(counts).map(|(concepts, neurons)| PolysemyRow {
            source: source.name.clone(),
            method: like.method.clone(),
            sites: like.place(),
            label: like.label.clone(),
            size: signed(size),
            concepts,
            neurons: signed(neurons),
        }));
    }
    Ok(())
}

/// The probed layers.
fn layers(source: &Source) -> impl Iterator<Item = ProbedLayerRow> + '_ {
    source.layers.iter().map(|row| ProbedLayerRow {
        label: row.label.clone(),
        source: source.name.clone(),
        model: source.manifest.model.path.clone(),
        site: row.site.clone(),
        layer: row.layer,
        depth: source.depth(row.layer),
        n: row.n,
        accuracy: row.accuracy,
        low: row.low,
        high: row.high,
        selectivity: row.selectivity,
        information: row.information,
        first: row.first,
    })
}

fn signed(n: usize) -> i32 {
    i32::try_from(n).unwrap_or(i32::MAX)
}
