//! Counts, sums and largest values side by side, where a pass needs no groups.

use super::codec::{Reader, put};
use super::run::{counts_from_slice, counts_to_array};
use super::{Merge, State};
use crate::corpus::block::Counts;
use crate::error::Result;

/// How many numbers there are of each kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TallyPlan {
    /// Whole numbers that are added.
    pub whole: usize,
    /// Numbers that are added.
    pub sums: usize,
    /// Numbers of which the largest stays.
    pub largest: usize,
}

/// What was counted, summed and largest.
#[derive(Clone, Debug, PartialEq)]
pub struct Tally {
    /// What was read.
    pub counts: Counts,
    /// `[W]`.
    pub whole: Vec<u64>,
    /// `[S]`.
    pub sums: Vec<f64>,
    /// `[M]`, from 0 on.
    pub largest: Vec<f32>,
}

impl Tally {
    /// Nothing seen yet.
    pub fn new(plan: TallyPlan) -> Self {
        Self {
            counts: Counts::default(),
            whole: vec![0; plan.whole],
            sums: vec![0.0; plan.sums],
            largest: vec![0.0; plan.largest],
        }
    }
}

impl Merge for Tally {
    fn merge(&mut self, later: Self) -> Result<()> {
        let lengths = |one: &Self| (one.whole.len(), one.sums.len(), one.largest.len());
        assert_eq!(lengths(self), lengths(&later), "only states of one run merge");
        self.counts += later.counts;
        self.whole.iter_mut().zip(later.whole).for_each(|(a, b)| *a += b);
        self.sums.iter_mut().zip(later.sums).for_each(|(a, b)| *a += b);
        self.largest.iter_mut().zip(later.largest).for_each(|(a, b)| *a = a.max(b));
        Ok(())
    }
}

impl State for Tally {
    type Plan = TallyPlan;

    fn counts(&self) -> Counts {
        self.counts
    }

    fn encode(&self, out: &mut Vec<u8>) {
        put(out, &counts_to_array(&self.counts));
        put(out, &self.whole);
        put(out, &self.sums);
        put(out, &self.largest);
    }

    fn decode(plan: &TallyPlan, bytes: &[u8]) -> Result<Self> {
        let mut reader = Reader::new(bytes);
        let state = Self {
            counts: counts_from_slice(&reader.take::<u64>(10)?),
            whole: reader.take(plan.whole)?,
            sums: reader.take(plan.sums)?,
            largest: reader.take(plan.largest)?,
        };
        reader.finish()?;
        Ok(state)
    }
}
