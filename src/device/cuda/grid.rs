//! How work is divided into blocks: what the kernels of rows and elements have in common.

use super::buffer::{Element, Tensor};

/// Threads of a block.
pub(super) const THREADS: usize = 256;
/// Lanes of a warp.
pub(super) const WARP: usize = 32;
/// Warps of a block; each has a row.
const WARPS: usize = THREADS / WARP;

/// A number as kernels take it.
pub(super) fn count(n: usize) -> u32 {
    u32::try_from(n).expect("rows, columns and blocks are fewer than 2^32")
}

/// 16-byte packs of so many elements, the last perhaps a part.
pub(super) fn packs(element: Element, cols: usize) -> usize {
    cols.div_ceil(16 / element.size())
}

/// Blocks of warps that have a row each, or a part of one: each lane `ahead` of `units`.
pub(super) fn by_rows(rows: usize, units: usize, ahead: usize) -> [u32; 3] {
    [count(rows.div_ceil(WARPS)), count(units.div_ceil(WARP * ahead)), 1]
}

/// Elements of the rows in use, gaps included, and the blocks that go over them: each thread two
/// packs.
pub(super) fn by_elements(x: &Tensor) -> (u64, [u32; 3]) {
    let elements = x.rows() * x.stride();
    let blocks = packs(x.element(), elements).div_ceil(2 * THREADS);
    (elements as u64, [count(blocks), 1, 1])
}
