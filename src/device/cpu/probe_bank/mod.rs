//! probe_bank: linear probes trained on rows as they come by.
//!
//! Heads of one task and one loss stand side by side in the panels of a *unit* (`unit.rs`), each with its
//! weights, its gradient and its solver's state in a cache of its own. Units share nothing and run beside
//! each other over all rows of a call; where there are fewer than threads, a unit divides its rows and its
//! columns of the site. Both ways each element is one chain of sums over inputs, or over rows, in order:
//! no bit depends on the number of threads, or on where rows are cut into calls.

mod losses;
mod penalties;
mod proximal;
mod solver;
mod unit;

use rayon::prelude::*;

use self::unit::{Saved, Scratch, Unit};
use super::{CpuDevice, Tensor};
use crate::device::probe_ops::{BankPlan, BankState, Feed, Measures, ProbeOps, Progress, TaskRows};
use crate::device::probe_units::{check_plan, check_rows, units};
use crate::error::Result;

/// Columns of a panel, at most.
const WIDEST: usize = super::panels::PANEL;

/// Probes of one site.
#[derive(Debug)]
pub struct Bank {
    plan: BankPlan,
    units: Vec<Unit>,
}

impl Bank {
    /// What its units tell of their heads, by head.
    fn by_head<T: Default + Clone + Send>(
        &mut self,
        ask: impl Fn(&mut Unit) -> Vec<T> + Send + Sync,
    ) -> Vec<T> {
        let answers: Vec<Vec<T>> = self.units.par_iter_mut().map(ask).collect();
        let mut out = vec![T::default(); self.plan.heads.len()];
        for (unit, answers) in self.units.iter().zip(answers) {
            for (place, answer) in unit.places().iter().zip(answers) {
                out[place.head] = answer;
            }
        }
        out
    }
}

impl ProbeOps for CpuDevice {
    type Bank = Bank;

    fn bank(&self, plan: &BankPlan, weights: &[f32], biases: &[f32]) -> Result<Bank> {
        check_plan(plan, weights, biases);
        let units = units(&plan.heads, WIDEST);
        let units = units.into_iter().map(|unit| Unit::new(unit, plan, (weights, biases)));
        Ok(Bank { units: units.collect(), plan: plan.clone() })
    }

    fn feed(&self, bank: &mut Bank, x: &Tensor, tasks: &[TaskRows<'_>], what: Feed) {
        assert_eq!(x.cols(), bank.plan.inputs);
        assert!(!matches!(what, Feed::Train { batch: 0 }), "a batch has rows");
        check_rows(&bank.plan, x.rows(), tasks);
        let threads = rayon::current_num_threads();
        let threads = if bank.units.len() < threads { threads } else { 1 };
        bank.units.par_iter_mut().for_each_init(Scratch::default, |scratch, unit| {
            unit.feed((x, tasks[unit.task()]), what, (scratch, threads));
        });
    }

    fn end_pass(&self, bank: &mut Bank, what: Feed) {
        bank.units.par_iter_mut().for_each(|unit| unit.end_pass(what));
    }

    fn proximal(&self, bank: &mut Bank, steps: &[f32]) -> Result<Vec<Progress>> {
        assert_eq!(steps.len(), bank.plan.heads.len());
        Ok(bank.by_head(|unit| {
            let steps: Vec<f32> = unit.places().iter().map(|place| steps[place.head]).collect();
            unit.proximal(&steps)
        }))
    }

    fn take_measures(&self, bank: &mut Bank) -> Result<Vec<Measures>> {
        Ok(bank.by_head(Unit::take_measures))
    }

    fn read_bank(&self, bank: &Bank) -> Result<(Vec<f32>, Vec<f32>)> {
        let columns = bank.plan.columns();
        let mut out = (vec![0.0; columns * bank.plan.inputs], vec![0.0; columns]);
        for unit in &bank.units {
            unit.read((&mut out.0, &mut out.1));
        }
        Ok(out)
    }

    fn save_bank(&self, bank: &Bank) -> Result<BankState> {
        let mut state = BankState::default();
        for unit in &bank.units {
            unit.save(&mut state.arrays, &mut state.numbers);
        }
        Ok(state)
    }

    fn restore_bank(&self, bank: &mut Bank, state: &BankState) -> Result<bool> {
        let (mut arrays, mut numbers) = (&state.arrays[..], &state.numbers[..]);
        let units = bank.units.iter();
        let saved: Option<Vec<Saved>> =
            units.map(|unit| unit.saved(&mut arrays, &mut numbers)).collect();
        let Some(saved) = saved.filter(|_| arrays.is_empty() && numbers.is_empty()) else {
            return Ok(false);
        };
        bank.units.iter_mut().zip(saved).for_each(|(unit, saved)| unit.restore(saved));
        Ok(true)
    }
}
