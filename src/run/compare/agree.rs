//! Rankings of one concept over the same neurons: how far sources and methods agree (`avgoverlap`,
//! `neuronvote`, `rank-stability`; across checkpoints of one model `rep-finetune`).

use std::collections::BTreeMap;

use super::Tables;
use super::source::{Order, Source};
use crate::artifact::comparison::{CorrelationRow, OverlapRow};
use crate::error::{Error, Result};
use crate::methods::agreement::{self, Stability, compatibility, stability};

/// Sizes of tops that are compared, unless others are asked for.
pub(super) const SIZES: [usize; 3] = [10, 50, 100];
/// Probability of reading on of rank-biased overlap.
const PERSISTENCE: f64 = 0.9;

/// A ranking and whose it is.
#[derive(Clone, Copy)]
struct Member<'a> {
    source: &'a Source,
    order: &'a Order,
}

/// What two rankings must share to be compared.
type Key = (String, String, Vec<(String, usize)>);

/// Fills overlaps and correlations. `sizes` are those asked for; a ranking that keeps fewer neurons is
/// then an error.
pub(super) fn agree(
    sources: &[Source],
    sizes: Option<&[usize]>,
    tables: &mut Tables,
) -> Result<()> {
    let mut groups: BTreeMap<Key, Vec<Member<'_>>> = BTreeMap::new();
    for source in sources {
        for order in source.orders.iter().filter(|order| !order.order.is_empty()) {
            let key = (order.label.clone(), order.concept.clone(), order.sites.clone());
            groups.entry(key).or_default().push(Member { source, order });
        }
    }
    for members in groups.into_values().filter(|members| members.len() > 1) {
        for size in fitting(&members, sizes)? {
            let long = members.iter().copied().filter(|own| own.order.order.len() >= size);
            let group = Group::new(long.collect());
            group.overlaps(size, tables)?;
            group.judged(size, tables)?;
        }
        Group::new(members).correlations(tables)?;
    }
    Ok(())
}

/// The sizes that two rankings at least have; those asked for must be had by all.
fn fitting(members: &[Member<'_>], sizes: Option<&[usize]>) -> Result<Vec<usize>> {
    let Some(asked) = sizes else {
        let mut kept: Vec<usize> = members.iter().map(|own| own.order.order.len()).collect();
        kept.sort_unstable_by(|a, b| b.cmp(a));
        let most = kept.get(1).copied().unwrap_or(0);
        let fit: Vec<usize> = SIZES.into_iter().filter(|size| *size <= most).collect();
        // Fewer than the smallest: as many as there are.
        return Ok(if fit.is_empty() && most > 0 { vec![most] } else { fit });
    };
    for Member { source, order } in members {
        let kept = order.order.len();
        if let Some(size) = asked.iter().find(|size| **size > kept) {
            let Order { method, label, concept, .. } = order;
            let what = format!(
                "'{method}' for {label} '{concept}' keeps {kept} neurons, {size} are compared"
            );
            let remedy = "compare fewer with --sizes, or set output.keep = 0 in that run";
            return Err(Error::input(&source.folder, what, remedy));
        }
    }
    Ok(asked.to_vec())
}

/// Rankings of one concept over the same neurons.
struct Group<'a> {
    members: Vec<Member<'a>>,
    names: Vec<String>,
    neurons: usize,
}

impl<'a> Group<'a> {
    fn new(members: Vec<Member<'a>>) -> Self {
        let name = |own: &Member<'_>| format!("{} of {}", own.order.method, own.source.folder);
        let names = members.iter().map(name).collect();
        let neurons = members.first().map_or(0, |first| first.order.neurons());
        Self { members, names, neurons }
    }

    fn ranked(&self, at: usize) -> agreement::Ranked<'_> {
        self.members[at].order.ranked(&self.names[at])
    }

    /// Every two rankings.
    fn stability(&self, size: usize) -> Result<Stability> {
        let ranked: Vec<_> = (0..self.members.len()).map(|at| self.ranked(at)).collect();
        stability(&ranked, size, self.neurons, PERSISTENCE)
    }

    /// Places of every two, in the order of [`Stability::tau`].
    fn pairs(&self) -> impl Iterator<Item = (usize, usize)> {
        let count = self.members.len();
        (0..count).flat_map(move |a| (a + 1..count).map(move |b| (a, b)))
    }

    /// Tops of every two.
    fn overlaps(&self, size: usize, tables: &mut Tables) -> Result<()> {
        let found = self.stability(size)?;
        for (a, b) in self.pairs() {
            let (one, other) = (self.members[a], self.members[b]);
            tables.overlaps.push(OverlapRow {
                source_b: other.source.name.clone(),
                method_b: other.order.method.clone(),
                same_model: one.source.model_id() == other.source.model_id(),
                overlap: found.jaccard.at(a, b),
                ..row(one, size, found.chance)
            });
        }
        Ok(())
    }

    /// Whole lists of every two.
    fn correlations(&self, tables: &mut Tables) -> Result<()> {
        let found = self.stability(1)?;
        for ((a, b), tau) in self.pairs().zip(&found.tau) {
            let (one, other) = (self.members[a], self.members[b]);
            tables.correlations.push(CorrelationRow {
                label: one.order.label.clone(),
                concept: one.order.concept.clone(),
                sites: one.order.place(),
                source_a: one.source.name.clone(),
                method_a: one.order.method.clone(),
                source_b: other.source.name.clone(),
                method_b: other.order.method.clone(),
                same_model: one.source.model_id() == other.source.model_id(),
                tau: *tau,
                rank_biased: found.rank_biased.at(a, b),
            });
        }
        Ok(())
    }

    /// AvgOverlap, NeuronVote and families, among the rankings of each model.
    fn judged(&self, size: usize, tables: &mut Tables) -> Result<()> {
        let mut models: BTreeMap<String, Vec<usize>> = BTreeMap::new();
        for (at, member) in self.members.iter().enumerate() {
            models.entry(member.source.model_id()).or_default().push(at);
        }
        for own in models.values() {
            let ranked: Vec<_> = own.iter().map(|&at| self.ranked(at)).collect();
            if ranked.iter().filter(|ranked| ranked.judges).count() < 2 {
                continue;
            }
            let found = compatibility(&ranked, size, self.neurons)?;
            for (at, &member) in own.iter().enumerate() {
                let mut add = |method_b: String, overlap: f64| {
                    tables.overlaps.push(OverlapRow {
                        source_b: "*".to_owned(),
                        method_b,
                        same_model: true,
                        overlap,
                        ..row(self.members[member], size, found.chance)
                    });
                };
                add("*".to_owned(), found.average_overlap[at]);
                add("vote".to_owned(), found.neuron_vote[at]);
                for (family, overlap) in found.families.iter().zip(&found.by_family[at]) {
                    if let Some(overlap) = overlap {
                        add(format!("family:{family}"), *overlap);
                    }
                }
            }
        }
        Ok(())
    }
}

/// What a row says of its first ranking.
fn row(member: Member<'_>, size: usize, chance: f64) -> OverlapRow {
    OverlapRow {
        label: member.order.label.clone(),
        concept: member.order.concept.clone(),
        sites: member.order.place(),
        source_a: member.source.name.clone(),
        method_a: member.order.method.clone(),
        size: i32::try_from(size).unwrap_or(i32::MAX),
        chance,
        ..OverlapRow::default()
    }
}
