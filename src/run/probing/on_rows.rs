//! Methods that read the rows of a site, beside the probes and to be compared with them. Those of the
//! corpus-based family rank on training rows; those that train probes of their own fit them on training
//! rows, choose on dev rows and report test rows.

mod each_class;
mod greedy_probes;
mod pairs;
mod parse;
mod parts;
mod tree;
mod tried;

use std::collections::BTreeMap;

use self::each_class::ForClass;
use self::greedy_probes::{Classes, Greedy};
pub(super) use self::parse::{check, pair_columns, parse};
use self::parts::{OneClass, Parts, sample};
use self::tried::Tried;
use super::found::Notes;
use super::measured::{SiteResults, signed};
use super::rankings::{Columns, Ranked};
use super::tasks::{Label, Tasks};
use crate::artifact::probing::MethodRow;
use crate::device::ops::Ops;
use crate::error::Result;
use crate::id::NeuronId;
use crate::methods::matrix::{Matrix, RowLabels, Values};
use crate::methods::probing::rows::Block;
use crate::methods::probing::salience::exact_order;
use crate::methods::ranking::GroupRanking;
use crate::methods::registry::{Family, Kind, Probing};
use crate::methods::{MatrixSource, MethodCall, rank};
use crate::probe::source::Source;
use crate::probe::split::Part;
use crate::probe::tasks::Labelled;

/// What methods found on the rows of a site.
#[derive(Default)]
pub(super) struct OnRows {
    pub(super) ranked: Vec<Ranked>,
    /// Rows of `methods.parquet`.
    pub(super) tried: Vec<MethodRow>,
    /// What a reader must know of them.
    pub(super) notes: Notes,
}

fn pairs_of(call: &MethodCall, tasks: &Tasks, label: &Label) -> [Vec<pairs::Pair>; 3] {
    let ids = &tasks.pairs[&call.text("pair")];
    pairs::sample(&tasks.list[label.task], ids, bounds(call))
}

/// Rows of each part at most, and the seed of their draw.
fn bounds(call: &MethodCall) -> (usize, u64) {
    (call.whole("rows"), call.whole("seed") as u64)
}

/// Everything the methods of a file find at a site.
pub(super) fn find<O: Ops>(
    site: &SiteResults<'_>,
    calls: &[MethodCall],
    source: &mut dyn Source<O>,
    columns: &Columns,
) -> Result<OnRows> {
    let mut found = OnRows::default();
    for number in 0..site.tasks.labels.len() {
        on_training_rows(site, (number, calls), source, &mut found)?;
        let mut read = Rows { site, number, at_hand: BTreeMap::new() };
        for call in calls {
            if let Kind::Probing(how) = call.method.kind {
                let asked = Asked { site, number, call, columns };
                asked.run(how, (&mut read, source), &mut found)?;
            }
        }
    }
    Ok(found)
}

/// The rankings of corpus-based methods for one label.
fn on_training_rows<O: Ops>(
    site: &SiteResults<'_>,
    (number, calls): (usize, &[MethodCall]),
    source: &mut dyn Source<O>,
    found: &mut OnRows,
) -> Result<()> {
    let own = |call: &&MethodCall| !matches!(call.method.kind, Kind::Probing(_));
    if !calls.iter().any(|call| own(&call)) {
        return Ok(());
    }
    let label = &site.tasks.labels[number];
    let labelled = site.tasks.list[label.task].part(Part::Train);
    let values = rows(source, (site.at, site.place.width), labelled)?;
    let matrix = Matrix::new(labelled.len(), site.place.width, Values::F32(values));
    let origin = format!("{} of {}", label.title(), site.place.name);
    let source = MatrixSource::new(matrix, &row_labels(label, labelled), origin.as_ref())?;
    for call in calls.iter().filter(own) {
        let ranking = rank(call, &source)?;
        let one = |concept: &str, ranking| ranked(call, number, (concept, ranking, true));
        found.ranked.extend(ranking.overall.map(|ranking| one("*", ranking)));
        for ranking in ranking.groups {
            let name = ranking.name.clone();
            found.ranked.push(one(&name, ranking));
        }
    }
    Ok(())
}

fn ranked(
    call: &MethodCall,
    label: usize,
    (concept, ranking, mass): (&str, GroupRanking, bool),
) -> Ranked {
    Ranked {
        method: call.to_string(),
        family: match call.method.family {
            Family::Baseline => "random",
            _ => call.method.name,
        },
        label,
        concept: concept.to_owned(),
        ranking,
        mass,
        judged: true,
    }
}

/// The rows of a label that were read last: methods that want the same share them.
struct Rows<'a, 'r> {
    site: &'a SiteResults<'r>,
    number: usize,
    at_hand: BTreeMap<(usize, u64), Parts>,
}

impl Rows<'_, '_> {
    fn get<O: Ops>(
        &mut self,
        (most, seed): (usize, u64),
        source: &mut dyn Source<O>,
    ) -> Result<&Parts> {
        let key = (most, seed);
        if !self.at_hand.contains_key(&key) {
            let site = self.site;
            let task = &site.tasks.list[site.tasks.labels[self.number].task];
            let wanted = sample(task, most, seed);
            self.at_hand.clear();
            let parts = Parts::read(source, (site.at, site.place.width), &wanted)?;
            self.at_hand.insert(key, parts);
        }
        Ok(&self.at_hand[&key])
    }
}

/// How one probe is trained for all classes.
type RunTogether = fn(&MethodCall, Classes<'_>) -> Result<Greedy>;

/// A method, put to a label of a site.
struct Asked<'a, 'r> {
    site: &'a SiteResults<'r>,
    number: usize,
    call: &'a MethodCall,
    columns: &'a Columns,
}

impl Asked<'_, '_> {
    fn label(&self) -> &Label {
        &self.site.tasks.labels[self.number]
    }

    fn run<O: Ops>(
        &self,
        how: Probing,
        (read, source): (&mut Rows<'_, '_>, &mut dyn Source<O>),
        found: &mut OnRows,
    ) -> Result<()> {
        match how {
            Probing::Ccs => return self.paired(source, found),
            Probing::Tree => return self.adjacent(source, found),
            _ => {}
        }
        let task = &self.site.tasks.list[self.label().task];
        let (most, _) = bounds(self.call);
        for part in Part::ALL {
            let rows = task.part(part).len();
            if rows > most {
                let note = format!("read {most} of {rows} {} rows, drawn by seed", part.name());
                self.note(&note, found);
            }
        }
        if task.part(Part::Train).is_empty() || task.part(Part::Dev).is_empty() {
            self.note("left out: no training rows or no dev rows have this label", found);
            return Ok(());
        }
        let parts = read.get(bounds(self.call), source)?;
        match how {
            Probing::Gaussian => self.together(parts, (2, greedy_probes::gauss), found),
            Probing::Latent if self.call.flag("joint") => {
                self.together(parts, (1, greedy_probes::latent), found)
            }
            _ => self.each_class(how, parts, found),
        }
    }

    fn note(&self, what: &str, found: &mut OnRows) {
        found.notes.insert(format!("{} on {}: {what}", self.call, self.label().title()));
    }

    /// Each class against the rest, and the order of all classes together.
    fn each_class(&self, how: Probing, parts: &Parts, found: &mut OnRows) -> Result<()> {
        let label = self.label();
        let yes_no = label.class.is_some();
        let train = self.site.tasks.list[label.task].part(Part::Train);
        let counts = train.counts(label.classes.len());
        let mut masses = Vec::new();
        for (number, class) in label.classes.iter().enumerate().skip(usize::from(yes_no)) {
            let own = OneClass::new(parts, u32::try_from(number).expect("few classes"));
            if !own.has_both(Part::Train) {
                self.note(&format!("class '{class}' left out: too few rows"), found);
                continue;
            }
            let mut one = match how {
                Probing::MassMean => each_class::mass_mean_of(self.call, &own)?,
                Probing::Sparse => each_class::sparse(self.call, &own)?,
                Probing::OptimalSparse => each_class::optimal(self.call, &own)?,
                _ => {
                    let found = greedy_probes::latent(self.call, Classes::of_one(&own))?;
                    ForClass { ranking: found.ranking, mass: false, tried: found.tried }
                }
            };
            masses.extend(by_neuron(&one.ranking));
            one.ranking.n = counts[number];
            self.put((class, one.ranking, one.mass), &one.tried, found);
        }
        if !masses.is_empty() {
            let ranking = exact_order(&Block::new(masses, parts.width));
            found.ranked.push(ranked(self.call, self.number, ("*", ranking, false)));
        }
        Ok(())
    }

    /// All classes with one probe, where they have so many training rows.
    fn together(
        &self,
        parts: &Parts,
        (least, run): (usize, RunTogether),
        found: &mut OnRows,
    ) -> Result<()> {
        let label = self.label();
        let classes = Classes::new(parts, label.classes.len(), least);
        if !classes.can_be_told() {
            self.note("left out: fewer than two classes have enough rows", found);
            return Ok(());
        }
        let mut own = run(self.call, classes)?;
        for class in own.left_out {
            let name = &label.classes[class];
            self.note(&format!("class '{name}' left out: too few rows"), found);
        }
        for tried in &mut own.tried {
            // Rows of classes without training rows count as wrong, as they do for probes.
            let known = self.site.tasks.list[label.task].part(tried.part).len() as f64;
            let unseen = label.unseen[tried.part as usize] as f64;
            tried.accuracy *= known / (known + unseen).max(1.0);
        }
        self.put(("*", own.ranking, false), &own.tried, found);
        Ok(())
    }

    /// Adjacent words.
    fn adjacent<O: Ops>(&self, source: &mut dyn Source<O>, found: &mut OnRows) -> Result<()> {
        let (tasks, label) = (self.site.tasks, self.label());
        let (most, seed) = bounds(self.call);
        let first = sample(&tasks.list[label.task], most, seed)
            .map(|labelled| tree::first_words(&labelled, &tasks.continues));
        let second = first.clone().map(|mut one| {
            one.rows.iter_mut().for_each(|row| *row += 1);
            one
        });
        let wanted = first.each_ref().map(tree::both_words);
        let read = Parts::read(source, (self.site.at, self.site.place.width), &wanted)?;
        let pairs = first.each_ref().map(Labelled::len);
        let [first, second] = [first, second].map(|rows| read.pick(rows));
        let Some(own) = tree::tree(self.call, [&first, &second], label.classes.len())? else {
            self.note("left out: fewer than two classes have enough pairs", found);
            return Ok(());
        };
        for class in own.left_out {
            let name = &label.classes[class];
            self.note(&format!("class '{name}' left out: too few pairs"), found);
        }
        let counts =
            Part::ALL.map(|part| format!("{} {}", pairs[part as usize], part.name())).join(", ");
        self.note(&format!("{counts} pairs of adjacent words"), found);
        self.put(("*", own.ranking, false), &own.tried, found);
        Ok(())
    }

    /// Pairs of rows.
    fn paired<O: Ops>(&self, source: &mut dyn Source<O>, found: &mut OnRows) -> Result<()> {
        let (site, label) = (self.site, self.label());
        let sampled = pairs_of(self.call, site.tasks, label);
        let wanted = [0, 1, 2].map(|part: usize| pairs::rows_of(&sampled[part]));
        let parts = Parts::read(source, (site.at, site.place.width), &wanted)?;
        let (mut ranking, tried) = pairs::ccs(self.call, &parts, &sampled)?;
        let train = site.tasks.list[label.task].part(Part::Train);
        ranking.n = train.counts(label.classes.len())[1];
        let counts =
            Part::ALL.map(|part| format!("{} {}", sampled[part as usize].len(), part.name()));
        self.note(&format!("{} pairs", counts.join(", ")), found);
        found.ranked.push(ranked(self.call, self.number, ("*", ranking.clone(), true)));
        self.put((&label.classes[1], ranking, true), &tried, found);
        Ok(())
    }

    /// A ranking, and its rows of `methods.parquet`.
    fn put(&self, own: (&str, GroupRanking, bool), tried: &[Tried], found: &mut OnRows) {
        found.tried.extend(tried.iter().filter(|tried| tried.n > 0).map(|t| self.row(own.0, t)));
        found.ranked.push(ranked(self.call, self.number, own));
    }

    fn row(&self, concept: &str, tried: &Tried) -> MethodRow {
        let name = |&column: &u32| {
            let (site, index) = self.columns.neuron(column);
            NeuronId { site, index }.to_string()
        };
        MethodRow {
            site: self.site.place.name.clone(),
            layer: self.site.place.layer,
            label: self.label().title(),
            concept: concept.to_owned(),
            method: self.call.to_string(),
            part: tried.part.name().to_owned(),
            size: i32::try_from(tried.size).expect("columns are few"),
            n: signed(tried.n as u64),
            accuracy: tried.accuracy,
            f1: tried.metrics.map(|own| own.f1),
            mcc: tried.metrics.map(|own| own.mcc),
            pr_auc: tried.metrics.map(|own| own.pr_auc),
            roc_auc: tried.metrics.map(|own| own.roc_auc),
            information: tried.information,
            ece: tried.ece,
            either_way: tried.either_way,
            neurons: tried.neurons.iter().map(name).collect(),
            flags: tried.flags.iter().map(|&flag| flag.to_owned()).collect(),
        }
    }
}

/// Scores of a ranking by neuron, as sizes.
fn by_neuron(ranking: &GroupRanking) -> Vec<f64> {
    let mut scores = vec![0.0; ranking.order.len()];
    for (neuron, score) in ranking.order.iter().zip(&ranking.scores) {
        scores[*neuron as usize] = score.abs();
    }
    scores
}

/// The labelled rows of a site, in the order of their list.
fn rows<O: Ops>(
    source: &mut dyn Source<O>,
    (site, width): (usize, usize),
    labelled: &Labelled,
) -> Result<Vec<f32>> {
    let mut values = vec![0.0; labelled.len() * width];
    let mut piece = Vec::new();
    let mut next = 0;
    source.each(&[site], &mut |ops, _, x, at| {
        ops.read(x, &mut piece)?;
        while let Some(&row) = labelled.rows.get(next).filter(|row| (**row as usize) < at.end) {
            let from = (row as usize - at.start) * width;
            values[next * width..][..width].copy_from_slice(&piece[from..from + width]);
            next += 1;
        }
        Ok(())
    })?;
    Ok(values)
}

fn row_labels(label: &Label, labelled: &Labelled) -> RowLabels {
    RowLabels {
        name: label.title(),
        classes: (0..).zip(label.classes.iter().cloned()).collect(),
        of_row: labelled.targets.iter().map(|target| Some(*target as u32)).collect(),
        min_count: 1,
    }
}
