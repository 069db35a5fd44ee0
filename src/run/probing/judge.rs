//! What rankings and probes are put to: probes trained anew on the top of a ranking, the probe of all
//! neurons with some at 0, and the length of an online code. Everything is one more bank of probes.

use super::config::ProbingConfig;
use super::measured::{Answered, SiteResults, signed};
use super::probes::{Which, probe, solver};
use super::rankings::Ranked;
use super::tasks::Tasks;
use super::{ProbingDevice, probes};
use crate::artifact::probing::{CodeRow, SmallestRow, SubsetRow};
use crate::error::Result;
use crate::hash::{GAMMA, mix};
use crate::methods::findings::smallest_reaching;
use crate::methods::probing::code_length::{PORTIONS, ends, online};
use crate::probe::bank::{Probe, Weights};
use crate::probe::source::Source;
use crate::probe::split::Part;
use crate::probe::tasks::Task;
use crate::probe::train::{Labels, SiteProbes, Solver, Trained, train};

/// Parts whose figures are written.
const TRIED: [Part; 2] = [Part::Dev, Part::Test];

/// A set of neurons that is tried.
#[derive(Clone, Debug)]
struct Set<'a> {
    ranked: &'a Ranked,
    order: &'static str,
    draw: u32,
    how: &'static str,
    neurons: Vec<u32>,
}

/// A site and the rows it is tried on.
pub(super) struct Judge<'a, 'r, O: ProbingDevice> {
    pub(super) site: &'a SiteResults<'r>,
    pub(super) source: &'a mut dyn Source<O>,
    pub(super) told: &'a mut dyn FnMut(f64),
}

impl<O: ProbingDevice> Judge<'_, '_, O> {
    fn config(&self) -> &ProbingConfig {
        self.site.config
    }

    /// Trains or tries these probes on the tasks given.
    pub(super) fn work(
        &mut self,
        (tasks, try_on): (&[Task], &[Part]),
        probes: Vec<Probe>,
        (begin, solver): (Option<Vec<Weights>>, Solver),
    ) -> Result<Vec<Trained>> {
        let asked = SiteProbes { site: self.site.at, width: self.site.place.width, probes, begin };
        let labels = Labels { tasks, try_on };
        let mut trained = train(self.source, &[asked], labels, (solver, self.told))?;
        Ok(trained.pop().expect("one site was asked for"))
    }

    /// Rows of `subsets.parquet`.
    pub(super) fn subsets(&mut self, rankings: &[Ranked]) -> Result<Vec<SubsetRow>> {
        let judged: Vec<&Ranked> =
            rankings.iter().filter(|own| own.judged && own.concept == "*").collect();
        let mut rows = self.retrained(&judged)?;
        rows.extend(self.ablated(&judged)?);
        Ok(rows)
    }

    /// The sets of a ranking at these sizes.
    fn sets<'a>(&self, ranked: &'a Ranked, sizes: &[usize], how: &'static str) -> Vec<Set<'a>> {
        let order = &ranked.ranking.order;
        let judge = &self.config().judge;
        let mut sets = Vec::new();
        let mut push = |order, draw, neurons: Vec<u32>| {
            sets.push(Set { ranked, order, draw, how, neurons });
        };
        for &size in sizes.iter().filter(|size| **size <= order.len()) {
            push("top", 0, order[..size].to_vec());
            if judge.bottom && size < order.len() {
                push("bottom", 0, order[order.len() - size..].to_vec());
            }
            for draw in 0..judge.random {
                push("random", draw, random(order.len(), size, draw));
            }
        }
        sets
    }

    /// Probes trained anew on the neurons of each set, and on control labels beside.
    fn retrained(&mut self, judged: &[&Ranked]) -> Result<Vec<SubsetRow>> {
        let sizes = sorted(&self.config().judge.retain);
        let sets: Vec<Set<'_>> =
            judged.iter().flat_map(|ranked| self.sets(ranked, &sizes, "retrain")).collect();
        if sets.is_empty() {
            return Ok(Vec::new());
        }
        let (mut list, mut controls) = (Vec::new(), Vec::new());
        for set in &sets {
            let which = self.which(set.ranked.label);
            list.push(self.on(set, which));
        }
        for set in &sets {
            let which = Which { control: true, ..self.which(set.ranked.label) };
            let any = probes::task_of(&self.site.tasks.labels[which.label], which).is_some();
            controls.push(any.then(|| {
                list.push(self.on(set, which));
                list.len() - 1
            }));
        }
        let how = solver(self.config());
        let tasks = &self.site.tasks.list[..];
        let trained = self.work((tasks, &TRIED), list, (None, how))?;
        let mut rows = Vec::new();
        for (at, set) in sets.iter().enumerate() {
            let control = controls[at].map(|at| &trained[at]);
            rows.extend(self.rows(set, (&trained[at], control)));
        }
        Ok(rows)
    }

    /// The chosen penalty and the first seed.
    pub(super) fn which(&self, label: usize) -> Which {
        Which { label, control: false, penalty: self.site.chosen[label], seed: 0 }
    }

    fn on(&self, set: &Set<'_>, which: Which) -> Probe {
        let label = &self.site.tasks.labels[which.label];
        let task = probes::task_of(label, which).expect("asked for");
        let mut own = probe(self.site.config, self.site.tasks, (which, task));
        own.inputs = Some(set.neurons.clone());
        own
    }

    /// The probe of all neurons with those of a set alone, and without them.
    fn ablated(&mut self, judged: &[&Ranked]) -> Result<Vec<SubsetRow>> {
        let width = self.site.place.width;
        let size = |share: &f64| ((share * width as f64).round() as usize).clamp(1, width);
        let sizes: Vec<usize> = self.config().judge.ablate.iter().map(size).collect();
        let sizes = sorted(&sizes);
        let mut sets = Vec::new();
        for ranked in judged {
            for how in ["keep", "remove"] {
                sets.extend(self.sets(ranked, &sizes, how));
            }
        }
        if sets.is_empty() {
            return Ok(Vec::new());
        }
        let (mut list, mut begin) = (Vec::new(), Vec::new());
        for set in &sets {
            let which = self.which(set.ranked.label);
            let label = &self.site.tasks.labels[which.label];
            list.push(probe(self.site.config, self.site.tasks, (which, label.task)));
            let whole = &self.site.get(which).expect("it was trained").weights;
            begin.push(with_zeros(whole, width, set));
        }
        let tasks = &self.site.tasks.list[..];
        let tried = self.work((tasks, &TRIED), list, (Some(begin), Solver::Keep))?;
        let rows = sets.iter().zip(&tried).flat_map(|(set, own)| self.rows(set, (own, None)));
        Ok(rows.collect())
    }

    fn rows(&self, set: &Set<'_>, (own, control): (&Trained, Option<&Trained>)) -> Vec<SubsetRow> {
        let label = &self.site.tasks.labels[set.ranked.label];
        let row = |part: Part| {
            let answered = Answered::of(own.on(part)?, label.unseen[part as usize]);
            let control = control.and_then(|control| Some(Answered::of(control.on(part)?, 0)));
            Some(SubsetRow {
                site: self.site.place.name.clone(),
                layer: self.site.place.layer,
                label: label.title(),
                method: set.ranked.method.clone(),
                order: set.order.to_owned(),
                draw: i32::try_from(set.draw).expect("few draws"),
                how: set.how.to_owned(),
                size: i32::try_from(set.neurons.len()).expect("columns are few"),
                part: part.name().to_owned(),
                n: answered.rows as i64,
                accuracy: answered.accuracy,
                error: answered.error(),
                information: answered.information(),
                control: control.map(|control| control.accuracy),
            })
        };
        TRIED.into_iter().filter_map(row).collect()
    }

    /// Rows of `codes.parquet`: for each label and its control labels, of the first seed.
    pub(super) fn codes(&mut self) -> Result<Vec<CodeRow>> {
        let mut codes = Vec::new();
        // Numbers have no code.
        let classes = |label: &usize| !self.site.tasks.labels[*label].classes.is_empty();
        let labels: Vec<usize> = (0..self.site.tasks.labels.len()).filter(classes).collect();
        for label in labels {
            for control in [false, true] {
                let which = Which { control, ..self.which(label) };
                if let Some(task) = probes::task_of(&self.site.tasks.labels[label], which) {
                    codes.push(self.code((which, task))?);
                }
            }
        }
        Ok(codes)
    }

    fn code(&mut self, (which, task): (Which, usize)) -> Result<CodeRow> {
        let seed = self.config().probes.seeds[which.seed];
        let rows = self.site.tasks.list[task].part(Part::Train).len();
        let ends = ends(rows, &PORTIONS)?;
        let tasks = prefixes(&self.site.tasks.list[task], &ends, seed);
        let list = (0..tasks.len()).map(|at| {
            let parts = Tasks { list: tasks.clone(), ..Tasks::default() };
            probe(self.site.config, &parts, (which, at))
        });
        let list = list.collect();
        let how = solver(self.config());
        let trained = self.work((&tasks, &[Part::Dev]), list, (None, how))?;
        let classes = self.site.tasks.list[task].classes;
        let losses: Vec<f64> = trained
            .iter()
            .map(|own| own.on(Part::Dev).map_or(0.0, |measures| Answered::of(measures, 0).loss))
            .collect();
        let mut each = losses.iter();
        let code = online(&ends, classes, |_, block| {
            Ok(block.len() as f64 * each.next().expect("a probe for each block"))
        })?;
        Ok(CodeRow {
            site: self.site.place.name.clone(),
            layer: self.site.place.layer,
            label: self.site.tasks.labels[which.label].title(),
            control: which.control,
            seed: signed(seed),
            n: signed(code.rows() as u64),
            uniform: code.uniform_bits(),
            online: code.bits(),
            compression: code.compression(),
            portions: ends[..ends.len() - 1].iter().map(|end| signed(*end as u64)).collect(),
            losses,
        })
    }
}

/// A task for each block of the code: what comes before it is learned, the block itself is dev. Rows
/// are drawn by the seed, and stand in the order of the corpus inside their part.
fn prefixes(task: &Task, ends: &[usize], seed: u64) -> Vec<Task> {
    let drawn = task.part(Part::Train).shuffled(seed);
    let in_order = |range| drawn.slice(range).in_order();
    let one = |pair: &[usize]| Task {
        classes: task.classes,
        parts: [in_order(0..pair[0]), in_order(pair[0]..pair[1]), Default::default()],
    };
    ends.windows(2).map(one).collect()
}

/// A probe whose other neurons, or those of the set, read 0.
fn with_zeros(whole: &Weights, width: usize, set: &Set<'_>) -> Weights {
    let mut inside = vec![false; width];
    set.neurons.iter().for_each(|&neuron| inside[neuron as usize] = true);
    let keeps = set.how == "keep";
    let mut own = whole.clone();
    for row in own.weights.chunks_exact_mut(width) {
        for (weight, inside) in row.iter_mut().zip(&inside) {
            if *inside != keeps {
                *weight = 0.0;
            }
        }
    }
    own
}

/// So many of n neurons, drawn without replacement.
fn random(n: usize, size: usize, draw: u32) -> Vec<u32> {
    let mut all: Vec<u32> = (0..u32::try_from(n).expect("columns are few")).collect();
    for at in 0..size.min(n.saturating_sub(1)) {
        let bits = mix((at as u64 + 1).wrapping_mul(GAMMA) ^ mix(u64::from(draw) + 1));
        let other = at + usize::try_from(bits % (n - at) as u64).expect("below a length");
        all.swap(at, other);
    }
    all.truncate(size);
    all
}

fn sorted(sizes: &[usize]) -> Vec<usize> {
    let mut own = sizes.to_vec();
    own.sort_unstable();
    own.dedup();
    own
}

/// Rows of `smallest.parquet`: the smallest sets that are as good as all neurons on dev.
pub(super) fn smallest(site: &SiteResults<'_>, subsets: &[SubsetRow]) -> Vec<SmallestRow> {
    let delta = site.config.judge.delta;
    let mut rows = Vec::new();
    for (number, label) in site.tasks.labels.iter().enumerate() {
        if site.tasks.list[label.task].classes == 0 {
            continue;
        }
        let all = |part: Part| {
            let unseen = label.unseen[part as usize];
            let own = site.chosen_of(number, false).filter_map(|(_, own)| own.on(part));
            super::measured::mean(own.map(|measures| Answered::of(measures, unseen).accuracy))
        };
        let Some(dev_all) = all(Part::Dev) else { continue };
        let own = subsets.iter().filter(|row| row.label == label.title());
        let mut methods: Vec<&str> = own.clone().map(|row| row.method.as_str()).collect();
        methods.sort_unstable();
        methods.dedup();
        for method in methods {
            let top = own.clone().filter(|row| row.method == method && row.order == "top");
            let retrained = top.filter(|row| row.how == "retrain");
            let on = |part: Part| -> Vec<(usize, f64)> {
                let rows = retrained.clone().filter(|row| row.part == part.name());
                rows.map(|row| (row.size.unsigned_abs() as usize, row.accuracy)).collect()
            };
            let found = smallest_reaching(&on(Part::Dev), dev_all, delta);
            let test = found.and_then(|(size, _)| {
                on(Part::Test).into_iter().find(|(own, _)| *own == size).map(|(_, own)| own)
            });
            let own = own.clone().filter(|row| row.method == method && row.part == "dev");
            rows.push(SmallestRow {
                site: site.place.name.clone(),
                layer: site.place.layer,
                label: label.title(),
                method: method.to_owned(),
                delta,
                size: found.map(|(size, _)| i32::try_from(size).expect("columns are few")),
                share: found.map(|(size, _)| size as f64 / site.place.width as f64),
                dev: found.map(|(_, dev)| dev),
                test,
                dev_all,
                test_all: all(Part::Test),
                area: area(own.filter(|row| row.how == "keep"), site.place.width),
            });
        }
    }
    rows
}

/// Area between the accuracies with the top and with the bottom kept, over the share of neurons.
fn area<'a>(rows: impl Iterator<Item = &'a SubsetRow> + Clone, width: usize) -> Option<f64> {
    let of = |order: &str| -> Vec<(f64, f64)> {
        let own = rows.clone().filter(|row| row.order == order);
        own.map(|row| (f64::from(row.size) / width as f64, row.accuracy)).collect()
    };
    let (top, bottom) = (of("top"), of("bottom"));
    if top.len() < 2 || bottom.len() != top.len() {
        return None;
    }
    let apart: Vec<(f64, f64)> =
        top.iter().zip(&bottom).map(|(top, bottom)| (top.0, top.1 - bottom.1)).collect();
    Some(apart.windows(2).map(|p| (p[1].0 - p[0].0) * (p[0].1 + p[1].1) / 2.0).sum())
}
