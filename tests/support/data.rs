//! Random activations with labels, and the statistics of them by the definition: plain loops in
//! f64 over all rows, the oracle (O-brute) of the kernels and of the laws.

use std::ops::Range;

use electrode::corpus::batch::Batch;
use electrode::device::cpu::statistics::{Activations, update_all};
use electrode::device::rows::BatchRows;
use electrode::device::statistics::{SiteStatistics, StatisticsPlan};
use electrode::id::RowId;

/// Label groups of [`Data`]: a column of 3 classes and one of 2, each with rows outside it.
pub(crate) const GROUPS: usize = 5;

/// Rows of one site.
#[derive(Clone, Debug)]
pub(crate) struct Data {
    pub(crate) neurons: usize,
    pub(crate) ids: Vec<RowId>,
    pub(crate) groups: Vec<Vec<u32>>,
    pub(crate) x: Vec<f32>,
}

/// A small generator of its own, so that the data are the same for ever (SplitMix64).
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let x = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    }

    pub(crate) fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    /// Roughly normal, sd 1.
    pub(crate) fn normal(&mut self) -> f32 {
        (0..4).map(|_| (self.below(2001) as f32 - 1000.0) / 1000.0).sum::<f32>() * 0.866
    }

    pub(crate) fn shuffle<T>(&mut self, items: &mut [T]) {
        for i in (1..items.len()).rev() {
            items.swap(i, self.below(i as u64 + 1) as usize);
        }
    }
}

/// Smooth neurons, neurons that are 0 half of the time, and neurons with few distinct values.
pub(crate) fn data(seed: u64, rows: usize, neurons: usize) -> Data {
    let mut random = Random(seed);
    let mut data = Data { neurons, ids: vec![], groups: vec![], x: vec![] };
    for row in 0..rows as u64 {
        data.ids.push(RowId::new(row / 7, row % 7));
        let mut groups = vec![];
        match random.below(4) {
            3 => {}
            class => groups.push(class as u32),
        }
        match random.below(3) {
            2 => {}
            class => groups.push(3 + class as u32),
        }
        data.groups.push(groups);
        for neuron in 0..neurons {
            let x = random.normal() + neuron as f32 * 0.1;
            data.x.push(match neuron % 3 {
                0 => x,
                1 => x.max(0.0),
                _ => (x * 2.0).round(),
            });
        }
    }
    data
}

/// Everything that can be collected, in small.
pub(crate) fn plan(neurons: usize, bins: usize) -> StatisticsPlan {
    let edges = (0..neurons).flat_map(|neuron| {
        (1..bins).map(move |bin| (bin as f32 / bins as f32 - 0.5) * 4.0 + neuron as f32 * 0.1)
    });
    StatisticsPlan {
        neurons,
        groups: GROUPS,
        bins,
        edges: edges.collect(),
        shift: (0..neurons).map(|neuron| neuron as f32 * 0.1).collect(),
        top: 6,
        bottom: 4,
        sample: 9,
        sample_seed: 11,
    }
}

impl Data {
    /// Adds some of the rows to the statistics, `batch` of them at a time.
    pub(crate) fn fill(
        &self,
        plan: &StatisticsPlan,
        statistics: &mut SiteStatistics,
        rows: Range<usize>,
        batch: usize,
    ) {
        for start in rows.clone().step_by(batch.max(1)) {
            let end = (start + batch).min(rows.end);
            let mut starts = vec![0];
            let mut groups = vec![];
            for row in start..end {
                groups.extend_from_slice(&self.groups[row]);
                starts.push(groups.len() as u32);
            }
            let ids = &self.ids[start..end];
            let rows = batch_rows(ids, None, (starts, groups), plan.groups);
            let x = &self.x[start * self.neurons..end * self.neurons];
            update_all(plan, statistics, &rows, Activations { x, stride: self.neurons });
        }
    }

    /// The statistics of some rows, in batches of 50.
    pub(crate) fn statistics(&self, plan: &StatisticsPlan, rows: Range<usize>) -> SiteStatistics {
        let mut statistics = SiteStatistics::new(plan);
        self.fill(plan, &mut statistics, rows, 50);
        statistics
    }

    /// Finite values of a neuron in a group (0 is all rows), with their rows.
    pub(crate) fn values(&self, group: usize, neuron: usize) -> Vec<(f32, RowId)> {
        (0..self.ids.len())
            .filter(|&row| group == 0 || self.groups[row].contains(&(group as u32 - 1)))
            .map(|row| (self.x[row * self.neurons + neuron], self.ids[row]))
            .filter(|(x, _)| x.is_finite())
            .collect()
    }

    /// Rows of a group.
    pub(crate) fn rows_of(&self, group: usize) -> usize {
        self.groups.iter().filter(|of| group == 0 || of.contains(&(group as u32 - 1))).count()
    }
}

/// |ours - want| relative to the larger of |want| and `scale`.
pub(crate) fn relative(ours: f64, want: f64, scale: f64) -> f64 {
    (ours - want).abs() / want.abs().max(scale)
}

/// The rows of a batch made of these lists.
pub(crate) fn batch_rows(
    ids: &[RowId],
    source: Option<&[u32]>,
    (group_starts, groups): (Vec<u32>, Vec<u32>),
    group_count: usize,
) -> BatchRows {
    let batch = Batch { row_ids: ids.to_vec(), group_starts, groups, ..Batch::default() };
    BatchRows::new(&batch, source, group_count)
}
