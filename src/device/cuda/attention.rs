//! attention: which kernel a batch gets, and the list of its tiles.
#![expect(unsafe_code, reason = "launches kernels")]

use std::cmp::Reverse;

use super::buffer::{Element, Tensor, Vector};
use super::context::{Context, args};
use super::driver::Ptr;
use super::grid::count;
use crate::device::ops::{self, ScoreBias};
use crate::device::suffix_ops::Past;

args! {
    /// See `kernels/attention.cuh`.
    struct AttentionArgs {
        qkv: Ptr, out: Ptr, probs: Ptr, tiles: Ptr, cells: Ptr, bias: Ptr,
        qkv_stride: u64, out_stride: u64,
        heads: u32, kv_heads: u32, head_width: u32,
        causal: u32, window: u32, bias_kind: u32, reach: u32,
        scale: f32, softcap: f32, spare: u32,
    }
}

args! {
    /// See `kernels/attention.cuh`.
    struct PastArgs {
        kv: Ptr,
        rows: Ptr,
        stride: u64,
    }
}

args! {
    /// See `kernels/attention.cu`.
    struct AttentionPastArgs {
        batch: AttentionArgs,
        past: PastArgs,
    }
}

/// A window that hides nothing; no sequence is as long.
const NO_WINDOW: u32 = 1 << 30;
/// The widest head there is a kernel for.
const WIDEST: usize = 256;
/// Queries of a tile on the float units, and on the matrix units.
pub(super) const SIMT_QUERIES: usize = 64;
const FLASH_QUERIES: usize = 128;

/// The kernels on the matrix units: padded width, keys of a tile, names without and with cap or
/// bias.
const FLASH: [(usize, usize, [&str; 2]); 6] = [
    (32, 64, ["attention_bf16_32", "attention_shaped_bf16_32"]),
    (64, 64, ["attention_bf16_64", "attention_shaped_bf16_64"]),
    (80, 64, ["attention_bf16_80", "attention_shaped_bf16_80"]),
    (96, 64, ["attention_bf16_96", "attention_shaped_bf16_96"]),
    (128, 64, ["attention_bf16_128", "attention_shaped_bf16_128"]),
    (256, 32, ["attention_bf16_256", "attention_shaped_bf16_256"]),
];

/// What runs a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Choice {
    kernel: &'static str,
    /// Queries of a tile.
    queries: usize,
    /// Bytes of dynamic shared memory.
    shared: u32,
}

/// See [`crate::device::ops::Ops::attention`].
pub(super) fn attention(
    context: &Context,
    args: &ops::AttentionArgs<'_, Vector>,
    (qkv, out): (&Tensor, &mut Tensor),
    probs: Option<&mut Tensor>,
) {
    assert_eq!((out.rows(), out.cols()), (qkv.rows(), args.heads * args.head_width));
    let choice = choose(context.shared_memory(), qkv.element(), args);
    let tiles = tiles(args, None, choice.queries);
    let kernel_args =
        AttentionArgs { tiles: context.upload(&tiles), ..kernel_args(args, (qkv, out)) };
    let grid = [count(tiles.len() * args.heads), 1, 1];
    // SAFETY: the shapes are checked above, tiles lie inside `starts` and so inside the tensors,
    // and the vectors have the lengths the kernel indexes.
    unsafe { context.launch(choice.kernel, (grid, choice.shared), &kernel_args) };
    if let Some(probs) = probs {
        launch_probs(context, args, (kernel_args, probs));
    }
}

/// What every kernel of attention is told, but for its tiles; checks the shapes of all but `out`.
pub(super) fn kernel_args(
    args: &ops::AttentionArgs<'_, Vector>,
    (qkv, out): (&Tensor, &Tensor),
) -> AttentionArgs {
    check_shapes(args, qkv);
    assert_eq!(out.element(), qkv.element());
    let (bias, bias_kind, reach) = match &args.bias {
        ScoreBias::None => (Ptr::NULL, 0, 0),
        ScoreBias::Slopes(slopes) => {
            assert_eq!(slopes.len, args.heads);
            (slopes.values.start(), 1, 0)
        }
        ScoreBias::Distance { table, reach } => {
            assert_eq!(table.len, args.heads * (2 * reach + 1));
            (table.values.start(), 2, count(*reach))
        }
    };
    AttentionArgs {
        qkv: qkv.start(),
        out: out.start(),
        probs: Ptr::NULL,
        tiles: Ptr::NULL,
        cells: Ptr::NULL,
        bias,
        qkv_stride: qkv.stride() as u64,
        out_stride: out.stride() as u64,
        heads: count(args.heads),
        kv_heads: count(args.kv_heads),
        head_width: count(args.head_width),
        causal: u32::from(args.causal),
        window: args.window.map_or(NO_WINDOW, |window| count(window).min(NO_WINDOW)),
        bias_kind,
        reach,
        scale: args.scale,
        softcap: args.softcap.unwrap_or(0.0),
        spare: 0,
    }
}

/// See [`crate::device::suffix_ops::SuffixOps::attention_past`]. On the float units for both
/// types: what goes on from a past is short.
pub(super) fn attention_past(
    context: &Context,
    args: &ops::AttentionArgs<'_, Vector>,
    past: Past<'_, Tensor>,
    (qkv, out): (&Tensor, &mut Tensor),
) {
    assert_eq!((out.rows(), out.cols()), (qkv.rows(), args.heads * args.head_width));
    let tiles = tiles(args, Some(past.rows), SIMT_QUERIES);
    let batch = AttentionArgs { tiles: context.upload(&tiles), ..kernel_args(args, (qkv, out)) };
    let kernel_args = AttentionPastArgs { batch, past: past_args(context, args, (qkv, past)) };
    let names = if args.head_width <= 128 {
        ["attention_past_f32", "attention_past_bf16"]
    } else {
        ["attention_past_f32_256", "attention_past_bf16_256"]
    };
    let grid = [count(tiles.len() * args.heads), 1, 1];
    // SAFETY: as above; a sequence's past lies inside the tensor it is kept in.
    unsafe { context.launch(qkv.element().pick(names), (grid, 0), &kernel_args) };
}

/// What kernels are told of a past; checks its shape.
pub(super) fn past_args(
    context: &Context,
    args: &ops::AttentionArgs<'_, Vector>,
    (qkv, past): (&Tensor, Past<'_, Tensor>),
) -> PastArgs {
    assert_eq!(past.kv.cols(), 2 * args.kv_heads * args.head_width);
    assert_eq!(past.kv.element(), qkv.element());
    assert_eq!(past.rows.len(), args.starts.len() - 1);
    let inside = |&[start, len]: &[u32; 2]| (start as usize + len as usize) <= past.kv.rows();
    assert!(past.rows.iter().all(inside), "a past beyond the rows that are kept");
    PastArgs {
        kv: past.kv.start(),
        rows: context.upload(past.rows),
        stride: past.kv.stride() as u64,
    }
}

/// The probabilities, by a kernel of their own: they are asked for rarely.
fn launch_probs(
    context: &Context,
    args: &ops::AttentionArgs<'_, Vector>,
    (mut kernel_args, probs): (AttentionArgs, &mut Tensor),
) {
    let mut cells = Vec::with_capacity(args.starts.len());
    let mut end = 0;
    for length in lengths(args.starts) {
        cells.push(end);
        end += (args.heads * length * length) as u64;
    }
    assert_eq!((probs.rows() as u64, probs.cols(), probs.stride()), (end, 1, 1));
    let tiles = tiles(args, None, SIMT_QUERIES);
    kernel_args.tiles = context.upload(&tiles);
    kernel_args.cells = context.upload(&cells);
    kernel_args.probs = probs.start();
    let grid = [count(tiles.len() * args.heads), 1, 1];
    let kernel = probs.element().pick(["attention_probs_f32", "attention_probs_bf16"]);
    // SAFETY: as above, and the cells of all sequences are as many as `probs` has rows.
    unsafe { context.launch(kernel, (grid, 0), &kernel_args) }
}

fn check_shapes(args: &ops::AttentionArgs<'_, Vector>, qkv: &Tensor) {
    let width = args.head_width;
    assert_eq!(qkv.cols(), (args.heads + 2 * args.kv_heads) * width);
    assert!(args.starts.is_sorted(), "sequences follow each other");
    let end = args.starts.last().map_or(0, |end| *end as usize);
    assert!(end <= qkv.rows(), "the sequences end at token {end} of {}", qkv.rows());
    assert!((1..=WIDEST).contains(&width), "heads of {width} columns have no kernel");
    assert!(args.window != Some(0), "a query sees itself");
    // Inside a tile the kernels count elements in 32 bits.
    assert!(qkv.stride() < 1 << 24, "a row has {} columns", qkv.cols());
}

/// The matrix units want heads that begin at multiples of 16 bytes, and shared memory for the
/// padded tiles; the float units do everything else.
fn choose(shared_memory: u32, element: Element, args: &ops::AttentionArgs<'_, Vector>) -> Choice {
    let width = args.head_width;
    let flash = FLASH.iter().find(|(padded, _, _)| width <= *padded);
    if let (Element::Bf16, Some(&(padded, keys, names)), 0) = (element, flash, width % 8) {
        // A tile of queries, and two of keys and of values.
        let shared = count((FLASH_QUERIES + 4 * keys) * padded * element.size());
        if shared <= shared_memory {
            let plain =
                args.softcap.is_none() && matches!(args.bias, ScoreBias::None) && args.scale > 0.0;
            return Choice { kernel: names[usize::from(!plain)], queries: FLASH_QUERIES, shared };
        }
    }
    let kernel = if width <= 128 {
        element.pick(["attention_f32", "attention_any_bf16"])
    } else {
        element.pick(["attention_f32_256", "attention_any_bf16_256"])
    };
    Choice { kernel, queries: SIMT_QUERIES, shared: 0 }
}

/// Start and length of the sequence, first query, and number of the sequence: the tiles of a
/// batch, those with most keys first, so that no long one is left to the end. Where a sequence goes on
/// from a past, all count from the past's first token, and the start is where that would be.
pub(super) fn tiles(
    args: &ops::AttentionArgs<'_, Vector>,
    pasts: Option<&[[u32; 2]]>,
    queries: usize,
) -> Vec<[u32; 4]> {
    let mut tiles = Vec::new();
    for (sequence, length) in lengths(args.starts).enumerate() {
        let past = pasts.map_or(0, |pasts| pasts[sequence][1]);
        let start = args.starts[sequence].wrapping_sub(past);
        let length = past as usize + length;
        for first in (past as usize..length).step_by(queries) {
            let last = (first + queries).min(length);
            let end = if args.causal { last } else { length };
            let begin = args.window.map_or(0, |window| (first + 1).saturating_sub(window));
            tiles.push((end - begin, [start, count(length), count(first), count(sequence)]));
        }
    }
    tiles.sort_by_key(|(keys, _)| Reverse(*keys));
    tiles.into_iter().map(|(_, tile)| tile).collect()
}

pub(super) fn lengths(starts: &[u32]) -> impl Iterator<Item = usize> + '_ {
    starts.windows(2).map(|pair| (pair[1] - pair[0]) as usize)
}
