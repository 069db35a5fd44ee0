//! A bank of probes between two passes of its solver, to the host and back.

use super::context::Context;
use super::probe_bank::{Bank, Solver};
use crate::device::probe_ops::BankState;
use crate::error::Result;

impl Bank {
    /// Weights, then Adam's moments or FISTA's point, cell by cell; which solver, and the steps of each task
    /// or the t of each head. Gradients and losses are spent between two passes.
    pub(super) fn save(&self, context: &Context) -> Result<BankState> {
        assert!(self.tasks.iter().all(|task| task.waiting == 0), "a pass has not ended");
        let kept = match self.solver {
            Solver::None => vec![&self.weights],
            Solver::Adam => vec![&self.weights, &self.first, &self.second],
            Solver::Fista => vec![&self.weights, &self.first],
        };
        let mut arrays = vec![0.0_f32; kept.len() * self.tables.cells];
        for (buffer, values) in kept.into_iter().zip(arrays.chunks_mut(self.tables.cells.max(1))) {
            context.download(buffer, values)?;
        }
        let mut numbers = vec![f64::from(self.solver as u8)];
        match self.solver {
            Solver::None => {}
            Solver::Adam => numbers.extend(self.tasks.iter().map(|task| f64::from(task.steps))),
            Solver::Fista => {
                let mut momenta = vec![0.0_f64; self.plan.heads.len()];
                context.download(&self.momenta, &mut momenta)?;
                numbers.extend(momenta);
            }
        }
        Ok(BankState { arrays, numbers })
    }

    /// Takes it back; false if it is of no such bank.
    #[expect(clippy::cast_possible_truncation, reason = "they were counts")]
    pub(super) fn restore(&mut self, context: &Context, state: &BankState) -> Result<bool> {
        let cells = self.tables.cells;
        let Some((kind, numbers)) = state.numbers.split_first() else { return Ok(false) };
        let all = [Solver::None, Solver::Adam, Solver::Fista];
        let due = [(1, 0), (3, self.tasks.len()), (2, self.plan.heads.len())];
        let known = all.into_iter().zip(due).find(|(own, _)| f64::from(*own as u8) == *kind);
        let Some((solver, (arrays, count))) = known else { return Ok(false) };
        if state.arrays.len() != arrays * cells || numbers.len() != count {
            return Ok(false);
        }
        context.fill_words(&self.sums, 0)?;
        context.fill_words(&self.second, 0)?;
        for (buffer, values) in [&self.weights, &self.first, &self.second]
            .into_iter()
            .zip(state.arrays.chunks(cells.max(1)))
        {
            context.write(buffer, values)?;
        }
        self.tasks.iter_mut().for_each(|task| task.waiting = 0);
        match solver {
            Solver::None => {}
            Solver::Adam => {
                let tasks = self.tasks.iter_mut().zip(numbers);
                tasks.for_each(|(task, steps)| task.steps = *steps as i32);
            }
            Solver::Fista => context.write(&self.momenta, numbers)?,
        }
        self.solver = solver;
        Ok(true)
    }
}
