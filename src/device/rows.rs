//! Who the rows of a batch are, and which rows each group has: made once per batch, read by the
//! statistics of all its sites.

use std::ops::Range;
use std::sync::OnceLock;

use super::row_lists::RowLists;
use crate::corpus::batch::Batch;
use crate::id::RowId;

/// Rows that a thread keeps at hand.
pub(crate) const TILE: usize = 1024;

/// The rows of a batch and the members of each group.
#[derive(Clone, Debug)]
pub struct BatchRows {
    /// Who each row is, `[R]`.
    pub(crate) ids: Vec<RowId>,
    /// Row of the activations that each row is, `[R]`.
    pub(crate) source: Vec<u32>,
    /// One more than the largest of them.
    pub(crate) source_end: usize,
    /// First token of each row, `[R]`.
    first: Vec<u32>,
    /// Tokens of each row, `[R]`.
    lengths: Vec<u32>,
    /// Where each row's groups start, `[R + 1]`.
    group_starts: Vec<u32>,
    /// Label groups, row by row.
    groups: Vec<u32>,
    /// Rows in each group, `[G1]`.
    pub(crate) counts: Vec<u64>,
    pub(crate) tiles: Vec<Tile>,
    /// Rows come in ascending order of their ids.
    pub(crate) ascending: bool,
    /// See [`Self::lists`].
    lists: [OnceLock<RowLists>; 2],
}

impl BatchRows {
    /// The rows of a batch; `source` names the row of the activations that each one is (the
    /// identity if `None`: the activations have been pooled to rows).
    ///
    /// # Panics
    /// If the lists do not belong together: a batch is made by this program alone.
    pub fn new(batch: &Batch, source: Option<&[u32]>, group_count: usize) -> Self {
        let Batch { row_ids: ids, group_starts, groups, .. } = batch;
        assert_eq!(group_starts.len(), ids.len() + 1);
        assert_eq!(group_starts[ids.len()] as usize, groups.len());
        let source = match source {
            Some(source) => source.to_vec(),
            None => (0..number(ids.len())).collect(),
        };
        assert_eq!(source.len(), ids.len());
        let mut rows = Self {
            ids: ids.clone(),
            source_end: source.iter().max().map_or(0, |&last| last as usize + 1),
            source,
            first: batch.row_first.clone(),
            lengths: batch.row_len.clone(),
            group_starts: group_starts.clone(),
            groups: groups.clone(),
            counts: vec![0; group_count + 1],
            tiles: Vec::new(),
            ascending: ids.is_sorted_by(|a, b| a < b),
            lists: [OnceLock::new(), OnceLock::new()],
        };
        rows.tiles = rows.cut(TILE);
        for tile in &rows.tiles {
            for (group, count) in rows.counts.iter_mut().enumerate() {
                *count += tile.members(group).len() as u64;
            }
        }
        rows
    }

    /// The rows in tiles of so many.
    fn cut(&self, tile: usize) -> Vec<Tile> {
        let ranges = (0..self.len()).step_by(tile).map(|at| at..(at + tile).min(self.len()));
        let groups = self.counts.len() - 1;
        ranges.map(|range| Tile::new(range, groups, |row| self.groups_of(row))).collect()
    }

    /// The lists as a GPU reads them, in tiles of [`TILE`] rows or of half as many; made when first
    /// asked for.
    pub(crate) fn lists(&self, half: bool) -> &RowLists {
        self.lists[usize::from(half)].get_or_init(|| match half {
            true => RowLists::new(self, &self.cut(TILE / 2)),
            false => RowLists::new(self, &self.tiles),
        })
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// First token of each row.
    pub fn first(&self) -> &[u32] {
        &self.first
    }

    /// Tokens of each row.
    pub fn lengths(&self) -> &[u32] {
        &self.lengths
    }

    /// Label groups of a row.
    pub(crate) fn groups_of(&self, row: usize) -> &[u32] {
        &self.groups[self.group_starts[row] as usize..self.group_starts[row + 1] as usize]
    }
}

/// Neighbouring rows of a batch, numbered from 0.
#[derive(Clone, Debug)]
pub(crate) struct Tile {
    /// Which rows of the batch.
    pub(crate) rows: Range<usize>,
    /// Where the members of each group start, `[G1 + 1]`; group 0 is all rows.
    member_starts: Vec<u32>,
    /// Rows, group by group, each in order.
    members: Vec<u32>,
    /// The first group of each row, as an index among all G1: 0 for a row without one.
    pub(crate) first_groups: Vec<u32>,
    /// (row, group index) for each row's groups after its first.
    pub(crate) other_groups: Vec<(u32, u32)>,
}

impl Tile {
    fn new<'a>(
        rows: Range<usize>,
        group_count: usize,
        groups_of: impl Fn(usize) -> &'a [u32],
    ) -> Self {
        // A counting sort of (row, group) pairs by group: stable, so members stay in row order.
        let mut member_starts = vec![0; group_count + 2];
        let (mut first_groups, mut other_groups) = (Vec::new(), Vec::new());
        member_starts[1] = number(rows.len());
        for (row, at) in (0..).zip(rows.clone()) {
            let mut groups = groups_of(at).iter().map(|group| group + 1);
            first_groups.push(groups.next().unwrap_or(0));
            other_groups.extend(groups.map(|group| (row, group)));
            for &group in groups_of(at) {
                member_starts[group as usize + 2] += 1;
            }
        }
        for group in 1..member_starts.len() {
            member_starts[group] += member_starts[group - 1];
        }
        let mut next = member_starts.clone();
        let mut members = vec![0; member_starts[group_count + 1] as usize];
        for (row, at) in (0..).zip(rows.clone()) {
            for group in std::iter::once(0).chain(groups_of(at).iter().map(|group| group + 1)) {
                let place = &mut next[group as usize];
                members[*place as usize] = row;
                *place += 1;
            }
        }
        Self { rows, member_starts, members, first_groups, other_groups }
    }

    /// Number of groups, that of all rows included.
    #[inline(always)]
    pub(crate) fn groups1(&self) -> usize {
        self.member_starts.len() - 1
    }

    /// Rows of a group, in order.
    #[inline(always)]
    pub(crate) fn members(&self, group: usize) -> &[u32] {
        &self.members[self.member_starts[group] as usize..self.member_starts[group + 1] as usize]
    }
}

/// Rows and groups of a batch are numbered in 32 bits.
pub(super) fn number(n: usize) -> u32 {
    u32::try_from(n).expect("a batch has fewer than 2^32 rows")
}
