//! attention_grad: gradients of queries, keys and values, by three kernels one after the other.
#![expect(unsafe_code, reason = "launches kernels")]

use std::cmp::Reverse;

use super::attention::{AttentionArgs, SIMT_QUERIES, kernel_args, lengths, tiles};
use super::buffer::{Tensor, Vector};
use super::context::{Context, args};
use super::driver::Ptr;
use super::grid::count;
use crate::device::ops;

args! {
    /// See `kernels/attention_grad.cu`.
    struct AttentionGradArgs {
        forward: AttentionArgs,
        g: Ptr,
        rows: Ptr,
        g_stride: u64,
    }
}

/// Keys of a tile.
const KEYS: usize = 64;
/// Columns of a head that a block sums.
const PART: usize = 128;
/// Bytes of what is kept of a query and head: its largest score, 1 / the sum of its weights, and the
/// mean of their gradients.
const SOFTMAX_ROW: usize = 16;

/// See [`crate::device::gradient_ops::GradientOps::attention_grad`].
pub(super) fn attention_grad(
    context: &Context,
    args: &ops::AttentionArgs<'_, Vector>,
    (qkv, g): (&Tensor, &Tensor),
    out: &mut Tensor,
) {
    assert_eq!((out.rows(), out.cols()), (qkv.rows(), qkv.cols()));
    assert_eq!((g.rows(), g.cols()), (qkv.rows(), args.heads * args.head_width));
    assert_eq!(g.element(), qkv.element());
    assert_eq!(args.heads % args.kv_heads, 0, "a group of query heads for each key head");
    let forward = kernel_args(args, (qkv, out));
    let Some(rows) = context.scratch(qkv.rows() * args.heads * SOFTMAX_ROW) else { return };
    let of_queries = tiles(args, SIMT_QUERIES);
    let mut kernel_args = AttentionGradArgs {
        forward: AttentionArgs { tiles: context.upload(&of_queries), ..forward },
        g: g.start(),
        rows: rows.start(),
        g_stride: g.stride() as u64,
    };
    let parts = count(args.head_width.div_ceil(PART));
    let blocks = count(of_queries.len() * args.heads);
    let of_keys = key_tiles(args);
    let launches = [
        (["attention_grad_rows_f32", "attention_grad_rows_bf16"], [blocks, 1, 1]),
        (["attention_grad_queries_f32", "attention_grad_queries_bf16"], [blocks, parts, 1]),
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

/// Start and length of the sequence, first key, and number of the sequence: the tiles of a batch,
/// those that most queries see first.
fn key_tiles(args: &ops::AttentionArgs<'_, Vector>) -> Vec<[u32; 4]> {
    let mut tiles = Vec::new();
    for (sequence, length) in lengths(args.starts).enumerate() {
        for first in (0..length).step_by(KEYS) {
            let begin = if args.causal { first } else { 0 };
            let end = args.window.map_or(length, |window| length.min(first + KEYS + window - 1));
            let start = args.starts[sequence];
            tiles.push((end - begin, [start, count(length), count(first), count(sequence)]));
        }
    }
    tiles.sort_by_key(|(queries, _)| Reverse(*queries));
    tiles.into_iter().map(|(_, tile)| tile).collect()
}
