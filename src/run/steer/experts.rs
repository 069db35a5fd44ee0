//! What a run folder says of the neurons to be steered: their ranking, their moments, and how they
//! are distributed inside a class and outside it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::artifact::rows::{HistogramRow, NeuronRow, RankingRow};
use crate::artifact::table::visit_table;
use crate::artifact::tables::{HISTOGRAMS, NEURONS, RANKINGS};
use crate::error::{Error, Result};
use crate::id::{NeuronId, Site, SiteKind};
use crate::methods::evidence::Cells;
use crate::model::ModelSpec;

/// Which ranking of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RankingName {
    /// With its settings as the run wrote it, or its name alone where that is clear.
    pub method: String,
    /// Label column.
    pub label: String,
    /// Class of that column.
    pub concept: String,
}

/// Mean and standard deviation over all rows of a run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Moments {
    pub(super) mean: f64,
    pub(super) sd: f64,
}

/// The neurons at the top of a ranking, and all that were watched.
pub(super) struct Experts {
    /// The method as the run wrote it.
    pub(super) method: String,
    /// From the best on.
    pub(super) top: Vec<NeuronId>,
    /// Every watched neuron that is not constant, and the top.
    pub(super) moments: BTreeMap<NeuronId, Moments>,
    /// Neurons that were ranked.
    pub(super) watched: usize,
}

/// Edges of the bins of a neuron, and the counts of a class and of the others.
type Bins = (Vec<f32>, [Vec<u64>; 2]);

/// A neuron inside a class (0) and in the other classes of its column (1), bin by bin.
pub(super) struct ByClass(Cells);

impl ByClass {
    /// A quantile of the class, linear inside a bin.
    pub(super) fn quantile(&self, share: f64) -> Option<f64> {
        self.0.quantile(share, Some(0))
    }

    /// The mean of the class, or of the others, each bin taken at its middle.
    pub(super) fn mean(&self, class: u32) -> Option<f64> {
        let (mut sum, mut count) = (0.0, 0_u64);
        for (cell, (low, high)) in self.0.span.iter().enumerate() {
            for &(of, n) in self.0.entries(cell) {
                if of == class && n > 0 {
                    sum += f64::from(n) * 0.5 * (low + high);
                    count += u64::from(n);
                }
            }
        }
        (count > 0).then(|| sum / count as f64)
    }
}

impl Experts {
    /// The first `top` neurons of a ranking; refuses those that this model does not have, or that
    /// cannot be written.
    pub(super) fn read(
        folder: &Path,
        (name, top): (&RankingName, usize),
        spec: &ModelSpec,
    ) -> Result<Self> {
        let path = folder.join(RANKINGS);
        let (method, rows) = ranking(&path, name)?;
        if rows.len() < top || rows[top - 1].rank != i32::try_from(top).unwrap_or(i32::MAX) {
            let kept = (1..).zip(&rows).take_while(|(rank, row)| row.rank == *rank).count();
            let what =
                format!("the table holds the first {kept} neurons of the ranking, not {top}");
            let remedy = format!("steer fewer by --top, or run with output.keep={top}");
            return Err(Error::input(path, what, remedy));
        }
        let ids = rows[..top].iter().map(|row| neuron(row, (&path, spec)));
        let top = ids.collect::<Result<Vec<_>>>()?;
        let (moments, watched) = moments(&folder.join(NEURONS), &top)?;
        Ok(Self { method, top, moments, watched })
    }

    /// The distribution of each of them by class.
    pub(super) fn by_class(
        &self,
        folder: &Path,
        (label, concept): (&str, &str),
    ) -> Result<Vec<ByClass>> {
        let path = folder.join(HISTOGRAMS);
        let place: BTreeMap<(String, i32), usize> =
            self.top.iter().enumerate().map(|(at, id)| (key(id), at)).collect();
        let mut found: Vec<Option<Bins>> = vec![None; self.top.len()];
        let mut uneven = false;
        visit_table(&path, |row: HistogramRow| {
            let Some(&at) = place.get(&(row.site, row.neuron)).filter(|_| row.label == label)
            else {
                return;
            };
            let bins = row.counts.len();
            let empty = || (row.edges.clone(), [vec![0; bins], vec![0; bins]]);
            let (edges, counts) = found[at].get_or_insert_with(empty);
            uneven |= row.edges != *edges || edges.len() != bins + 1 || counts[0].len() != bins;
            let class = usize::from(row.concept != concept);
            for (sum, &count) in counts[class].iter_mut().zip(&row.counts) {
                *sum += u64::try_from(count).unwrap_or(0);
            }
        })?;
        if uneven {
            let what = "the bins of a neuron differ between its classes";
            return Err(Error::input(path, what, "run the same command again"));
        }
        self.top.iter().zip(found).map(|(id, found)| by_class(&path, id, found)).collect()
    }
}

fn by_class(path: &Path, id: &NeuronId, found: Option<Bins>) -> Result<ByClass> {
    let there = found.filter(|(_, [class, _])| class.iter().sum::<u64>() > 0);
    let Some((edges, counts)) = there else {
        let what = format!(
            "neuron {} of {} has no histogram of this class: a run keeps them for neurons with a page",
            id.index, id.site
        );
        let remedy = "run with output.pages at least --top (and statistics.bins above 0), or use \
                      --act scale, --act add, or --act set with --value NUMBER";
        return Err(Error::input(path, what, remedy));
    };
    let mut cells = Cells { exact: false, ..Cells::default() };
    for (bin, pair) in edges.windows(2).enumerate() {
        cells.span.push((f64::from(pair[0]), f64::from(pair[1])));
        cells.starts.push(cells.entries.len());
        for (class, counts) in (0..).zip(&counts) {
            cells.entries.push((class, u32::try_from(counts[bin]).unwrap_or(u32::MAX)));
        }
    }
    cells.starts.push(cells.entries.len());
    Ok(ByClass(cells))
}

fn key(id: &NeuronId) -> (String, i32) {
    (id.site.to_string(), id.index.cast_signed())
}

/// The rows of one ranking by rank, with the method as it was written.
fn ranking(path: &Path, name: &RankingName) -> Result<(String, Vec<RankingRow>)> {
    let mut by_method: BTreeMap<String, Vec<RankingRow>> = BTreeMap::new();
    let mut there = [BTreeSet::new(), BTreeSet::new(), BTreeSet::new()];
    visit_table(path, |row: RankingRow| {
        let bare = row.method.split(':').next() == Some(&name.method);
        let (method, label) = (bare || row.method == name.method, row.label == name.label);
        there[0].insert(row.method.clone());
        if method {
            there[1].insert(row.label.clone());
        }
        if method && label {
            there[2].insert(row.concept.clone());
        }
        if method && label && row.concept == name.concept {
            by_method.entry(row.method.clone()).or_default().push(row);
        }
    })?;
    let exact = by_method.remove(&name.method).map(|rows| (name.method.clone(), rows));
    if exact.is_none() && by_method.len() > 1 {
        let names: Vec<&str> = by_method.keys().map(String::as_str).collect();
        let what = format!("several rankings by '{}'", name.method);
        return Err(Error::config("method", what, format!("name one of {}", names.join(", "))));
    }
    let Some((method, mut rows)) = exact.or_else(|| by_method.pop_first()) else {
        return Err(not_there(name, &there));
    };
    rows.sort_by_key(|row| row.rank);
    Ok((method, rows))
}

/// What of a ranking's name is in no row.
fn not_there(name: &RankingName, there: &[BTreeSet<String>; 3]) -> Error {
    let [methods, labels, concepts] = there;
    let (key, given, known) = if labels.is_empty() {
        ("method", &name.method, methods)
    } else if concepts.is_empty() {
        ("label", &name.label, labels)
    } else {
        ("concept", &name.concept, concepts)
    };
    let names: Vec<&str> = known.iter().map(String::as_str).collect();
    let what = format!("the run ranked nothing by {key} '{given}'");
    Error::config(key, what, format!("there are: {}", names.join(", ")))
}

/// The neuron of a row, if this model has it and it can be written.
fn neuron(row: &RankingRow, (path, spec): (&Path, &ModelSpec)) -> Result<NeuronId> {
    let refuse = |what: String, remedy: &str| Err(Error::input(path, what, remedy));
    let site: Site = row.site.parse()?;
    let index = u32::try_from(row.neuron).unwrap_or(u32::MAX);
    if !spec.has_site(site) || index as usize >= spec.site_width(site) {
        let what = format!("neuron {} of {} is not in this model", row.neuron, row.site);
        return refuse(what, "give the model of the run by --model");
    }
    if site.kind == SiteKind::AttnProbs || site > Site::global(SiteKind::FinalNorm) {
        let what = format!("{site} can be read but not steered");
        return refuse(
            what,
            "run the method over layers.*.mlp_act, or another site before the head",
        );
    }
    Ok(NeuronId { site, index })
}

/// Moments of the watched neurons that are not constant and of the top, and how many were watched.
fn moments(path: &Path, top: &[NeuronId]) -> Result<(BTreeMap<NeuronId, Moments>, usize)> {
    let chosen: BTreeSet<NeuronId> = top.iter().copied().collect();
    let (mut moments, mut watched, mut failed) = (BTreeMap::new(), 0, None);
    visit_table(path, |row: NeuronRow| match row.site.parse::<Site>() {
        Ok(site) => {
            watched += 1;
            let id = NeuronId { site, index: u32::try_from(row.neuron).unwrap_or(u32::MAX) };
            if !row.constant || chosen.contains(&id) {
                moments.insert(id, Moments { mean: row.mean, sd: row.sd });
            }
        }
        Err(error) => failed = Some(error),
    })?;
    if let Some(error) = failed {
        return Err(error);
    }
    if let Some(id) = top.iter().find(|id| !moments.contains_key(id)) {
        let what = format!("neuron {} of {} is ranked and not in this table", id.index, id.site);
        return Err(Error::input(path, what, "run the same command again: the table is remade"));
    }
    Ok((moments, watched))
}
