//! What trained probes did, as rows of tables: accuracies with their baselines, information, control
//! labels, and the penalty that did best on dev.

use std::collections::BTreeMap;

use super::baselines::Baselines;
use super::config::ProbingConfig;
use super::probes::Which;
use super::tasks::Tasks;
use crate::artifact::probing::{ClassRow, LayerRow, ProbeRow};
use crate::device::probe_ops::Measures;
use crate::id::Site;
use crate::methods::probing::information::{self, Information, bits};
use crate::probe::split::Part;
use crate::probe::train::Trained;

/// 97.5 % of a normal distribution lie below.
const Z: f64 = 1.959_963_984_540_054;
/// A site is as good as the best where it loses no more accuracy than this.
const NEAR: f64 = 0.01;

/// A site of the run: one of the model's, or all of them side by side.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Place {
    /// As tables have it; `*` for all.
    pub(super) name: String,
    /// Its layer.
    pub(super) layer: Option<i32>,
    /// Columns.
    pub(super) width: usize,
}

impl Place {
    /// All of these side by side.
    pub(super) fn all(places: &[Self]) -> Self {
        let width = places.iter().map(|place| place.width).sum();
        Self { name: ALL_SITES.to_owned(), layer: None, width }
    }

    /// Whether it is that.
    pub(super) fn is_all(&self) -> bool {
        self.name == ALL_SITES
    }

    /// One site.
    pub(super) fn of(site: Site, width: usize) -> Self {
        let layer = site.layer.map(|layer| i32::try_from(layer).expect("layers are few"));
        Self { name: site.to_string(), layer, width }
    }
}

/// What a probe did on a part, less what the table needs of others.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Answered {
    pub(super) rows: f64,
    pub(super) accuracy: f64,
    /// Mean loss, bits; the mean squared error of numbers.
    pub(super) loss: f64,
    /// Entropy of the labels, bits.
    pub(super) entropy: f64,
    /// The label is a number: nothing is right or wrong, and nothing is counted in bits.
    numbers: bool,
}

impl Answered {
    /// Rows of classes that no training row has count as wrong; they have no loss.
    pub(super) fn of(measures: &Measures, unseen: u64) -> Self {
        let known = measures.rows.max(1) as f64;
        let rows = (measures.rows + unseen).max(1) as f64;
        let right: u64 = measures.right.iter().sum();
        let (numbers, loss) = (measures.seen.is_empty(), measures.loss / known);
        Self {
            rows: (measures.rows + unseen) as f64,
            accuracy: right as f64 / rows,
            loss: if numbers { loss } else { bits(loss) },
            entropy: information::entropy(&measures.seen),
            numbers,
        }
    }

    /// What the probe knows of the labels.
    fn knows(&self) -> Information {
        Information { entropy: self.entropy, cross_entropy: self.loss }
    }

    /// Bits that the probe finds; 0 for numbers.
    pub(super) fn information(&self) -> f64 {
        if self.numbers { 0.0 } else { self.knows().mutual() }
    }

    /// Of the accuracy, over rows.
    pub(super) fn error(&self) -> f64 {
        (self.accuracy * (1.0 - self.accuracy) / self.rows.max(1.0)).sqrt()
    }
}

/// All probes of a site with what came of them.
pub(super) struct SiteResults<'a> {
    pub(super) config: &'a ProbingConfig,
    pub(super) tasks: &'a Tasks,
    /// Number of the site at its source.
    pub(super) at: usize,
    pub(super) place: &'a Place,
    pub(super) list: Vec<(Which, Trained)>,
    /// Number of the penalty that did best on dev, by label.
    pub(super) chosen: Vec<usize>,
}

impl<'a> SiteResults<'a> {
    /// Chooses a penalty for each label by the mean accuracy on dev over seeds (the mean loss for
    /// numbers); the first of equal ones. Test rows are not asked.
    pub(super) fn new(
        (config, tasks): (&'a ProbingConfig, &'a Tasks),
        (at, place): (usize, &'a Place),
        list: Vec<(Which, Trained)>,
    ) -> Self {
        let mut own = Self { config, tasks, at, place, list, chosen: Vec::new() };
        own.chosen = (0..tasks.labels.len())
            .map(|label| {
                let score = |penalty: usize| own.dev_score(label, penalty);
                let mut best = 0;
                for penalty in 1..config.penalties.len() {
                    if score(penalty) > score(best) {
                        best = penalty;
                    }
                }
                best
            })
            .collect();
        own
    }

    fn dev_score(&self, label: usize, penalty: usize) -> f64 {
        let numbers = self.tasks.labels[label].classes.is_empty();
        let own =
            |which: &Which| which.label == label && which.penalty == penalty && !which.control;
        let scores = self.list.iter().filter(|(which, _)| own(which)).filter_map(|(_, trained)| {
            let answered = Answered::of(trained.on(Part::Dev)?, 0);
            Some(if numbers { -answered.loss } else { answered.accuracy })
        });
        mean(scores).unwrap_or(f64::NEG_INFINITY)
    }

    /// A probe.
    pub(super) fn get(&self, which: Which) -> Option<&Trained> {
        self.list.iter().find(|(own, _)| *own == which).map(|(_, trained)| trained)
    }

    fn answered(&self, which: Which, part: Part) -> Option<Answered> {
        let label = &self.tasks.labels[which.label];
        let unseen = if which.control { 0 } else { label.unseen[part as usize] };
        Some(Answered::of(self.get(which)?.on(part)?, unseen))
    }

    /// Rows of `probes.parquet`.
    pub(super) fn probe_rows(&self, baselines: &Baselines) -> Vec<ProbeRow> {
        let mut rows = Vec::new();
        for (which, trained) in &self.list {
            let label = &self.tasks.labels[which.label];
            let penalty = self.config.penalties[which.penalty];
            for part in Part::ALL {
                let Some(own) = self.answered(*which, part) else { continue };
                let other = Which { control: true, ..*which };
                let control = self.answered(other, part).filter(|_| !which.control);
                rows.push(ProbeRow {
                    site: self.place.name.clone(),
                    layer: self.place.layer,
                    label: label.title(),
                    control: which.control,
                    l1: penalty.l1,
                    l2: penalty.l2,
                    seed: signed(self.config.probes.seeds[which.seed]),
                    part: part.name().to_owned(),
                    n: own.rows as i64,
                    accuracy: own.accuracy,
                    loss: own.loss,
                    entropy: own.entropy,
                    information: own.information(),
                    majority: baselines.majority(*which, part),
                    type_majority: baselines.by_type(*which, part),
                    selectivity: control.map(|control| own.accuracy - control.accuracy),
                    passes: i32::try_from(trained.passes).unwrap_or(i32::MAX),
                    residual: trained.residual,
                    chosen: self.chosen[which.label] == which.penalty,
                });
            }
        }
        rows
    }

    /// Rows of `classes.parquet`: the chosen probes.
    pub(super) fn class_rows(&self) -> Vec<ClassRow> {
        let mut rows = Vec::new();
        for (number, label) in self.tasks.labels.iter().enumerate() {
            for part in Part::ALL {
                let mut sums = vec![[0_u64; 3]; label.classes.len()];
                for trained in self.chosen_of(number, false).filter_map(|(_, own)| own.on(part)) {
                    for (class, sum) in sums.iter_mut().enumerate() {
                        sum[0] += trained.seen[class];
                        sum[1] += trained.right[class];
                        sum[2] += trained.said[class];
                    }
                }
                for (class, [n, right, said]) in label.classes.iter().zip(sums) {
                    let f1 = 2.0 * right as f64 / (n + said).max(1) as f64;
                    rows.push(ClassRow {
                        site: self.place.name.clone(),
                        layer: self.place.layer,
                        label: label.title(),
                        concept: class.clone(),
                        part: part.name().to_owned(),
                        n: signed(n),
                        right: signed(right),
                        said: signed(said),
                        f1,
                    });
                }
            }
        }
        rows
    }

    /// The chosen probes of a label, by seed.
    pub(super) fn chosen_of(
        &self,
        label: usize,
        control: bool,
    ) -> impl Iterator<Item = (Which, &Trained)> {
        let penalty = self.chosen[label];
        let own = move |which: &Which| {
            which.label == label && which.penalty == penalty && which.control == control
        };
        self.list.iter().filter(move |(which, _)| own(which)).map(|(which, own)| (*which, own))
    }

    /// Rows of `layers.parquet`; [`mark_first`] says which of all sites is the first.
    pub(super) fn layer_rows(&self, baselines: &Baselines) -> Vec<LayerRow> {
        let mut rows = Vec::new();
        for (number, label) in self.tasks.labels.iter().enumerate() {
            // Numbers are not answered right or wrong: their losses stand in `probes.parquet`.
            if label.classes.is_empty() {
                continue;
            }
            for part in [Part::Dev, Part::Test] {
                let of = |control| -> Vec<(Which, Answered)> {
                    let all = self.chosen_of(number, control);
                    all.filter_map(|(which, _)| Some((which, self.answered(which, part)?)))
                        .collect()
                };
                let (own, control) = (of(false), of(true));
                let Some((which, first)) = own.first() else { continue };
                let accuracy = Spread::of(own.iter().map(|(_, one)| one));
                let control =
                    (!control.is_empty()).then(|| Spread::of(control.iter().map(|(_, one)| one)));
                let penalty = self.config.penalties[self.chosen[number]];
                let information = mean(own.iter().map(|(_, one)| one.information())).unwrap_or(0.0);
                let apart = control.map(|control| {
                    let half = Z * accuracy.error.hypot(control.error);
                    (accuracy.mean - control.mean, half)
                });
                rows.push(LayerRow {
                    site: self.place.name.clone(),
                    layer: self.place.layer,
                    label: label.title(),
                    part: part.name().to_owned(),
                    seeds: i32::try_from(own.len()).expect("few seeds"),
                    n: first.rows as i64,
                    accuracy: accuracy.mean,
                    low: (accuracy.mean - Z * accuracy.error).max(0.0),
                    high: (accuracy.mean + Z * accuracy.error).min(1.0),
                    control: control.map(|control| control.mean),
                    selectivity: apart.map(|(apart, _)| apart),
                    selectivity_low: apart.map(|(apart, half)| apart - half),
                    selectivity_high: apart.map(|(apart, half)| apart + half),
                    information,
                    information_share: mean(own.iter().map(|(_, one)| one.knows().normalised()))
                        .unwrap_or(0.0),
                    majority: baselines.majority(*which, part),
                    l1: penalty.l1,
                    l2: penalty.l2,
                    first: false,
                });
            }
        }
        rows
    }
}

/// A mean over seeds and its error: over rows, and over seeds.
#[derive(Clone, Copy, Debug)]
struct Spread {
    mean: f64,
    error: f64,
}

impl Spread {
    fn of<'a>(all: impl Iterator<Item = &'a Answered> + Clone) -> Self {
        let mean = mean(all.clone().map(|one| one.accuracy)).unwrap_or(0.0);
        let rows = all.clone().map(Answered::error).fold(0.0, f64::max);
        let seeds = all.clone().count() as f64;
        let squares: f64 = all.map(|one| (one.accuracy - mean).powi(2)).sum();
        let between = if seeds > 1.0 { squares / (seeds - 1.0) / seeds } else { 0.0 };
        Self { mean, error: rows.hypot(between.sqrt()) }
    }
}

/// Says for each label which site is the first to come near the best on dev. All sites side by side
/// are none.
pub(super) fn mark_first(rows: &mut [LayerRow]) {
    let mut best: BTreeMap<String, f64> = BTreeMap::new();
    let single = |row: &LayerRow| row.part == Part::Dev.name() && row.site != ALL_SITES;
    for row in rows.iter().filter(|row| single(row)) {
        let own = best.entry(row.label.clone()).or_insert(f64::NEG_INFINITY);
        *own = own.max(row.accuracy);
    }
    let mut first: BTreeMap<String, String> = BTreeMap::new();
    for row in rows.iter().filter(|row| single(row)) {
        if row.accuracy >= best[&row.label] - NEAR {
            first.entry(row.label.clone()).or_insert_with(|| row.site.clone());
        }
    }
    for row in rows {
        row.first = first.get(&row.label) == Some(&row.site);
    }
}

/// Name of all sites side by side.
pub(super) const ALL_SITES: &str = "*";

/// None of nothing.
pub(super) fn mean(all: impl Iterator<Item = f64>) -> Option<f64> {
    let (mut sum, mut count) = (0.0, 0.0);
    for one in all {
        sum += one;
        count += 1.0;
    }
    (count > 0.0).then(|| sum / count)
}

pub(super) fn signed(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}
