//! What changing neurons does to a number, question by question: counts, sums and sums of squares
//! for each group of questions (A13 and A14). Group 0 is all questions.

use super::codec::{Reader, put, put_len};
use super::run::{counts_from_slice, counts_to_array, damaged};
use super::{Merge, State};
use crate::corpus::block::Counts;
use crate::error::Result;

/// One measure: a vector of numbers for each question.
#[derive(Clone, Debug, PartialEq)]
pub struct Effects {
    width: usize,
    /// Questions of each group, `[G + 1]`.
    count: Vec<u64>,
    /// `[G + 1, N]`.
    sum: Vec<f64>,
    /// `[G + 1, N]`.
    square: Vec<f64>,
}

/// Mean and spread of a number.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Spread {
    /// Questions.
    pub n: u64,
    /// Mean over them.
    pub mean: f64,
    /// Standard error of the mean; 0 for fewer than two.
    pub error: f64,
}

impl Effects {
    /// Nothing seen yet.
    pub fn new(groups: usize, width: usize) -> Self {
        let cells = (groups + 1) * width;
        Self { width, count: vec![0; groups + 1], sum: vec![0.0; cells], square: vec![0.0; cells] }
    }

    /// Numbers of a question, for each group that it belongs to beside all.
    pub fn add(&mut self, group: Option<u32>, values: impl Iterator<Item = f64> + Clone) {
        let own = group.map(|group| group as usize + 1);
        for group in std::iter::once(0).chain(own) {
            self.count[group] += 1;
            let cells = group * self.width..(group + 1) * self.width;
            let (sum, square) = (&mut self.sum[cells.clone()], &mut self.square[cells]);
            for ((sum, square), value) in sum.iter_mut().zip(square).zip(values.clone()) {
                *sum += value;
                *square += value * value;
            }
        }
    }

    /// Numbers of a question.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Groups, that of all questions included.
    pub fn groups(&self) -> usize {
        self.count.len()
    }

    /// Questions of a group; 0 is all.
    pub fn count(&self, group: usize) -> u64 {
        self.count[group]
    }

    /// A number of a group.
    pub fn spread(&self, group: usize, index: usize) -> Spread {
        let n = self.count[group];
        if n == 0 {
            return Spread::default();
        }
        let (cell, count) = (group * self.width + index, n as f64);
        let mean = self.sum[cell] / count;
        let variance = (self.square[cell] / count - mean * mean).max(0.0);
        let error = if n > 1 { (variance / (count - 1.0)).sqrt() } else { 0.0 };
        Spread { n, mean, error }
    }
}

/// All measures of a block of questions.
#[derive(Clone, Debug, PartialEq)]
pub struct EffectState {
    /// What was read.
    pub counts: Counts,
    /// In the order of the plan.
    pub measures: Vec<Effects>,
}

/// Groups, and numbers of each measure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EffectPlan {
    /// Groups of questions, without that of all.
    pub groups: usize,
    /// Numbers of each measure.
    pub widths: Vec<usize>,
}

impl EffectState {
    /// Nothing seen yet.
    pub fn new(plan: &EffectPlan) -> Self {
        let measures = plan.widths.iter().map(|&width| Effects::new(plan.groups, width));
        Self { counts: Counts::default(), measures: measures.collect() }
    }
}

impl Merge for EffectState {
    fn merge(&mut self, later: Self) -> Result<()> {
        assert_eq!(self.measures.len(), later.measures.len(), "only states of one run merge");
        self.counts += later.counts;
        for (ours, theirs) in self.measures.iter_mut().zip(later.measures) {
            assert_eq!(ours.sum.len(), theirs.sum.len(), "only states of one run merge");
            ours.count.iter_mut().zip(theirs.count).for_each(|(a, b)| *a += b);
            ours.sum.iter_mut().zip(theirs.sum).for_each(|(a, b)| *a += b);
            ours.square.iter_mut().zip(theirs.square).for_each(|(a, b)| *a += b);
        }
        Ok(())
    }
}

impl State for EffectState {
    type Plan = EffectPlan;

    fn counts(&self) -> Counts {
        self.counts
    }

    fn encode(&self, out: &mut Vec<u8>) {
        put(out, &counts_to_array(&self.counts));
        put_len(out, self.measures.len());
        for effects in &self.measures {
            put_len(out, effects.count.len());
            put(out, &effects.count);
            put_len(out, effects.sum.len());
            put(out, &effects.sum);
            put(out, &effects.square);
        }
    }

    fn decode(plan: &EffectPlan, bytes: &[u8]) -> Result<Self> {
        let mut reader = Reader::new(bytes);
        let mut state = Self::new(plan);
        state.counts = counts_from_slice(&reader.take::<u64>(10)?);
        let measures = reader.length()?;
        if measures != state.measures.len() {
            return Err(damaged(format!("{measures} measures, the run has {}", plan.widths.len())));
        }
        for effects in &mut state.measures {
            let (groups, cells) = (effects.count.len(), effects.sum.len());
            if reader.length()? != groups {
                return Err(damaged("another number of groups".into()));
            }
            effects.count = reader.take(groups)?;
            if reader.length()? != cells {
                return Err(damaged("another number of neurons".into()));
            }
            effects.sum = reader.take(cells)?;
            effects.square = reader.take(cells)?;
        }
        reader.finish()?;
        Ok(state)
    }
}
