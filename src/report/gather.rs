//! From tables to what the page shows, in a compact form: names once, numbers in columns.

use std::collections::HashMap;
use std::hash::Hash;
use std::path::Path;
use std::str::FromStr;

use serde::Serialize;
use serde_json::Value;

use super::pages::{self, Page};
use super::short::Short;
use crate::artifact::manifest::Manifest;
use crate::artifact::rows::{NeuronRow, RankingRow};
use crate::artifact::table::{Record, visit_table};
use crate::artifact::tables::{NEURONS, RANKINGS};
use crate::error::{Error, Result};
use crate::id::{Site, SiteKind};

/// Neurons shown of each ranking; the tables hold more.
pub(super) const LISTED: usize = 50;

/// What is embedded in the page.
#[derive(Debug, Serialize)]
pub(super) struct Data {
    /// The manifest as it stands.
    manifest: Value,
    /// Neurons shown of each ranking.
    listed: usize,
    sites: Vec<SiteEntry>,
    /// Every neuron the page names.
    neurons: Neurons,
    methods: Vec<String>,
    concepts: Vec<Concept>,
    rankings: Vec<Ranking>,
    /// Every word of a context, once.
    words: Vec<String>,
    pages: Vec<Page>,
    /// Neurons with contexts that the page has no room for.
    pages_left_out: usize,
}

#[derive(Debug, Serialize)]
struct SiteEntry {
    name: String,
    layer: Option<u32>,
    kind: String,
}

/// One entry per neuron in every column.
#[derive(Debug, Default, Serialize)]
pub(super) struct Neurons {
    site: Vec<usize>,
    index: Vec<i32>,
    n: Vec<Option<i64>>,
    non_finite: Vec<Option<i64>>,
    mean: Vec<Option<Short>>,
    sd: Vec<Option<Short>>,
    min: Vec<Option<Short>>,
    max: Vec<Option<Short>>,
    rate: Vec<Option<Short>>,
    constant: Vec<bool>,
    quantiles: Vec<Vec<Short>>,
}

#[derive(Debug, Serialize)]
struct Concept {
    label: String,
    name: String,
}

/// One method's list for one concept, best first.
#[derive(Debug, Default, Serialize)]
struct Ranking {
    method: usize,
    concept: usize,
    n: i64,
    n_concept: i64,
    rank: Vec<i32>,
    neuron: Vec<usize>,
    score: Vec<Short>,
    sign: Vec<i8>,
    p: Vec<Option<Short>>,
    q: Vec<Option<Short>>,
}

/// Gives each different key a number, in order of first appearance.
#[derive(Debug)]
pub(super) struct Interner<K> {
    numbers: HashMap<K, usize>,
    keys: Vec<K>,
}

impl<K: Clone + Eq + Hash> Interner<K> {
    pub(super) fn new() -> Self {
        Self { numbers: HashMap::new(), keys: Vec::new() }
    }

    pub(super) fn number(&mut self, key: &K) -> usize {
        if let Some(&number) = self.numbers.get(key) {
            return number;
        }
        self.numbers.insert(key.clone(), self.keys.len());
        self.keys.push(key.clone());
        self.keys.len() - 1
    }

    pub(super) fn find(&self, key: &K) -> Option<usize> {
        self.numbers.get(key).copied()
    }

    pub(super) fn into_keys(self) -> Vec<K> {
        self.keys
    }
}

/// The names met while reading.
#[derive(Debug)]
pub(super) struct Names {
    pub(super) sites: Interner<String>,
    /// Site number and column.
    pub(super) neurons: Interner<(usize, i32)>,
    methods: Interner<String>,
    concepts: Interner<(String, String)>,
    pub(super) words: Interner<String>,
}

/// Reads a run folder.
pub(super) fn gather(folder: &Path) -> Result<Data> {
    let manifest = Manifest::read(folder)?;
    let mut names = Names {
        sites: Interner::new(),
        neurons: Interner::new(),
        methods: Interner::new(),
        concepts: Interner::new(),
        words: Interner::new(),
    };
    for site in &manifest.sites {
        names.sites.number(&site.site);
    }
    let rankings = read_rankings(folder, &manifest, &mut names)?;
    let (pages, pages_left_out) = pages::read(folder, &manifest, &mut names, &best(&rankings))?;
    let neurons = read_neurons(folder, &manifest, &mut names)?;
    let finish = |page: Page| {
        let largest = neurons.largest(page.neuron());
        page.finish(largest)
    };
    let pages: Vec<Page> = pages.into_iter().map(finish).collect();
    let path = folder.join(crate::artifact::manifest::MANIFEST);
    let manifest = serde_json::to_value(&manifest)
        .map_err(|e| Error::input(path, e.to_string(), "run the same command again"))?;
    Ok(Data {
        manifest,
        listed: LISTED,
        sites: names.sites.into_keys().into_iter().map(site_entry).collect(),
        neurons,
        methods: names.methods.into_keys(),
        concepts: names
            .concepts
            .into_keys()
            .into_iter()
            .map(|(label, name)| Concept { label, name })
            .collect(),
        rankings,
        words: names.words.into_keys(),
        pages,
        pages_left_out,
    })
}

/// Visits a table that a run may not have made: absent is empty, unless the manifest lists it.
pub(super) fn visit_if_there<R: Record>(
    folder: &Path,
    manifest: &Manifest,
    name: &str,
    visit: impl FnMut(R),
) -> Result<()> {
    let path = folder.join(name);
    let listed = manifest.outputs.iter().any(|output| output.name == name);
    if !listed && !path.exists() {
        return Ok(());
    }
    visit_table(&path, visit)
}

fn read_rankings(folder: &Path, manifest: &Manifest, names: &mut Names) -> Result<Vec<Ranking>> {
    let mut rankings: Vec<Ranking> = Vec::new();
    let mut places: HashMap<(usize, usize), usize> = HashMap::new();
    visit_if_there(folder, manifest, RANKINGS, |row: RankingRow| {
        if usize::try_from(row.rank).map_or(true, |rank| rank > LISTED) {
            return;
        }
        let method = names.methods.number(&row.method);
        let concept = names.concepts.number(&(row.label, row.concept));
        let place = *places.entry((method, concept)).or_insert_with(|| {
            let (n, n_concept) = (row.n, row.n_concept);
            rankings.push(Ranking { method, concept, n, n_concept, ..Ranking::default() });
            rankings.len() - 1
        });
        let site = names.sites.number(&row.site);
        let ranking = &mut rankings[place];
        ranking.rank.push(row.rank);
        ranking.neuron.push(names.neurons.number(&(site, row.neuron)));
        ranking.score.push(row.score.into());
        ranking.sign.push(row.sign);
        ranking.p.push(row.p_value.map(Short));
        ranking.q.push(row.q_value.map(Short));
    })?;
    Ok(rankings)
}

/// Where each neuron (by number) stands: `(rank, concept)` pairs, unsorted.
pub(super) type Standing = HashMap<usize, Vec<(i32, usize)>>;

fn best(rankings: &[Ranking]) -> Standing {
    let mut standing = Standing::new();
    for ranking in rankings {
        for (&neuron, &rank) in ranking.neuron.iter().zip(&ranking.rank) {
            standing.entry(neuron).or_default().push((rank, ranking.concept));
        }
    }
    standing
}

impl Names {
    /// The number of a concept that is ranked.
    pub(super) fn concept(&self, label: &str, name: &str) -> Option<usize> {
        self.concepts.find(&(label.to_string(), name.to_string()))
    }
}

fn read_neurons(folder: &Path, manifest: &Manifest, names: &mut Names) -> Result<Neurons> {
    let wanted = std::mem::replace(&mut names.neurons, Interner::new());
    let mut found: Vec<Option<NeuronRow>> = vec![None; wanted.keys.len()];
    visit_if_there(folder, manifest, NEURONS, |row: NeuronRow| {
        let site = names.sites.find(&row.site);
        let number = site.and_then(|site| wanted.find(&(site, row.neuron)));
        if let Some(number) = number {
            found[number] = Some(row);
        }
    })?;
    let mut neurons = Neurons::default();
    for ((site, index), row) in wanted.into_keys().into_iter().zip(found) {
        neurons.push(site, index, row);
    }
    Ok(neurons)
}

impl Neurons {
    fn push(&mut self, site: usize, index: i32, row: Option<NeuronRow>) {
        let row = row.as_ref();
        self.site.push(site);
        self.index.push(index);
        self.n.push(row.map(|r| r.n));
        self.non_finite.push(row.map(|r| r.non_finite));
        self.mean.push(row.map(|r| r.mean.into()));
        self.sd.push(row.map(|r| r.sd.into()));
        self.min.push(row.map(|r| r.min.into()));
        self.max.push(row.map(|r| r.max.into()));
        self.rate.push(row.map(|r| r.firing_rate.into()));
        self.constant.push(row.is_some_and(|r| r.constant));
        let quantiles = row.map(|r| r.quantiles.iter().map(|&q| q.into()).collect());
        self.quantiles.push(quantiles.unwrap_or_default());
    }

    /// The largest size of an activation over the corpus, 0 where it is not known.
    fn largest(&self, neuron: usize) -> f64 {
        let size = |bound: Option<Short>| bound.map_or(0.0, |b| b.0.abs());
        let largest = size(self.min[neuron]).max(size(self.max[neuron]));
        if largest.is_finite() { largest } else { 0.0 }
    }
}

/// A site this program does not know keeps its name as its kind.
fn site_entry(name: String) -> SiteEntry {
    match Site::from_str(&name) {
        Ok(Site { kind, layer }) => {
            SiteEntry { kind: SiteKind::name(kind).to_string(), layer, name }
        }
        Err(_) => SiteEntry { kind: name.clone(), layer: None, name },
    }
}
