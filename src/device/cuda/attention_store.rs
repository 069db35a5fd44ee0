//! attention_store: keys and values of some tokens, kept as rows of a past.
#![expect(unsafe_code, reason = "launches kernels")]

use super::buffer::Tensor;
use super::context::{Context, args};
use super::driver::Ptr;
use super::grid::{by_rows, count};
use super::scatter::assert_once;

args! {
    /// See `kernels/attention_store.cu`.
    struct AttentionStoreArgs {
        qkv: Ptr,
        tokens: Ptr,
        rows: Ptr,
        kv: Ptr,
        from_stride: u64,
        to_stride: u64,
        count: u32,
        first: u32,
        cols: u32,
        spare: u32,
    }
}

/// See [`crate::device::suffix_ops::SuffixOps::store_past`].
pub(super) fn store_past(
    context: &Context,
    qkv: &Tensor,
    (tokens, rows): (&[u32], &[u32]),
    kv: &mut Tensor,
) {
    assert_eq!((tokens.len(), qkv.element()), (rows.len(), kv.element()));
    assert!(kv.cols() <= qkv.cols(), "keys and values are the last columns");
    assert!(tokens.iter().all(|&token| (token as usize) < qkv.rows()), "a token beyond the batch");
    assert_once(rows, kv.rows());
    let args = AttentionStoreArgs {
        qkv: qkv.start(),
        tokens: context.upload(tokens),
        rows: context.upload(rows),
        kv: kv.start(),
        from_stride: qkv.stride() as u64,
        to_stride: kv.stride() as u64,
        count: count(rows.len()),
        first: count(qkv.cols() - kv.cols()),
        cols: count(kv.cols()),
        spare: 0,
    };
    // A warp has a whole row.
    let grid = by_rows(rows.len(), 1, 1);
    let name = qkv.element().pick(["attention_store_f32", "attention_store_bf16"]);
    // SAFETY: tokens and rows lie within their tensors, no row is there twice, and the columns within
    // both; the tensors outlive the batch.
    unsafe { context.launch(name, (grid, 0), &args) }
}
