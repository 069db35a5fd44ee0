//! Bins that wait to be counted, where the counters are many beside the rows of a tile.
//!
//! 101 groups of 64 bins are 26 KB of counters a neuron, 309 MB for the 11,904 of all-MiniLM-L6-v2: to walk
//! through them for every tile costs more than to count. So a row's bin is kept as a byte, and 8,192 rows
//! are counted at a time, group by group: a neuron's bytes and the counters of one group stay in the
//! first-level cache, and its own counters are read and written once. No count changes.

use std::ops::Range;

use rayon::prelude::*;

use crate::device::rows::{BatchRows, TILE, number};
use crate::device::statistics::StatisticsPlan;

/// Rows that wait at most, eight tiles.
const ROWS: usize = 8 * TILE;
/// No bin: the value is not finite.
pub(crate) const NO_BIN: u8 = u8::MAX;
/// Neurons of a task.
const NEURONS: usize = 16;

/// Bytes of a neuron's waiting bins; 0 where tiles are counted as they come: where the counters
/// are few, or the bins too many for a byte.
pub fn bytes(groups1: usize, bins: usize) -> usize {
    if bins <= usize::from(NO_BIN) && groups1 * bins > 4 * TILE { ROWS } else { 0 }
}

/// The bins of some rows of a site, in all neurons.
pub(crate) struct WaitingBins {
    rows: usize,
    /// `[N, ROWS]`.
    bins: Vec<u8>,
    /// (group index, row) where the group is the first of its row; index 0 if it has none.
    first: Vec<(u32, u16)>,
    /// (group index, row) of a row's groups after its first.
    other: Vec<(u32, u16)>,
}

impl WaitingBins {
    /// Room for the plan's neurons, if bins are to wait.
    pub(crate) fn new(plan: &StatisticsPlan) -> Option<Self> {
        let room = plan.neurons * bytes(plan.groups + 1, plan.bins);
        (room > 0).then(|| Self {
            rows: 0,
            bins: vec![0; room],
            first: Vec::new(),
            other: Vec::new(),
        })
    }

    /// How many of these tiles there is room for.
    pub(crate) fn fit(&self, rows: &BatchRows, tiles: Range<usize>) -> usize {
        let start = rows.tiles[tiles.start].rows.start;
        let fits = |at: &usize| self.rows + rows.tiles[*at].rows.end - start <= ROWS;
        tiles.take_while(fits).count()
    }

    /// Takes the groups of some tiles in; their bins are to be written where [`Self::chunks`] says.
    pub(crate) fn push(&mut self, rows: &BatchRows, tiles: Range<usize>) {
        for tile in &rows.tiles[tiles] {
            let at = |row: u32| {
                u16::try_from(self.rows + row as usize).expect("fewer than 2^16 rows wait")
            };
            self.first.extend((0..).zip(&tile.first_groups).map(|(row, &group)| (group, at(row))));
            self.other.extend(tile.other_groups.iter().map(|&(row, group)| (group, at(row))));
            self.rows += tile.rows.len();
        }
    }

    /// The places of so many neurons each, and the row of the next tile among those that wait.
    pub(crate) fn chunks(&mut self, neurons: usize) -> impl Iterator<Item = WaitingChunk<'_>> {
        let next = self.rows;
        self.bins.chunks_mut(neurons * ROWS).map(move |bins| WaitingChunk { bins, next })
    }

    /// Counts all that wait, in `counts` of `[N, G1, B]`; none waits then.
    pub(crate) fn count(&mut self, plan: &StatisticsPlan, counts: &mut [u32]) {
        let groups1 = plan.groups + 1;
        let first = Members::new(&self.first, groups1);
        let other = Members::new(&self.other, groups1);
        let size = groups1 * plan.bins;
        let counts = counts.par_chunks_mut(NEURONS * size);
        counts.zip(self.bins.par_chunks(NEURONS * ROWS)).for_each(|(counts, bins)| {
            for (counts, bins) in counts.chunks_mut(size).zip(bins.chunks(ROWS)) {
                count_neuron(counts, plan.bins, &bins[..self.rows], (&first, &other));
            }
        });
        self.rows = 0;
        self.first.clear();
        self.other.clear();
    }
}

/// The places of some neighbouring neurons.
pub(crate) struct WaitingChunk<'a> {
    /// `[neurons, ROWS]`.
    bins: &'a mut [u8],
    next: usize,
}

impl WaitingChunk<'_> {
    /// Where a neuron's bins go of the next tile, which has so many rows.
    #[inline(always)]
    pub(crate) fn places(&mut self, neuron: usize, rows: usize) -> &mut [u8] {
        &mut self.bins[neuron * ROWS + self.next..][..rows]
    }

    /// Goes on behind a tile of so many rows.
    #[inline(always)]
    pub(crate) fn advance(&mut self, rows: usize) {
        self.next += rows;
    }
}

/// Rows by group.
struct Members {
    /// `[G1 + 1]`.
    starts: Vec<u32>,
    rows: Vec<u16>,
}

impl Members {
    fn new(pairs: &[(u32, u16)], groups1: usize) -> Self {
        let mut starts = vec![0; groups1 + 1];
        for &(group, _) in pairs {
            starts[group as usize + 1] += 1;
        }
        for group in 0..groups1 {
            starts[group + 1] += starts[group];
        }
        let (mut next, mut rows) = (starts.clone(), vec![0; pairs.len()]);
        for &(group, row) in pairs {
            let place = &mut next[group as usize];
            rows[*place as usize] = row;
            *place += 1;
        }
        debug_assert_eq!(next[groups1 - 1], number(pairs.len()));
        Self { starts, rows }
    }

    #[inline(always)]
    fn of(&self, group: usize) -> &[u16] {
        &self.rows[self.starts[group] as usize..self.starts[group + 1] as usize]
    }
}

/// Counts one neuron. Every row has one first group (or none, index 0), so that the sum over first
/// groups is the count of all rows.
fn count_neuron(counts: &mut [u32], width: usize, bins: &[u8], members: (&Members, &Members)) {
    let (all, groups) = counts.split_at_mut(width);
    let mut tally = Tally { even: [0; 256], odd: [0; 256] };
    tally.count(bins, members.0.of(0), width);
    tally.add_to(all);
    for (group, counts) in (1..).zip(groups.chunks_exact_mut(width)) {
        let (first, other) = (members.0.of(group), members.1.of(group));
        if !first.is_empty() {
            tally.count(bins, first, width);
            tally.add_to(all);
            tally.add_to(counts);
        }
        if !other.is_empty() {
            tally.count(bins, other, width);
            tally.add_to(counts);
        }
    }
}

/// Counts of some rows by bin; a byte needs no check of its place, and [`NO_BIN`] has one that
/// nobody reads. Two tables in turns, since one counter cannot be raised twice at once.
struct Tally {
    even: [u32; 256],
    odd: [u32; 256],
}

impl Tally {
    #[inline(always)]
    fn count(&mut self, bins: &[u8], rows: &[u16], width: usize) {
        self.even[..width].fill(0);
        self.odd[..width].fill(0);
        let pairs = rows.chunks_exact(2);
        for &row in pairs.remainder() {
            raise(&mut self.even, bins[row as usize]);
        }
        for pair in pairs {
            raise(&mut self.even, bins[pair[0] as usize]);
            raise(&mut self.odd, bins[pair[1] as usize]);
        }
    }

    #[inline(always)]
    fn add_to(&self, counts: &mut [u32]) {
        for ((count, even), odd) in counts.iter_mut().zip(self.even).zip(self.odd) {
            *count += even + odd;
        }
    }
}

/// Nobody reads the counter of [`NO_BIN`]: it may begin again.
#[inline(always)]
fn raise(table: &mut [u32; 256], bin: u8) {
    let count = &mut table[usize::from(bin)];
    *count = count.wrapping_add(1);
}
