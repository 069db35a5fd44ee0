//! Rankings of one concept over the same neurons: how far sources and methods agree (`avgoverlap`,
//! `neuronvote`, `rank-stability`; across checkpoints of one model `rep-finetune`).

use std::collections::BTreeMap;

use super::Tables;
use super::source::{Order, Source};
use crate::artifact::comparison::{CorrelationRow, OverlapRow};
use crate::error::{Error, Result};
use crate::methods::agreement::{self, compatibility, stability};

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
        for order in &source.orders {
            let key = (order.label.clone(), order.concept.clone(), order.sites.clone());
            groups.entry(key).or_default().push(Member { source, order });
        }
    }
    for members in groups.values().filter(|members| members.len() > 1) {
        let group = Group::new(members);
        for (at, &size) in fitting(members, sizes)?.iter().enumerate() {
            group.pairs(size, at == 0, tables)?;
            group.judged(size, tables)?;
        }
    }
    Ok(())
}

/// The sizes that every ranking has; those asked for must be had.
fn fitting(members: &[Member<'_>], sizes: Option<&[usize]>) -> Result<Vec<usize>> {
    let shortest = members.iter().min_by_key(|member| member.order.order.len());
    let Some(shortest) = shortest else { return Ok(Vec::new()) };
    let most = shortest.order.order.len();
    match sizes {
        Some(asked) => match asked.iter().find(|size| **size > most) {
            Some(size) => {
                let Order { method, label, concept, .. } = shortest.order;
                let what = format!(
                    "'{method}' for {label} '{concept}' keeps {most} neurons, {size} are compared"
                );
                let remedy = "compare fewer with --sizes, or set output.keep = 0 in that run";
                Err(Error::input(&shortest.source.folder, what, remedy))
            }
            None => Ok(asked.to_vec()),
        },
        None => {
            let fit: Vec<usize> = SIZES.into_iter().filter(|size| *size <= most).collect();
            // Fewer than the smallest: as many as there are.
            Ok(if fit.is_empty() && most > 0 { vec![most] } else { fit })
        }
    }
}

/// Rankings of one concept over the same neurons.
struct Group<'a> {
    members: &'a [Member<'a>],
    names: Vec<String>,
    neurons: usize,
}

impl<'a> Group<'a> {
    fn new(members: &'a [Member<'a>]) -> Self {
        let name = |own: &Member<'_>| format!("{} of {}", own.order.method, own.source.folder);
        let names = members.iter().map(name).collect();
        Self { members, names, neurons: members[0].order.neurons() }
    }

    fn ranked(&self, at: usize) -> agreement::Ranked<'_> {
        self.members[at].order.ranked(&self.names[at])
    }

    /// Every two, with correlations of the whole lists if `whole`.
    fn pairs(&self, size: usize, whole: bool, tables: &mut Tables) -> Result<()> {
        let ranked: Vec<_> = (0..self.members.len()).map(|at| self.ranked(at)).collect();
        let found = stability(&ranked, size, self.neurons, PERSISTENCE)?;
        let mut tau = found.tau.iter();
        for a in 0..ranked.len() {
            for b in a + 1..ranked.len() {
                let (one, other) = (self.members[a], self.members[b]);
                let tau = tau.next().copied().flatten();
                let same_model = one.source.model_id() == other.source.model_id();
                tables.overlaps.push(OverlapRow {
                    source_b: other.source.name.clone(),
                    method_b: other.order.method.clone(),
                    same_model,
                    overlap: found.jaccard.at(a, b),
                    ..row(one, size, found.chance)
                });
                if whole {
                    tables.correlations.push(CorrelationRow {
                        label: one.order.label.clone(),
                        concept: one.order.concept.clone(),
                        sites: one.order.place(),
                        source_a: one.source.name.clone(),
                        method_a: one.order.method.clone(),
                        source_b: other.source.name.clone(),
                        method_b: other.order.method.clone(),
                        same_model,
                        tau,
                        rank_biased: found.rank_biased.at(a, b),
                    });
                }
            }
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
