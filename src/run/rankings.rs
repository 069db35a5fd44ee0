//! Every method over every label column, as rows of `rankings.parquet`.

use std::collections::BTreeSet;

use super::prepare::Prepared;
use super::statistics_tables::{all_neurons, place, signed};
use crate::accumulate::summary::SiteSummary;
use crate::artifact::rows::{RankingRow, TopWordRow};
use crate::error::Result;
use crate::id::NeuronId;
use crate::methods::ranking::WordScore;
use crate::methods::registry::Family;
use crate::methods::{Explanation, GroupRanking, MethodCall, Ranking, SummarySource, rank};

/// What all methods said.
#[derive(Default)]
pub(super) struct Ranked {
    rows: Vec<RankingRow>,
    /// Neurons that get a page: the best of each ranking.
    pub(super) shown: BTreeSet<NeuronId>,
    /// Dropped classes, approximations.
    pub(super) notes: Vec<String>,
    /// Of `topword`, one list per neuron.
    words: Vec<WordLists>,
}

/// What `topword` said over one label column.
struct WordLists {
    method: String,
    label: String,
    classes: Vec<String>,
    lists: Vec<Vec<WordScore>>,
}

impl Ranked {
    pub(super) fn rows(&self) -> impl Iterator<Item = RankingRow> + '_ {
        self.rows.iter().cloned()
    }

    /// The words of every shown neuron; none if `topword` did not run.
    pub(super) fn top_words<'a>(
        &'a self,
        neurons: &'a [NeuronId],
    ) -> impl Iterator<Item = TopWordRow> + 'a {
        self.words.iter().flat_map(move |words| {
            let shown = neurons.iter().zip(&words.lists);
            let shown = shown.filter(|(neuron, _)| self.shown.contains(neuron));
            shown.flat_map(move |(neuron, list)| {
                list.iter().map(move |word| words.row(*neuron, word))
            })
        })
    }

    /// Whether any word list was made.
    pub(super) fn has_words(&self) -> bool {
        !self.words.is_empty()
    }
}

/// Runs every method that ranks by labels; the others (`topctx`, `viz`) are what
/// `contexts.parquet` and the pages of neurons are made from.
pub(super) fn rank_all(prepared: &Prepared, summaries: &[SiteSummary]) -> Result<Ranked> {
    let neurons = all_neurons(summaries);
    let mut ranked = Ranked::default();
    let labels = &prepared.plan.labels;
    let mut failed = None;
    for column in 0..labels.columns.len() {
        let source = SummarySource::new(summaries, &neurons, labels, column)?;
        for call in prepared.methods.iter().filter(|call| call.needs_labels()) {
            let label = &labels.columns[column].name;
            let ranking = match rank(call, &source) {
                Ok(ranking) => ranking,
                // The pass is behind us: what one method cannot do must not cost the others.
                Err(error) => {
                    tracing::warn!(%error, column = label, "a ranking is left out");
                    ranked.notes.push(format!("{label}, {call}: left out: {error}"));
                    failed.get_or_insert(error);
                    continue;
                }
            };
            for note in &ranking.notes {
                let note = format!("{label}, {}: {note}", ranking.method);
                if !ranked.notes.contains(&note) {
                    ranked.notes.push(note);
                }
            }
            if let Explanation::Words(lists) = &ranking.explanation {
                ranked.words.push(WordLists {
                    method: call.to_string(),
                    label: label.clone(),
                    classes: labels.columns[column].classes.clone(),
                    lists: lists.clone(),
                });
            }
            let table = Table { prepared, neurons: &neurons, call, ranking: &ranking, label };
            table.add(&mut ranked);
        }
    }
    match failed {
        Some(error) if ranked.rows.is_empty() && !ranked.has_words() => Err(error),
        _ => Ok(ranked),
    }
}

impl WordLists {
    fn row(&self, neuron: NeuronId, word: &WordScore) -> TopWordRow {
        let (site, layer) = place(neuron.site);
        TopWordRow {
            method: self.method.clone(),
            label: self.label.clone(),
            site,
            layer,
            neuron: i32::try_from(neuron.index).expect("columns are counted in i32"),
            word: self.classes[word.class as usize].clone(),
            score: word.score,
            signed: word.signed,
            n: signed(word.n),
        }
    }
}

/// One method over one column.
struct Table<'a> {
    prepared: &'a Prepared,
    neurons: &'a [NeuronId],
    call: &'a MethodCall,
    ranking: &'a Ranking,
    label: &'a str,
}

impl Table<'_> {
    fn add(&self, ranked: &mut Ranked) {
        let groups = self.ranking.groups.iter().map(|group| (group.name.as_str(), group));
        let overall = self.ranking.overall.iter().map(|overall| ("*", overall));
        for (concept, group) in overall.chain(groups) {
            let kept = self.kept(group);
            if self.call.method.family != Family::Baseline {
                let pages = kept.iter().take(self.prepared.config.output.pages);
                ranked.shown.extend(pages.map(|&at| self.neurons[group.order[at] as usize]));
            }
            ranked.rows.extend(kept.into_iter().map(|at| self.row(concept, group, at)));
        }
    }

    /// Places in the ranking that the table keeps: the best overall, and the best of each site.
    fn kept(&self, group: &GroupRanking) -> Vec<usize> {
        let keep = self.prepared.config.output.keep;
        if let Some(selected) = &group.selected {
            let chosen: BTreeSet<u32> = selected.iter().copied().collect();
            return (0..group.order.len())
                .filter(|&at| chosen.contains(&group.order[at]))
                .collect();
        }
        if keep == 0 {
            return (0..group.order.len()).collect();
        }
        let mut seen = std::collections::BTreeMap::new();
        let mut kept = Vec::new();
        for (at, &neuron) in group.order.iter().enumerate() {
            let of_site = seen.entry(self.neurons[neuron as usize].site).or_insert(0);
            *of_site += 1;
            if at < keep || *of_site <= keep {
                kept.push(at);
            }
        }
        kept
    }

    fn row(&self, concept: &str, group: &GroupRanking, at: usize) -> RankingRow {
        let id = self.neurons[group.order[at] as usize];
        let (site, layer) = place(id.site);
        RankingRow {
            method: self.ranking.method.clone(),
            label: self.label.to_owned(),
            concept: concept.to_owned(),
            site,
            layer,
            neuron: i32::try_from(id.index).expect("columns are counted in i32"),
            rank: i32::try_from(at + 1).expect("neurons are counted in i32"),
            score: group.scores[at],
            sign: group.signs[at],
            n: signed(self.ranking.n),
            n_concept: signed(group.n),
            p_value: group.p.get(at).copied(),
            q_value: group.q.get(at).copied(),
        }
    }
}
