//! How far the rankings of a site agree, and how their importance is spread.

use super::measured::SiteResults;
use super::rankings::{Ranked, by_seed};
use crate::artifact::probing::{AgreementRow, SpreadRow};
use crate::error::Result;
use crate::methods::agreement::{self, compatibility, stability};
use crate::methods::findings::{effective_number, gini};

/// Neurons of each seed's ranking that are compared.
const TOP: usize = 50;
/// What others are compared with, and what judges nobody.
const RANDOM: &str = "random";
/// Weight of the next place in rank-biased overlap; only the overlaps of the tops are read here.
const PERSISTENCE: f64 = 0.9;

/// Rows of `agreement.parquet`.
pub(super) fn agreement(site: &SiteResults<'_>, rankings: &[Ranked]) -> Result<Vec<AgreementRow>> {
    let mut rows = Vec::new();
    for (label, concept) in concepts(rankings) {
        let of = rankings.iter().filter(|own| own.label == label && own.concept == concept);
        let own: Vec<agreement::Ranked<'_>> = of.map(borrowed).collect();
        let judges = own.iter().filter(|ranking| ranking.judges).count();
        if judges < 2 {
            continue;
        }
        for &size in site.config.judge.overlap.iter().filter(|size| **size <= site.place.width) {
            let found = compatibility(&own, size, site.place.width)?;
            let row = |method: &str, other: &str, overlap: f64| AgreementRow {
                site: site.place.name.clone(),
                layer: site.place.layer,
                label: site.tasks.labels[label].title(),
                concept: concept.to_owned(),
                method: method.to_owned(),
                other: other.to_owned(),
                size: i32::try_from(size).expect("columns are few"),
                overlap,
                chance: found.chance,
            };
            for (a, first) in own.iter().enumerate() {
                rows.push(row(first.name, "*", found.average_overlap[a]));
                rows.push(row(first.name, "vote", found.neuron_vote[a]));
                for (b, second) in own.iter().enumerate().filter(|(b, _)| *b != a) {
                    rows.push(row(first.name, second.name, found.overlap.at(a, b)));
                }
            }
        }
    }
    Ok(rows)
}

/// Rows of `spread.parquet`.
pub(super) fn spread(site: &SiteResults<'_>, rankings: &[Ranked]) -> Result<Vec<SpreadRow>> {
    let mut rows = Vec::new();
    for own in rankings.iter().filter(|own| own.mass) {
        let mass: Vec<f64> = own.ranking.scores.iter().map(|score| score.abs()).collect();
        rows.push(SpreadRow {
            site: site.place.name.clone(),
            layer: site.place.layer,
            label: site.tasks.labels[own.label].title(),
            concept: own.concept.clone(),
            method: own.method.clone(),
            gini: gini(&mass),
            effective: effective_number(&mass),
            half: half(&mass),
            stability: None,
        });
    }
    for label in 0..site.tasks.labels.len() {
        if let Some(row) = seeds(site, (label, rankings))? {
            rows.push(row);
        }
    }
    Ok(rows)
}

/// The joint order of the chosen penalty over its seeds; none with one seed.
fn seeds(
    site: &SiteResults<'_>,
    (label, rankings): (usize, &[Ranked]),
) -> Result<Option<SpreadRow>> {
    let orders = by_seed(site, label);
    let own = rankings.iter().find(|own| {
        own.label == label && own.judged && own.family == "linear" && own.concept == "*"
    });
    let (Some(own), true) = (own, orders.len() > 1) else { return Ok(None) };
    let list: Vec<agreement::Ranked<'_>> = orders
        .iter()
        .map(|order| agreement::Ranked {
            name: &own.method,
            order,
            judges: true,
            ..Default::default()
        })
        .collect();
    let top = TOP.min(site.place.width);
    let found = stability(&list, top, site.place.width, PERSISTENCE)?;
    let mass: Vec<f64> = own.ranking.values.iter().map(|share| share.abs()).collect();
    Ok(Some(SpreadRow {
        site: site.place.name.clone(),
        layer: site.place.layer,
        label: site.tasks.labels[label].title(),
        concept: "*".to_owned(),
        method: own.method.clone(),
        gini: gini(&mass),
        effective: effective_number(&mass),
        half: half(&mass),
        stability: Some(agreement::Stability::mean(&found.jaccard)),
    }))
}

/// How many of the largest hold half of all.
fn half(mass: &[f64]) -> i32 {
    let mut all = mass.to_vec();
    all.sort_by(|a, b| b.total_cmp(a));
    let wanted: f64 = all.iter().sum::<f64>() / 2.0;
    let mut sum = 0.0;
    let place = all.iter().position(|own| {
        sum += own;
        sum >= wanted
    });
    place.map_or(0, |at| i32::try_from(at + 1).expect("columns are few"))
}

/// Labels and concepts that something is ranked for, each once.
fn concepts(rankings: &[Ranked]) -> Vec<(usize, &str)> {
    let mut found: Vec<(usize, &str)> = Vec::new();
    for own in rankings {
        let this = (own.label, own.concept.as_str());
        if !found.contains(&this) {
            found.push(this);
        }
    }
    found
}

fn borrowed(own: &Ranked) -> agreement::Ranked<'_> {
    agreement::Ranked {
        name: &own.method,
        family: own.family,
        judges: own.family != RANDOM,
        order: &own.ranking.order,
        scores: &[],
    }
}
