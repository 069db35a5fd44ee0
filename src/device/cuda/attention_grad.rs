//! attention_grad: gradients of queries, keys and values, by three kernels one after the other.
#![expect(unsafe_code, reason = "launches kernels")]

use std::cmp::Reverse;

use super::attention::{
    AttentionArgs, PastArgs, SIMT_QUERIES, kernel_args, lengths, past_args, tiles,
};
use super::buffer::{Tensor, Vector};
use super::context::{Context, args};
use super::driver::Ptr;
use super::grid::count;
use crate::device::ops;
use crate::device::suffix_ops::Past;

args! {
    /// See `kernels/attention_grad.cu`.
    struct AttentionGradArgs {
        forward: AttentionArgs,
        past: PastArgs,
        g: Ptr,
        rows: Ptr,
        g_stride: u64,
    }
}

/// Keys of a tile.
const KEYS: usize = 64;
/// Columns of a head that a block sums.
const PART: usize = 128;
/// Sequences are whole.
const NO_PAST: PastArgs = PastArgs { kv: Ptr::NULL, rows: Ptr::NULL, stride: 0 };
/// Bytes of what is kept of a query and head: its largest score, 1 / the sum of its weights, and the
/// mean of their gradients.
const SOFTMAX_ROW: usize = 16;

/// See [`crate::device::gradient_ops::GradientOps::attention_grad`], and `attention_past_grad`.
pub(super) fn attention_grad(
    context: &Context,
    args: &ops::AttentionArgs<'_, Vector>,
    (qkv, past, g): (&Tensor, Option<Past<'_, Tensor>>, &Tensor),
    out: &mut Tensor,
) {
    assert_eq!((out.rows(), out.cols()), (qkv.rows(), qkv.cols()));
    assert_eq!((g.rows(), g.cols()), (qkv.rows(), args.heads * args.head_width));
    assert_eq!(g.element(), qkv.element());
    assert_eq!(args.heads % args.kv_heads, 0, "a group of query heads for each key head");
    let forward = kernel_args(args, (qkv, out));
    let Some(rows) = context.scratch(qkv.rows() * args.heads * SOFTMAX_ROW) else { return };
    let pasts = past.map(|past| past.rows);
    let query_tiles = tiles(args, pasts, SIMT_QUERIES);
    let mut kernel_args = AttentionGradArgs {
        forward: AttentionArgs { tiles: context.upload(&query_tiles), ..forward },
        past: past.map_or(NO_PAST, |past| past_args(context, args, (qkv, past))),
        g: g.start(),
        rows: rows.start(),
        g_stride: g.stride() as u64,
    };
    let parts = count(args.head_width.div_ceil(PART));
    let blocks = count(query_tiles.len() * args.heads);
    let of_keys = key_tiles(args, pasts);
    let [of_rows, of_queries] = match past {
        None => [
            ["attention_grad_rows_f32", "attention_grad_rows_bf16"],
            ["attention_grad_queries_f32", "attention_grad_queries_bf16"],
        ],
        Some(_) => [
            ["attention_grad_past_rows_f32", "attention_grad_past_rows_bf16"],
            ["attention_grad_past_queries_f32", "attention_grad_past_queries_bf16"],
        ],
    };
    let launches = [
        (of_rows, [blocks, 1, 1]),
        (of_queries, [blocks, parts, 1]),
        (
            ["attention_grad_keys_f32", "attention_grad_keys_bf16"],
            [count(of_keys.len() * args.kv_heads), parts, 1],
        ),
    ];
    for (i, (names, grid)) in launches.into_iter().enumerate() {
        if i == 2 {
            kernel_args.forward.tiles = context.upload(&of_keys);
        }
        // SAFETY: the shapes are checked above, tiles lie inside `starts` and so inside the tensors
        // and the rows; memory handed back goes to work that is queued behind this.
        unsafe { context.launch(qkv.element().pick(names), (grid, 0), &kernel_args) };
    }
}

/// Start and length of the sequence, first key, and number of the sequence: the tiles of a batch's own
/// keys, those that most queries see first. Past tokens count as in [`tiles`].
fn key_tiles(args: &ops::AttentionArgs<'_, Vector>, pasts: Option<&[[u32; 2]]>) -> Vec<[u32; 4]> {
    let mut tiles = Vec::new();
    for (sequence, length) in lengths(args.starts).enumerate() {
        let past = pasts.map_or(0, |pasts| pasts[sequence][1]);
        let start = args.starts[sequence].wrapping_sub(past);
        let past = past as usize;
        let length = past + length;
        for first in (past..length).step_by(KEYS) {
            let begin = if args.causal { first } else { past };
            let end = args.window.map_or(length, |window| length.min(first + KEYS + window - 1));
            tiles.push((end - begin, [start, count(length), count(first), count(sequence)]));
        }
    }
    tiles.sort_by_key(|(queries, _)| Reverse(*queries));
    tiles.into_iter().map(|(_, tile)| tile).collect()
}
