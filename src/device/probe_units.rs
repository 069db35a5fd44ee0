//! Units of a bank of probes: heads of one task and one loss that a device trains together, side by side
//! in the columns of one product. Nothing is shared between units, so that each goes its own way.

use super::probe_ops::{BankPlan, Head, ProbeLoss, TaskRows};

/// Where a head stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// Its number in the bank.
    pub(super) head: usize,
    /// First of its columns in the unit.
    pub(super) first: usize,
    /// First of its columns in the bank.
    pub(super) column: usize,
    /// Columns of it.
    pub(super) columns: usize,
}

/// A unit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Unit {
    /// Whose rows it reads.
    pub(super) task: usize,
    /// Of all its heads.
    pub(super) loss: ProbeLoss,
    /// Its heads, one beside the other.
    pub(super) places: Vec<Place>,
    /// Columns of all of them.
    pub(super) columns: usize,
}

/// Packs heads into units of at most `widest` columns: each into the first that has room. A head of more
/// columns is a unit of its own.
pub(super) fn units(heads: &[Head], widest: usize) -> Vec<Unit> {
    let mut units: Vec<Unit> = Vec::new();
    let mut column = 0;
    for (number, head) in heads.iter().enumerate() {
        let fits = |unit: &&mut Unit| {
            (unit.task, unit.loss) == (head.task, head.loss)
                && unit.columns + head.columns <= widest
        };
        let place = |first| Place { head: number, first, column, columns: head.columns };
        match units.iter_mut().find(fits) {
            Some(unit) => {
                unit.places.push(place(unit.columns));
                unit.columns += head.columns;
            }
            None => units.push(Unit {
                task: head.task,
                loss: head.loss,
                places: vec![place(0)],
                columns: head.columns,
            }),
        }
        column += head.columns;
    }
    units
}

/// That a plan and its first weights are whole.
pub(super) fn check_plan(plan: &BankPlan, weights: &[f32], biases: &[f32]) {
    let columns = plan.columns();
    assert_eq!((weights.len(), biases.len()), (columns * plan.inputs, columns));
    assert!(plan.inputs > 0, "probes read columns");
    assert!(plan.masks.as_ref().is_none_or(|masks| masks.len() == weights.len()));
    for head in &plan.heads {
        assert!(head.task < plan.tasks, "a head of task {} of {}", head.task, plan.tasks);
        assert!(head.columns > 0 && (head.columns == 1 || head.loss == ProbeLoss::Softmax));
        assert!([head.l1, head.l2, head.rate].iter().all(|x| x.is_finite() && *x >= 0.0));
    }
}

/// That the rows of a call lie within a tensor of so many rows, and that targets are what the heads of
/// their task can say.
pub(super) fn check_rows(plan: &BankPlan, rows: usize, tasks: &[TaskRows<'_>]) {
    assert_eq!(tasks.len(), plan.tasks);
    for task in tasks {
        assert_eq!(task.rows.len(), task.targets.len());
        assert!(task.rows.iter().all(|row| (*row as usize) < rows), "a row beyond the tensor's");
    }
    let mut known = vec![f32::INFINITY; plan.tasks];
    for head in plan.heads.iter().filter(|head| classes(head) > 0) {
        known[head.task] = known[head.task].min(classes(head) as f32);
    }
    for (task, known) in tasks.iter().zip(known) {
        let is_class = |target: &f32| target.fract() == 0.0 && (0.0..known).contains(target);
        let fits = known.is_infinite() || task.targets.iter().all(is_class);
        assert!(fits, "a class beyond the {known} of a head");
    }
}

/// Classes of a head as measures count them: none where numbers are asked for.
pub(super) fn classes(head: &Head) -> usize {
    match head.loss {
        ProbeLoss::Softmax => head.columns,
        ProbeLoss::Logistic => 2,
        ProbeLoss::Squared => 0,
    }
}

#[cfg(test)]
mod tests {
    //! Oracle: by hand.
    use super::*;

    fn head(task: usize, columns: usize) -> Head {
        let loss = if columns == 1 { ProbeLoss::Logistic } else { ProbeLoss::Softmax };
        Head { task, columns, loss, l1: 0.0, l2: 0.0, norm: false, rate: 1e-3 }
    }

    #[test]
    fn heads_share_a_unit_where_they_may() {
        let heads = [head(0, 30), head(1, 30), head(0, 30), head(0, 70), head(0, 4), head(0, 1)];
        let units = units(&heads, 64);
        let shape: Vec<_> = units.iter().map(|unit| (unit.task, unit.columns)).collect();
        assert_eq!(shape, [(0, 64), (1, 30), (0, 70), (0, 1)]);
        let places = units.iter().flat_map(|unit| &unit.places);
        let places: Vec<_> = places.map(|p| (p.head, p.first, p.column)).collect();
        let want = [(0, 0, 0), (2, 30, 60), (4, 60, 160), (1, 0, 30), (3, 0, 90), (5, 0, 164)];
        assert_eq!(places, want);
    }
}
