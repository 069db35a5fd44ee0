//! Rows of `contexts.parquet`: where each neuron is most and least active, with the words around,
//! and for the neurons that get a page their activation on each of those words.
//!
//! The text is read from the corpus again, a few documents at a time.

use std::collections::{BTreeMap, BTreeSet};

use super::document_units::{Units, Window};
use super::prepare::Prepared;
use super::statistics_tables::{place, signed};
use crate::accumulate::summary::SiteSummary;
use crate::artifact::rows::ContextRow;
use crate::capture::collect::Collector;
use crate::config::Pool;
use crate::corpus::batch::pack;
use crate::corpus::block::{Row, Sequence};
use crate::corpus::labels::LabelIndex;
use crate::corpus::stream::{documents, tokenize_documents};
use crate::device::forward::{Forward, ForwardInput, SiteWork};
use crate::device::ops::Ops;
use crate::device::statistics::TopTokens;
use crate::error::Result;
use crate::id::{NeuronId, RowId, Site};

/// Documents held at a time.
const DOCUMENTS: usize = 256;

/// One entry of a neuron's list.
struct Hit {
    neuron: NeuronId,
    bottom: bool,
    rank: i32,
    value: f32,
    row: RowId,
    traced: bool,
}

/// All contexts, neuron by neuron, best first.
pub(super) fn contexts<O: Ops>(
    prepared: &Prepared,
    summaries: &[SiteSummary],
    shown: &BTreeSet<NeuronId>,
    forward: &mut Forward<O>,
) -> Result<Vec<ContextRow>> {
    let hits = hits(summaries, shown);
    let mut by_document: BTreeMap<u64, Vec<usize>> = BTreeMap::new();
    for (i, hit) in hits.iter().enumerate() {
        by_document.entry(hit.row.document()).or_default().push(i);
    }
    let mut rows: Vec<Option<ContextRow>> = hits.iter().map(|_| None).collect();
    let labels = LabelIndex::new(&prepared.plan.labels, &prepared.config.concepts);
    let numbers: Vec<u64> = by_document.keys().copied().collect();
    for chunk in numbers.chunks(DOCUMENTS) {
        let wanted: BTreeSet<u64> = chunk.iter().copied().collect();
        let found = documents(&prepared.plan, &prepared.config.corpus, &wanted)?;
        let (sequences, _) =
            tokenize_documents(&found, &prepared.tokenizer, &labels, &prepared.rules)?;
        let mut windows = BTreeMap::new();
        for document in &found {
            let own: Vec<Sequence> = sequences
                .iter()
                .filter(|sequence| sequence.document == document.ordinal)
                .cloned()
                .collect();
            let units = Units::new(prepared, document, &own)?;
            for &i in &by_document[&document.ordinal] {
                let hit = &hits[i];
                let window = units.window(hit.row.place(), prepared.config.output.window);
                rows[i] = Some(row(hit, units.sentence(hit.row.place()), &window));
                windows.insert(i, window);
            }
        }
        trace(prepared, (&hits, &windows), &sequences, forward, &mut rows)?;
    }
    Ok(rows.into_iter().flatten().collect())
}

/// Every entry of every list, neuron by neuron.
fn hits(summaries: &[SiteSummary], shown: &BTreeSet<NeuronId>) -> Vec<Hit> {
    let mut hits = Vec::new();
    for summary in summaries {
        for index in 0..u32::try_from(summary.neurons).expect("columns are counted in u32") {
            let neuron = NeuronId { site: summary.site, index };
            let traced = shown.contains(&neuron);
            for (list, bottom) in [(&summary.top, false), (&summary.bottom, true)] {
                let entries = entries(list, index as usize);
                hits.extend(entries.zip(1..).map(|((value, row), rank)| Hit {
                    neuron,
                    bottom,
                    rank,
                    value,
                    row,
                    traced,
                }));
            }
        }
    }
    hits
}

fn entries(list: &TopTokens, neuron: usize) -> impl Iterator<Item = (f32, RowId)> + '_ {
    let len = list.len.get(neuron).map_or(0, |len| *len as usize);
    (0..len).map(move |i| (list.values[neuron * list.k + i], list.rows[neuron * list.k + i]))
}

fn row(hit: &Hit, sentence: u32, window: &Window) -> ContextRow {
    let (site, layer) = place(hit.neuron.site);
    // Neurons without a page keep the word alone; its text stands once in the corpus.
    let whole = hit.traced || window.words.len() <= 1;
    let words = if whole { &window.words[..] } else { &window.words[window.focus..=window.focus] };
    ContextRow {
        site,
        layer,
        neuron: i32::try_from(hit.neuron.index).expect("columns are counted in i32"),
        side: if hit.bottom { "bottom" } else { "top" }.to_owned(),
        rank: hit.rank,
        value: hit.value,
        document: signed(hit.row.document()),
        sentence: i32::try_from(sentence).expect("sentences are counted in i32"),
        place: signed(hit.row.place()),
        focus: i32::try_from(if whole { window.focus } else { 0 }).expect("windows are short"),
        words: words.to_vec(),
        activations: Vec::new(),
    }
}

/// Runs the sentences of traced hits again and fills in the activations of their windows.
fn trace<O: Ops>(
    prepared: &Prepared,
    (hits, windows): (&[Hit], &BTreeMap<usize, Window>),
    sequences: &[Sequence],
    forward: &mut Forward<O>,
    rows: &mut [Option<ContextRow>],
) -> Result<()> {
    // Which windows ask for the value of each row: (hit, position in its window).
    let mut asked: BTreeMap<RowId, Vec<(usize, usize)>> = BTreeMap::new();
    for (&i, window) in windows.iter().filter(|(i, _)| hits[**i].traced) {
        for (at, &place) in window.places.iter().enumerate() {
            let id = RowId::new(hits[i].row.document(), place);
            asked.entry(id).or_default().push((i, at));
        }
        if let Some(row) = &mut rows[i] {
            row.activations = vec![f32::NAN; window.places.len()];
        }
    }
    let needed: Vec<Sequence> = sequences
        .iter()
        .filter(|sequence| sequence.rows.iter().any(|row| asked.contains_key(&row.id)))
        .cloned()
        .collect();
    let wanted: BTreeSet<Site> =
        windows.keys().filter(|i| hits[**i].traced).map(|i| hits[*i].neuron.site).collect();
    let mut collector = Collector::default();
    let budget = prepared.batch_tokens().min(forward.limits().tokens);
    for batch in pack(&needed, budget) {
        let edits = BTreeMap::new();
        let mut work = SiteWork { wanted: &wanted, edits: &edits, visitor: &mut collector };
        forward.run(ForwardInput::of(&batch), &mut work)?;
        for at in 0..batch.rows() {
            let run = Row {
                id: batch.row_ids[at],
                first: batch.row_first[at],
                len: batch.row_len[at],
                groups: Vec::new(),
            };
            for &(i, position) in asked.get(&run.id).into_iter().flatten() {
                let id = hits[i].neuron;
                let width = forward.spec().site_width(id.site);
                let value =
                    pooled(prepared.rules.pool, &collector.sites[&id.site], width, (&run, id));
                if let Some(row) = &mut rows[i] {
                    row.activations[position] = value;
                }
            }
        }
    }
    Ok(())
}

/// One neuron's value on one row, pooled as in the pass.
fn pooled(pool: Pool, values: &[f32], width: usize, (row, id): (&Row, NeuronId)) -> f32 {
    let tokens = row.first as usize..(row.first + row.len) as usize;
    let of_tokens = tokens.map(|token| values[token * width + id.index as usize]);
    match pool {
        Pool::Mean | Pool::SentenceMean => of_tokens.sum::<f32>() / row.len as f32,
        _ => of_tokens.fold(f32::NEG_INFINITY, f32::max),
    }
}
