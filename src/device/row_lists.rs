//! The rows of a batch as a GPU reads them: every list of [`BatchRows`] in one array, so that a
//! batch sends it once for the statistics of all its sites.

use super::rows::{BatchRows, Tile, number};

/// Lists are filled up to a multiple of this, so that kernels may read so many at a time.
const CHUNK: usize = 8;
/// In place of a first group, where a list was filled up.
const NO_ROW: u32 = u32::MAX;
/// What an item of [`RowLists::items`] is about: sums and squares, range and firing, or both.
const MOMENTS: u32 = 1;
const RANGE: u32 = 2;
const BOTH: u32 = 3;

/// The arrays, as places in [`RowLists::words`], multiples of [`CHUNK`].
#[derive(Clone, Debug, Default)]
pub(crate) struct RowLists {
    /// All of them.
    pub(crate) words: Vec<u32>,
    /// Row of the activations that each row is, `[R]`.
    pub(crate) source: usize,
    /// Who each row is, `[R]` of two words, the lower first.
    pub(crate) ids: usize,
    /// The first group of each row, `[R]`: an index among all G1, 0 for none.
    pub(crate) first_groups: usize,
    /// Rows of the batch with a group after the first, and which.
    pub(crate) other_rows: usize,
    pub(crate) other_groups: usize,
    /// How many those are.
    pub(crate) others: u32,
    /// The work of the class sums, tile by tile, the longest first: `[items, 4]` of
    /// {group * 4 + kind, first in `members`, rows, 0}.
    pub(crate) items: usize,
    /// Where each tile's items start, `[tiles + 1]`.
    pub(crate) item_starts: usize,
    /// Rows of a tile in each group but that of all rows; the lists of an item start at multiples
    /// of [`CHUNK`] and are filled up with row 0.
    pub(crate) members: usize,
    /// Number of tiles.
    pub(crate) tiles: u32,
}

impl RowLists {
    pub(super) fn new(rows: &BatchRows, tiles: &[Tile]) -> Self {
        let mut lists = Self { tiles: number(tiles.len()), ..Self::default() };
        lists.source = lists.push(&rows.source, 0);
        let ids = rows.ids.iter().flat_map(|id| [low_word(id.0), low_word(id.0 >> 32)]);
        lists.ids = lists.push(&ids.collect::<Vec<_>>(), 0);
        let first = tiles.iter().flat_map(|tile| tile.first_groups.iter().copied());
        lists.first_groups = lists.push(&first.collect::<Vec<_>>(), NO_ROW);
        let others = || {
            tiles.iter().flat_map(|tile| {
                tile.other_groups.iter().map(|&(row, group)| (row + number(tile.rows.start), group))
            })
        };
        lists.others = number(others().count());
        lists.other_rows = lists.push(&others().map(|other| other.0).collect::<Vec<_>>(), 0);
        lists.other_groups = lists.push(&others().map(|other| other.1).collect::<Vec<_>>(), 0);
        let (mut items, mut starts, mut members) = (Vec::new(), vec![0], Vec::new());
        for tile in tiles {
            let mut of_tile = tile_items(tile, &mut members);
            of_tile.sort_by_key(|item| std::cmp::Reverse(cost(item)));
            items.extend(of_tile.concat());
            starts.push(number(items.len() / 4));
        }
        lists.items = lists.push(&items, 0);
        lists.item_starts = lists.push(&starts, 0);
        lists.members = lists.push(&members, 0);
        lists
    }

    /// Appends an array; returns where it starts.
    fn push(&mut self, array: &[u32], fill: u32) -> usize {
        let start = self.words.len();
        self.words.extend_from_slice(array);
        self.words.resize(self.words.len().next_multiple_of(CHUNK), fill);
        start
    }
}

/// What a tile adds to the class sums. All rows, and a group with more than half of them, are two
/// items, as the sums of a group cannot be cut otherwise.
fn tile_items(tile: &Tile, members: &mut Vec<u32>) -> Vec<[u32; 4]> {
    let rows = tile.rows.len();
    let mut items = vec![[MOMENTS, 0, number(rows), 0], [RANGE, 0, number(rows), 0]];
    for group in 1..tile.groups1() {
        let of_group = tile.members(group);
        if of_group.is_empty() {
            continue;
        }
        let (first, code) = (number(members.len()), number(group) * 4);
        let item = |kind| [code + kind, first, number(of_group.len()), 0];
        match 2 * of_group.len() > rows {
            true => items.extend([item(MOMENTS), item(RANGE)]),
            false => items.push(item(BOTH)),
        }
        members.extend_from_slice(of_group);
        members.resize(members.len().next_multiple_of(CHUNK), 0);
    }
    items
}

/// Roughly the instructions of an item: those of a row, and about 40 rows' worth to begin and end.
fn cost(item: &[u32; 4]) -> u64 {
    let a_row = match item[0] % 4 {
        MOMENTS => 11,
        RANGE => 9,
        _ => 16,
    };
    a_row * (u64::from(item[2]) + 40)
}

#[expect(clippy::cast_possible_truncation, reason = "the lower half is what is wanted")]
fn low_word(x: u64) -> u32 {
    x as u32
}

#[cfg(test)]
mod tests {
    //! Oracle: by hand.
    use super::*;
    use crate::corpus::batch::Batch;
    use crate::id::RowId;

    #[test]
    fn every_row_of_a_group_is_listed_once() {
        let batch = Batch {
            row_ids: vec![RowId(1 << 32 | 7), RowId(8), RowId(9)],
            group_starts: vec![0, 2, 2, 3],
            groups: vec![1, 0, 1],
            ..Batch::default()
        };
        let rows = BatchRows::new(&batch, Some(&[5, 3, 4]), 3);
        let lists = rows.lists(false);
        let at = |start: usize, len: usize| &lists.words[start..start + len];
        assert_eq!(at(lists.source, 8), [5, 3, 4, 0, 0, 0, 0, 0]);
        assert_eq!(at(lists.ids, 6), [7, 1, 8, 0, 9, 0]);
        assert_eq!(at(lists.first_groups, 4), [2, 0, 2, NO_ROW]);
        assert_eq!((lists.others, lists.tiles), (1, 1));
        assert_eq!((at(lists.other_rows, 1), at(lists.other_groups, 1)), (&[0][..], &[1][..]));
        // Group index 1 has row 0; index 2 has rows 0 and 2, more than half; index 3 has none.
        assert_eq!(at(lists.item_starts, 2), [0, 5]);
        let want = [[7, 0, 1], [1, 0, 3], [9, 8, 2], [2, 0, 3], [10, 8, 2]];
        let items: Vec<_> = at(lists.items, 20).chunks(4).collect();
        for [code, first, count] in want {
            assert!(items.contains(&&[code, first, count, 0][..]), "{code} in {items:?}");
        }
        assert_eq!(at(lists.members, 11), [0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0]);
    }
}
