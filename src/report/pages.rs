//! Pages of single neurons: contexts and histograms, cut to what a reader looks at.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use serde::Serialize;

use super::gather::{Names, Standing, visit_if_there};
use super::short::Short;
use crate::artifact::manifest::Manifest;
use crate::artifact::rows::{ContextRow, HistogramRow};
use crate::artifact::tables::{CONTEXTS, HISTOGRAMS};
use crate::error::{Error, Result};

/// Neurons with a page.
const PAGES: usize = 500;
/// Contexts of each side of a page.
const CONTEXTS_SHOWN: usize = 20;
/// Words on each side of the one that fired.
const WINDOW: usize = 32;
/// Characters of a word; the longest of German is 63.
const WORD: usize = 120;
/// Classes whose histogram is drawn beside that of all rows.
const CLASSES: usize = 8;
/// Steps of the colour scale on each side of zero.
const STEPS: f64 = 127.0;

/// What the page knows of one neuron.
#[derive(Debug, Serialize)]
pub(super) struct Page {
    neuron: usize,
    /// The activation with the strongest colour.
    scale: Short,
    top: Vec<Context>,
    bottom: Vec<Context>,
    histograms: Vec<Histogram>,
}

#[derive(Debug, Serialize)]
struct Context {
    rank: i32,
    value: Short,
    document: i64,
    sentence: i32,
    /// Index into `words`.
    focus: usize,
    words: Vec<usize>,
    /// -127 to 127, in parts of the scale; empty for neurons that were not traced.
    colours: Vec<i8>,
    #[serde(skip)]
    activations: Vec<f32>,
}

#[derive(Debug, Serialize)]
struct Histogram {
    label: String,
    concept: String,
    edges: Vec<Short>,
    counts: Vec<i64>,
}

/// The pages in order of their neurons' best rank, and how many there was no room for.
pub(super) fn read(
    folder: &Path,
    manifest: &Manifest,
    names: &mut Names,
    standing: &Standing,
) -> Result<(Vec<Page>, usize)> {
    // A first pass over the names only: which neurons there are is known after the last row.
    let mut seen = HashMap::new();
    visit_if_there(folder, manifest, CONTEXTS, |row: ContextRow| {
        seen.insert((names.sites.number(&row.site), row.neuron), true);
    })?;
    visit_if_there(folder, manifest, HISTOGRAMS, |row: HistogramRow| {
        seen.entry((names.sites.number(&row.site), row.neuron)).or_insert(false);
    })?;
    // Neurons with contexts first, then by rank, then in forward order.
    let mut order: Vec<(bool, i32, usize, i32)> = seen
        .into_iter()
        .map(|(id, contexts)| (!contexts, best_rank(names, standing, id), id.0, id.1))
        .collect();
    order.sort_unstable();
    let left_out = order.len().saturating_sub(PAGES);
    order.truncate(PAGES);
    let mut pages: Vec<Page> = Vec::with_capacity(order.len());
    let mut places = HashMap::new();
    for (_, _, site, index) in order {
        places.insert((site, index), pages.len());
        pages.push(Page::new(names.neurons.number(&(site, index))));
    }
    read_contexts(folder, manifest, names, (&places, &mut pages))?;
    read_histograms(folder, manifest, names, (&places, &mut pages), standing)?;
    Ok((pages, left_out))
}

/// Where to put a row: neuron to page, and the pages.
type Shelf<'a> = (&'a HashMap<(usize, i32), usize>, &'a mut [Page]);

fn best_rank(names: &Names, standing: &Standing, neuron: (usize, i32)) -> i32 {
    let ranks = names.neurons.find(&neuron).and_then(|number| standing.get(&number));
    ranks.and_then(|r| r.iter().map(|(rank, _)| *rank).min()).unwrap_or(i32::MAX)
}

fn read_contexts(
    folder: &Path,
    manifest: &Manifest,
    names: &mut Names,
    (places, pages): Shelf<'_>,
) -> Result<()> {
    let mut wrong: Option<String> = None;
    visit_if_there(folder, manifest, CONTEXTS, |row: ContextRow| {
        let site = names.sites.number(&row.site);
        let Some(&place) = places.get(&(site, row.neuron)) else { return };
        if usize::try_from(row.rank).map_or(true, |rank| rank > CONTEXTS_SHOWN) {
            return;
        }
        let page = &mut pages[place];
        let top = row.side != "bottom";
        match context(names, &row) {
            Ok(context) if top => page.top.push(context),
            Ok(context) => page.bottom.push(context),
            Err(what) => {
                wrong.get_or_insert(format!("{}.{}, {what}", row.site, row.neuron));
            }
        }
    })?;
    refuse(folder, CONTEXTS, wrong)
}

fn refuse(folder: &Path, name: &str, wrong: Option<String>) -> Result<()> {
    let remedy = "remove it and run the same command again: the table is remade";
    match wrong {
        Some(what) => Err(Error::input(folder.join(name), what, remedy)),
        None => Ok(()),
    }
}

/// The window around the word that fired.
fn context(names: &mut Names, row: &ContextRow) -> std::result::Result<Context, String> {
    let focus = usize::try_from(row.focus).ok().filter(|&focus| focus < row.words.len());
    let focus = focus.ok_or_else(|| {
        format!("rank {}: word {} of {} fired", row.rank, row.focus, row.words.len())
    })?;
    if !row.activations.is_empty() && row.activations.len() != row.words.len() {
        let (words, values) = (row.words.len(), row.activations.len());
        return Err(format!("rank {}: {values} activations on {words} words", row.rank));
    }
    let window = focus.saturating_sub(WINDOW)..(focus + WINDOW + 1).min(row.words.len());
    Ok(Context {
        rank: row.rank,
        value: row.value.into(),
        document: row.document,
        sentence: row.sentence,
        focus: focus - window.start,
        words: row.words[window.clone()]
            .iter()
            .map(|word| names.words.number(&shorten(word)))
            .collect(),
        colours: Vec::new(),
        activations: row.activations.get(window).unwrap_or_default().to_vec(),
    })
}

fn shorten(word: &str) -> String {
    match word.char_indices().nth(WORD) {
        Some((end, _)) => format!("{}…", &word[..end]),
        None => word.to_string(),
    }
}

fn read_histograms(
    folder: &Path,
    manifest: &Manifest,
    names: &mut Names,
    (places, pages): Shelf<'_>,
    standing: &Standing,
) -> Result<()> {
    let mut wrong: Option<String> = None;
    let shown: Vec<HashSet<usize>> =
        pages.iter().map(|page| shown_concepts(standing, page.neuron)).collect();
    visit_if_there(folder, manifest, HISTOGRAMS, |row: HistogramRow| {
        let Some(site) = names.sites.find(&row.site) else { return };
        let Some(&place) = places.get(&(site, row.neuron)) else { return };
        let all = row.label.is_empty() && row.concept == "*";
        let concept = names.concept(&row.label, &row.concept);
        if !all && !concept.is_some_and(|concept| shown[place].contains(&concept)) {
            return;
        }
        if row.edges.len() != row.counts.len() + 1 {
            let (edges, bins) = (row.edges.len(), row.counts.len());
            let who = format!("{}.{}", row.site, row.neuron);
            wrong.get_or_insert(format!("{who}: {edges} edges around {bins} bins"));
            return;
        }
        pages[place].histograms.push(Histogram {
            edges: row.edges.iter().map(|&edge| edge.into()).collect(),
            counts: row.counts,
            label: row.label,
            concept: row.concept,
        });
    })?;
    refuse(folder, HISTOGRAMS, wrong)
}

/// The concepts a neuron stands highest for, over all methods.
fn shown_concepts(standing: &Standing, neuron: usize) -> HashSet<usize> {
    let mut best: HashMap<usize, i32> = HashMap::new();
    for &(rank, concept) in standing.get(&neuron).map_or(&[][..], Vec::as_slice) {
        let held = best.entry(concept).or_insert(rank);
        *held = rank.min(*held);
    }
    let mut order: Vec<(i32, usize)> = best.into_iter().map(|(c, rank)| (rank, c)).collect();
    order.sort_unstable();
    order.into_iter().take(CLASSES).map(|(_, concept)| concept).collect()
}

impl Page {
    fn new(neuron: usize) -> Self {
        let (top, bottom, histograms) = (Vec::new(), Vec::new(), Vec::new());
        Self { neuron, scale: Short(0.0), top, bottom, histograms }
    }

    pub(super) fn neuron(&self) -> usize {
        self.neuron
    }

    /// Sets the colours once the neuron's range over the corpus, `largest`, is known.
    pub(super) fn finish(mut self, largest: f64) -> Self {
        let contexts = self.top.iter().chain(&self.bottom);
        let seen = contexts.flat_map(|c| c.activations.iter().map(|a| f64::from(a.abs())));
        let scale = seen.filter(|a| a.is_finite()).fold(largest, f64::max);
        for context in self.top.iter_mut().chain(&mut self.bottom) {
            context.colours = context.activations.iter().map(|&a| step(a, scale)).collect();
        }
        self.top.sort_by_key(|context| context.rank);
        self.bottom.sort_by_key(|context| context.rank);
        self.scale = Short(scale);
        self
    }
}

/// The step of the colour scale nearest to a value; 0 for what is no number.
fn step(value: f32, scale: f64) -> i8 {
    let part = f64::from(value) / scale;
    if !part.is_finite() {
        return 0;
    }
    #[expect(clippy::cast_possible_truncation, reason = "clamped to -127..=127")]
    let step = (part * STEPS).round().clamp(-STEPS, STEPS) as i8;
    step
}
