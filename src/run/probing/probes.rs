//! The probes of a file: for every site each label, with control labels beside it, at each penalty and
//! seed.

use super::config::{Objective, PenaltyConfig, ProbingConfig, SolverName, Target};
use super::tasks::{Label, Tasks};
use crate::device::probe_ops::ProbeLoss;
use crate::probe::bank::Probe;
use crate::probe::split::Part;
use crate::probe::train::Solver;

/// Whose a probe is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Which {
    /// Number of the label.
    pub(super) label: usize,
    /// On control labels.
    pub(super) control: bool,
    /// Number of the penalty.
    pub(super) penalty: usize,
    /// Number of the seed.
    pub(super) seed: usize,
}

/// Every probe of a site.
pub(super) fn probes(config: &ProbingConfig, tasks: &Tasks) -> Vec<(Which, Probe)> {
    let mut list = Vec::new();
    for (label, own) in tasks.labels.iter().enumerate() {
        for penalty in 0..config.penalties.len() {
            for seed in 0..config.probes.seeds.len() {
                for control in [false, true] {
                    let which = Which { label, control, penalty, seed };
                    if let Some(task) = task_of(own, which) {
                        list.push((which, probe(config, tasks, (which, task))));
                    }
                }
            }
        }
    }
    list
}

/// The task of a probe; none where there are no control labels.
pub(super) fn task_of(label: &Label, which: Which) -> Option<usize> {
    match which.control {
        false => Some(label.task),
        true => label.controls.get(which.seed).copied(),
    }
}

/// One probe over all columns of a site.
pub(super) fn probe(config: &ProbingConfig, tasks: &Tasks, (which, task): (Which, usize)) -> Probe {
    let rows = tasks.list[task].part(Part::Train).len();
    let penalty = penalty(config.probes.objective, config.penalties[which.penalty], rows);
    Probe {
        task,
        classes: tasks.list[task].classes,
        loss: match config.probes.target {
            Target::Classes => ProbeLoss::Softmax,
            Target::OneVsRest => ProbeLoss::Logistic,
            Target::Number => ProbeLoss::Squared,
        },
        l1: penalty.l1,
        l2: penalty.l2,
        norm: config.probes.objective == Objective::Neurox,
        rate: config.probes.rate,
        // The optimum does not depend on where one begins: 0 is nearest.
        seed: (config.probes.solver == SolverName::Adam).then(|| config.probes.seeds[which.seed]),
        inputs: None,
    }
}

/// The penalty beside the mean loss: that beside the sum of losses, over the rows.
pub(super) fn penalty(objective: Objective, own: PenaltyConfig, rows: usize) -> PenaltyConfig {
    let over = match objective {
        Objective::Paper => rows.max(1) as f64,
        Objective::Mean | Objective::Neurox => 1.0,
    };
    PenaltyConfig { l1: own.l1 / over, l2: own.l2 / over }
}

/// How they are trained.
pub(super) fn solver(config: &ProbingConfig) -> Solver {
    let probes = &config.probes;
    match probes.solver {
        SolverName::Adam => Solver::Adam {
            epochs: probes.epochs,
            batch: probes.batch,
            shuffle: probes.shuffle.then(|| probes.seeds[0]),
        },
        SolverName::Fista => {
            Solver::Fista { tolerance: probes.tolerance, iterations: probes.iterations }
        }
    }
}
