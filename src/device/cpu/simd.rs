//! The unsafe floor of the statistics kernels: cutting a matrix into disjoint blocks of columns,
//! and the one loop that needs its own instructions.
#![expect(
    unsafe_code,
    reason = "columns are lent by pointer, and one loop is written in intrinsics"
)]

use std::marker::PhantomData;
use std::ops::Range;

#[cfg(target_arch = "x86_64")]
use super::dispatch::{Level, level};
use super::shared::expect;

/// Neighbouring columns of a row-major matrix, lent to one thread while others hold the rest.
pub(crate) struct ColumnBlock<'a, T> {
    first: *mut T,
    stride: usize,
    rows: usize,
    columns: usize,
    owner: PhantomData<&'a mut [T]>,
}

// SAFETY: a block is an exclusive borrow of its elements, as `&mut [T]` is.
unsafe impl<T: Send> Send for ColumnBlock<'_, T> {}

impl<T> ColumnBlock<'_, T> {
    /// The block's part of one row.
    #[inline(always)]
    pub(crate) fn row(&mut self, row: usize) -> &mut [T] {
        assert!(row < self.rows);
        // SAFETY: row < rows, so the elements lie inside the matrix that `split_columns` borrowed;
        // no other block holds these columns, and `&mut self` keeps this one from lending twice.
        unsafe { std::slice::from_raw_parts_mut(self.first.add(row * self.stride), self.columns) }
    }

    /// Asks for the memory of some elements of a row that are soon used.
    #[inline(always)]
    pub(crate) fn expect(&self, row: usize, columns: Range<usize>) {
        expect(self.first.wrapping_add(row * self.stride + columns.start), columns.len());
    }
}

/// Cuts `matrix`, rows of `width` columns, into blocks of at most `columns` columns.
pub(crate) fn split_columns<T>(
    matrix: &mut [T],
    width: usize,
    columns: usize,
) -> Vec<ColumnBlock<'_, T>> {
    assert!(columns > 0 && width > 0 && matrix.len().is_multiple_of(width));
    let rows = matrix.len() / width;
    let base = matrix.as_mut_ptr();
    (0..width)
        .step_by(columns)
        .map(|start| ColumnBlock {
            // `wrapping_add`, for a matrix without rows has no column to point at.
            first: base.wrapping_add(start),
            stride: width,
            rows,
            columns: columns.min(width - start),
            owner: PhantomData,
        })
        .collect()
}

/// Edges that [`search_bins`] takes: fewer are filled up with +inf, which no finite x exceeds.
pub(crate) const PADDED_EDGES: usize = 64;

/// For each finite x the number of ascending `edges` e with x > e.
pub(crate) fn search_bins(x: &[f32], edges: &[f32; PADDED_EDGES], bins: &mut [u32]) {
    assert_eq!(x.len(), bins.len());
    #[cfg(target_arch = "x86_64")]
    if level() == Level::Avx512 {
        // SAFETY: `level` has found these features on this processor.
        return unsafe { search_bins_avx512(x, edges, bins) };
    }
    for (bin, &x) in bins.iter_mut().zip(x) {
        *bin = search_one(x, edges);
    }
}

/// Branchless binary search: `at` edges are known to lie below x. The last edge is never asked
/// for: it is padding, 63 edges make 64 bins.
#[inline(always)]
fn search_one(x: f32, edges: &[f32; PADDED_EDGES]) -> u32 {
    let mut at = 0;
    for step in [32, 16, 8, 4, 2, 1] {
        // At most 32 + 16 + 8 + 4 + 2 + 1 - 1 = 62; the mask tells the compiler.
        at += step * usize::from(x > edges[(at + step - 1) & (PADDED_EDGES - 1)]);
    }
    u32::try_from(at).expect("at most 63")
}

/// The same search for 16 values at once. The 64 edges of one neuron fill four registers, and a
/// step of the search is a permutation of them: no gather, which is slow on most machines.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,bmi2,popcnt")]
fn search_bins_avx512(x: &[f32], edges: &[f32; PADDED_EDGES], bins: &mut [u32]) {
    use std::arch::x86_64::*;
    // SAFETY: four times 16 of the 64 edges.
    let edge = |part: usize| unsafe { _mm512_loadu_ps(edges[16 * part..16 * part + 16].as_ptr()) };
    let (e0, e1, e2, e3) = (edge(0), edge(1), edge(2), edge(3));
    let middle = _mm512_set1_ps(edges[31]);
    let whole = x.len() / 16 * 16;
    for (x, bins) in x[..whole].chunks_exact(16).zip(bins[..whole].chunks_exact_mut(16)) {
        // SAFETY: 16 values.
        let x = unsafe { _mm512_loadu_ps(x.as_ptr()) };
        let upper = _mm512_cmp_ps_mask::<_CMP_GT_OQ>(x, middle);
        // `at` counts inside the half that `upper` chose.
        let mut at = _mm512_setzero_si512();
        for step in [16, 8, 4, 2, 1] {
            let probe = _mm512_add_epi32(at, _mm512_set1_epi32(step - 1));
            let low = _mm512_permutex2var_ps(e0, probe, e1);
            let high = _mm512_permutex2var_ps(e2, probe, e3);
            let above = _mm512_cmp_ps_mask::<_CMP_GT_OQ>(x, _mm512_mask_blend_ps(upper, low, high));
            at = _mm512_mask_add_epi32(at, above, at, _mm512_set1_epi32(step));
        }
        at = _mm512_mask_add_epi32(at, upper, at, _mm512_set1_epi32(32));
        // SAFETY: 16 values.
        unsafe { _mm512_storeu_si512(bins.as_mut_ptr().cast(), at) };
    }
    for (bin, &x) in bins[whole..].iter_mut().zip(&x[whole..]) {
        *bin = search_one(x, edges);
    }
}

#[cfg(test)]
mod tests {
    //! Oracle: the definition, a count over all edges.
    use super::*;

    #[test]
    fn search_counts_the_edges_below() {
        for edges in [0, 1, 5, 31, 32, 33, 62, 63] {
            let list: Vec<f32> = (0..edges).map(|i| (i / 2) as f32).collect();
            let mut padded = [f32::INFINITY; PADDED_EDGES];
            padded[..edges].copy_from_slice(&list);
            let x: Vec<f32> = (-3..80).map(|i| i as f32 * 0.5).chain([f32::MAX, -0.0]).collect();
            let mut bins = vec![0; x.len()];
            search_bins(&x, &padded, &mut bins);
            for (&x, &bin) in x.iter().zip(&bins) {
                assert_eq!(bin as usize, list.iter().filter(|&&e| x > e).count(), "{x} of {edges}");
                assert_eq!(bin, search_one(x, &padded));
            }
        }
    }

    #[test]
    fn column_blocks_cover_the_matrix_once() {
        let mut matrix = vec![0; 3 * 7];
        for (number, mut block) in split_columns(&mut matrix, 7, 3).into_iter().enumerate() {
            for row in 0..3 {
                for (column, cell) in block.row(row).iter_mut().enumerate() {
                    *cell += 100 * row + 3 * number + column + 1;
                }
            }
        }
        let want: Vec<usize> = (0..21).map(|i| 100 * (i / 7) + i % 7 + 1).collect();
        assert_eq!(matrix, want);
    }
}
