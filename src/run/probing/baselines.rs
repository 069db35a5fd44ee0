//! What is right without any activation: the most frequent class, of all rows and of each word type.

use std::collections::BTreeMap;

use super::probes::Which;
use super::tasks::{Label, Tasks};
use crate::probe::rows::NONE;
use crate::probe::split::Part;
use crate::probe::tasks::Task;

/// What needs no activations.
pub(super) struct Baselines {
    /// By task and part.
    majority: Vec<[f64; 3]>,
    by_type: Option<Vec<[f64; 3]>>,
    /// By label: its task and control tasks.
    tasks: Vec<(usize, Vec<usize>)>,
}

impl Baselines {
    /// Majorities of the training rows: of all of them, and of each word type.
    pub(super) fn new(tasks: &Tasks) -> Self {
        let majority = tasks.list.iter().map(|task| {
            let classes = task.classes.max(1);
            let train = task.part(Part::Train);
            let counts = if task.classes == 0 { vec![0] } else { train.counts(classes) };
            let most = largest(&counts) as f32;
            Part::ALL
                .map(|part| share(task.part(part).targets.iter().map(|target| *target == most)))
        });
        let by_type = tasks.types.as_ref().map(|types| {
            let one = |task| type_majority(task, types);
            tasks.list.iter().map(one).collect()
        });
        let numbers = |label: &Label| (label.task, label.controls.clone());
        Self {
            majority: majority.collect(),
            by_type,
            tasks: tasks.labels.iter().map(numbers).collect(),
        }
    }

    fn task(&self, which: Which) -> usize {
        let (task, controls) = &self.tasks[which.label];
        if which.control { controls[which.seed] } else { *task }
    }

    pub(super) fn majority(&self, which: Which, part: Part) -> f64 {
        self.majority[self.task(which)][part as usize]
    }

    pub(super) fn by_type(&self, which: Which, part: Part) -> Option<f64> {
        self.by_type.as_ref().map(|all| all[self.task(which)][part as usize])
    }
}

/// Share of rows whose label is the most frequent one of their word type among the training rows; for
/// types that are not there, of all training rows.
fn type_majority(task: &Task, types: &[u32]) -> [f64; 3] {
    let train = task.part(Part::Train);
    let mut counts: BTreeMap<u32, Vec<u64>> = BTreeMap::new();
    let classes = task.classes.max(1);
    if task.classes == 0 {
        return [0.0; 3];
    }
    for (row, target) in train.rows.iter().zip(&train.targets) {
        let own = counts.entry(types[*row as usize]).or_insert_with(|| vec![0; classes]);
        own[*target as usize] += 1;
    }
    counts.remove(&NONE);
    let most: BTreeMap<u32, usize> =
        counts.into_iter().map(|(form, counts)| (form, largest(&counts))).collect();
    let overall = largest(&train.counts(classes));
    Part::ALL.map(|part| {
        let own = task.part(part);
        let said = |row: &u32| most.get(&types[*row as usize]).copied().unwrap_or(overall) as f32;
        share(own.rows.iter().zip(&own.targets).map(|(row, target)| said(row) == *target))
    })
}

/// The first of the largest.
fn largest(counts: &[u64]) -> usize {
    let mut best = 0;
    for (at, count) in counts.iter().enumerate() {
        if *count > counts[best] {
            best = at;
        }
    }
    best
}

fn share(all: impl ExactSizeIterator<Item = bool>) -> f64 {
    let total = all.len().max(1) as f64;
    all.filter(|own| *own).count() as f64 / total
}
