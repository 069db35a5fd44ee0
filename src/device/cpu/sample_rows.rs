//! sample_rows: a uniform sample of whole rows, the ones with the smallest hash of (seed, row)
//! (A10 of the accumulators). Which rows are kept depends on no order, so samples merge.

use super::statistics::Activations;
use crate::device::rows::BatchRows;
use crate::device::statistics::{RowSample, StatisticsPlan};
use crate::hash::{GAMMA, mix};
use crate::id::RowId;

/// The hash that chooses rows: two rounds of the SplitMix64 finaliser (Steele, Lea and Flood,
/// OOPSLA 2014), first over the seed, then over the row. Part of the file format: never changed.
pub fn row_hash(seed: u64, row: RowId) -> u64 {
    mix(mix(seed.wrapping_add(GAMMA)) ^ row.0)
}

/// Adds a batch.
pub(crate) fn update(
    plan: &StatisticsPlan,
    sample: &mut RowSample,
    rows: &BatchRows,
    x: Activations<'_>,
) {
    if sample.capacity == 0 {
        return;
    }
    let full = sample.hashes.len() == sample.capacity;
    let worst = full.then(|| (sample.hashes.last().copied(), sample.rows.last().copied()));
    let mut found = RowSample { capacity: sample.capacity, ..RowSample::default() };
    let mut chosen: Vec<(u64, RowId, usize)> = rows
        .ids
        .iter()
        .enumerate()
        .map(|(r, &id)| (row_hash(plan.sample_seed, id), id, r))
        .filter(|&(hash, id, _)| worst.is_none_or(|worst| (Some(hash), Some(id)) < worst))
        .collect();
    if chosen.is_empty() {
        return;
    }
    chosen.sort_unstable();
    chosen.truncate(sample.capacity);
    found.group_starts.push(0);
    for (hash, id, r) in chosen {
        let start = rows.source[r] as usize * x.stride;
        found.push(hash, id, rows.groups_of(r), &x.x[start..start + plan.neurons]);
    }
    sample.merge(found, plan.neurons);
}

impl RowSample {
    /// Appends a row; the caller keeps the order.
    fn push(&mut self, hash: u64, row: RowId, groups: &[u32], values: &[f32]) {
        self.hashes.push(hash);
        self.rows.push(row);
        self.groups.extend_from_slice(groups);
        self.group_starts.push(u32::try_from(self.groups.len()).expect("a sample is small"));
        self.values.extend_from_slice(values);
    }

    /// Keeps the rows with the smallest hashes of both samples; `neurons` is the width of a row.
    pub(crate) fn merge(&mut self, other: Self, neurons: usize) {
        if other.hashes.is_empty() {
            return;
        }
        let mut merged = Self { capacity: self.capacity, group_starts: vec![0], ..Self::default() };
        let (mut a, mut b) = (0, 0);
        while merged.hashes.len() < merged.capacity {
            let from_self = match (self.order(a), other.order(b)) {
                (Some(left), Some(right)) => left <= right,
                (left, right) if left.is_none() && right.is_none() => break,
                (left, _) => left.is_some(),
            };
            let (source, at) = if from_self { (&*self, &mut a) } else { (&other, &mut b) };
            let groups = source.group_starts[*at] as usize..source.group_starts[*at + 1] as usize;
            merged.push(
                source.hashes[*at],
                source.rows[*at],
                &source.groups[groups],
                &source.values[*at * neurons..(*at + 1) * neurons],
            );
            *at += 1;
        }
        *self = merged;
    }

    /// What the rows of a sample are sorted by.
    fn order(&self, at: usize) -> Option<(u64, RowId)> {
        Some((*self.hashes.get(at)?, self.rows[at]))
    }
}
