//! Who the rows of a batch are, and which rows each group has: made once per batch, read by the
//! statistics of all its sites.

use crate::corpus::batch::Batch;
use crate::id::RowId;

/// The rows of a batch and the members of each group.
#[derive(Clone, Debug)]
pub struct BatchRows {
    /// Who each row is, `[R]`.
    pub(crate) ids: Vec<RowId>,
    /// Row of the activations that each row is, `[R]`.
    pub(crate) source: Vec<u32>,
    /// First token of each row, `[R]`.
    first: Vec<u32>,
    /// Tokens of each row, `[R]`.
    lengths: Vec<u32>,
    /// Where each row's groups start, `[R + 1]`.
    group_starts: Vec<u32>,
    /// Label groups, row by row.
    groups: Vec<u32>,
    /// Where the members of each group start, `[G1 + 1]`; group 0 is all rows.
    member_starts: Vec<usize>,
    /// Rows of the activations, group by group, in row order.
    members: Vec<u32>,
    /// Rows come in ascending order of their ids.
    pub(crate) ascending: bool,
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
            None => (0..ids.len()).map(|r| u32::try_from(r).expect("rows fit u32")).collect(),
        };
        assert_eq!(source.len(), ids.len());
        // A counting sort of (row, group) pairs by group: stable, so members stay in row order.
        let mut member_starts = vec![0; group_count + 2];
        member_starts[1] = ids.len();
        for &group in groups {
            member_starts[group as usize + 2] += 1;
        }
        for g in 1..member_starts.len() {
            member_starts[g] += member_starts[g - 1];
        }
        let mut members = source.clone();
        members.resize(ids.len() + groups.len(), 0);
        let mut next = member_starts.clone();
        for (r, &row) in source.iter().enumerate() {
            for &group in &groups[group_starts[r] as usize..group_starts[r + 1] as usize] {
                members[next[group as usize + 1]] = row;
                next[group as usize + 1] += 1;
            }
        }
        Self {
            ids: ids.clone(),
            source,
            first: batch.row_first.clone(),
            lengths: batch.row_len.clone(),
            group_starts: group_starts.clone(),
            groups: groups.clone(),
            member_starts,
            members,
            ascending: ids.is_sorted_by(|a, b| a < b),
        }
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

    /// Number of groups, that of all rows included.
    pub(crate) fn groups1(&self) -> usize {
        self.member_starts.len() - 1
    }

    /// Rows of the activations that belong to a group (0 is all rows), in row order.
    #[inline(always)]
    pub(crate) fn members(&self, group: usize) -> &[u32] {
        &self.members[self.member_starts[group]..self.member_starts[group + 1]]
    }

    /// Label groups of a row.
    #[inline(always)]
    pub(crate) fn groups_of(&self, row: usize) -> &[u32] {
        &self.groups[self.group_starts[row] as usize..self.group_starts[row + 1] as usize]
    }
}
