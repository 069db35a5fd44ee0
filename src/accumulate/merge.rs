//! How two states of the statistics of a site become one: sums add, ranges widen, lists and
//! samples select by a total order.

use crate::device::cpu::top_tokens::precedes;
use crate::device::statistics::{SiteStatistics, StatisticsPlan, TopTokens};
use crate::error::{Error, Result};
use crate::id::RowId;

impl SiteStatistics {
    /// Absorbs the statistics of later rows, filled by the same plan.
    ///
    /// Refused where a count could pass 2^32 - 1, the largest that histograms hold.
    pub fn merge(&mut self, later: Self, plan: &StatisticsPlan) -> Result<()> {
        if self.rows[0].saturating_add(later.rows[0]) > u64::from(u32::MAX) {
            return Err(Error::config(
                "corpus.files",
                "more than 4,294,967,295 rows, the most that one run counts",
                "split the corpus over several runs",
            ));
        }
        add(&mut self.rows, &later.rows);
        add(&mut self.non_finite, &later.non_finite);
        add(&mut self.sum, &later.sum);
        add(&mut self.square, &later.square);
        add(&mut self.firing, &later.firing);
        add(&mut self.histogram, &later.histogram);
        // Of equal values (0 and -0) the earlier one stays, as in the kernels.
        for (min, &x) in self.min.iter_mut().zip(&later.min) {
            *min = if x < *min { x } else { *min };
        }
        for (max, &x) in self.max.iter_mut().zip(&later.max) {
            *max = if x > *max { x } else { *max };
        }
        merge_lists::<false>(&mut self.top, &later.top);
        merge_lists::<true>(&mut self.bottom, &later.bottom);
        self.sample.merge(later.sample, plan.neurons);
        Ok(())
    }
}

fn add<T: Copy + std::ops::AddAssign>(into: &mut [T], from: &[T]) {
    assert_eq!(into.len(), from.len(), "both states were made by one plan");
    for (into, &from) in into.iter_mut().zip(from) {
        *into += from;
    }
}

/// Merges the lists of all neurons; `BOTTOM` where the smallest values are kept.
fn merge_lists<const BOTTOM: bool>(into: &mut TopTokens, from: &TopTokens) {
    assert_eq!((into.k, into.len.len()), (from.k, from.len.len()));
    let mut merged: Vec<(f32, RowId)> = Vec::with_capacity(into.k);
    for neuron in 0..into.len.len() {
        let (left, right) = (into.list(neuron), from.list(neuron));
        let (mut a, mut b) = (0, 0);
        merged.clear();
        while merged.len() < into.k && (a < left.0.len() || b < right.0.len()) {
            let take_left = match (entry(left, a), entry(right, b)) {
                (Some(left), Some(right)) => !precedes::<BOTTOM>(right, left),
                (left, _) => left.is_some(),
            };
            let (side, at) = if take_left { (left, &mut a) } else { (right, &mut b) };
            merged.push((side.0[*at], side.1[*at]));
            *at += 1;
        }
        into.set_list(neuron, &merged);
    }
}

fn entry((values, rows): (&[f32], &[RowId]), at: usize) -> Option<(f32, RowId)> {
    Some((*values.get(at)?, *rows.get(at)?))
}

impl TopTokens {
    /// The values of one neuron, best first, and their rows.
    pub fn list(&self, neuron: usize) -> (&[f32], &[RowId]) {
        let filled = neuron * self.k..neuron * self.k + self.len[neuron] as usize;
        (&self.values[filled.clone()], &self.rows[filled])
    }

    fn set_list(&mut self, neuron: usize, list: &[(f32, RowId)]) {
        let start = neuron * self.k;
        self.len[neuron] = u32::try_from(list.len()).expect("lists are short");
        for (place, &(value, row)) in list.iter().enumerate() {
            self.values[start + place] = value;
            self.rows[start + place] = row;
        }
    }
}
