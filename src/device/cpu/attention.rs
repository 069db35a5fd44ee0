//! attention: softmax(q k^T) v over each packed sequence, a tile of queries and one head at a
//! time. Keys that no query of the tile may see are never multiplied.
#![expect(unsafe_code, reason = "tiles of different heads write interleaved columns of one tensor")]

use std::cell::RefCell;
use std::ops::Range;

use rayon::prelude::*;

use super::buffer::Tensor;
use super::dispatch::multiversion;
use super::gated_act::cap_values;
use super::gemm::{self, Strided};
use super::math;
use super::shared::SharedMut;
use crate::device::ops::{AttentionArgs, ScoreBias};

/// Queries of a tile.
pub(super) const TILE: usize = 64;

/// One head, one run of queries of one sequence.
pub(super) struct Tile {
    /// First token of the sequence.
    pub(super) start: usize,
    /// Its length.
    pub(super) length: usize,
    /// Queries, counted inside the sequence.
    pub(super) queries: Range<usize>,
    pub(super) head: usize,
    /// Where the sequence's probabilities start.
    pub(super) probs: usize,
}

thread_local! {
    /// Scores of a tile and its result. Grows to the longest sequence once per thread.
    static SCRATCH: RefCell<(Vec<f32>, Vec<f32>)> = const { RefCell::new((Vec::new(), Vec::new())) };
}

/// See [`crate::device::ops::Ops::attention`].
pub(super) fn attention(
    args: &AttentionArgs<'_, Vec<f32>>,
    qkv: &Tensor,
    out: &mut Tensor,
    mut probs: Option<&mut Tensor>,
) {
    let width = args.head_width;
    assert_eq!(qkv.cols(), (args.heads + 2 * args.kv_heads) * width);
    assert_eq!((out.rows(), out.cols()), (qkv.rows(), args.heads * width));
    let out_cols = out.cols();
    let out = SharedMut::new(out.values_mut());
    let probs = probs.as_mut().map(|probs| SharedMut::new(probs.values_mut()));
    tiles(args).into_par_iter().for_each(|tile| {
        SCRATCH.with_borrow_mut(|(scores, result)| {
            let keys = visible_keys(args, &tile);
            let (m, n) = (tile.queries.len(), keys.len());
            if scores.len() < m * n {
                scores.resize(TILE * tile.length, 0.0);
            }
            result.resize(TILE * width, 0.0);
            let scores = &mut scores[..m * n];
            probabilities(args, qkv, &tile, (scores, None));
            let values = columns(
                qkv,
                &tile,
                keys.start,
                args.heads + args.kv_heads + kv(args, &tile),
                width,
            );
            let result = &mut result[..m * width];
            let weights = Strided { data: scores, row: n, column: 1 };
            gemm::small((m, n, width), (1.0, 0.0), weights, values, (result, width));
            for (i, query) in tile.queries.clone().enumerate() {
                let at = (tile.start + query) * out_cols + tile.head * width;
                // SAFETY: this tile alone writes these columns of these rows.
                unsafe { out.write(at, &result[i * width..][..width]) };
                if let Some(probs) = probs {
                    let at = tile.probs + (tile.head * tile.length + query) * tile.length;
                    // SAFETY: this tile alone writes these rows of this head.
                    unsafe {
                        probs.zero(at, tile.length);
                        probs.write(at + keys.start, &scores[i * n..][..n]);
                    }
                }
            }
        });
    });
}

/// Probabilities of a tile's visible keys, `[queries, keys]`; and, if asked for, the capped scores.
pub(super) fn probabilities(
    args: &AttentionArgs<'_, Vec<f32>>,
    qkv: &Tensor,
    tile: &Tile,
    (scores, capped): (&mut [f32], Option<&mut Vec<f32>>),
) {
    let keys = visible_keys(args, tile);
    score(args, qkv, tile, (keys.clone(), scores));
    if let Some(capped) = capped {
        capped.clear();
        capped.extend_from_slice(scores);
    }
    for (row, query) in scores.chunks_exact_mut(keys.len()).zip(tile.queries.clone()) {
        add_bias(args, tile, (query, keys.clone()), row);
        let seen = seen_keys(args, query, tile.length);
        let seen = seen.start - keys.start..seen.end - keys.start;
        row[..seen.start].fill(0.0);
        row[seen.end..].fill(0.0);
        softmax(&mut row[seen]);
    }
}

/// Every tile of a batch, in order.
fn tiles(args: &AttentionArgs<'_, Vec<f32>>) -> Vec<Tile> {
    let mut tiles = Vec::new();
    let mut probs = 0;
    for pair in args.starts.windows(2) {
        let (start, length) = (pair[0] as usize, (pair[1] - pair[0]) as usize);
        for head in 0..args.heads {
            for first in (0..length).step_by(TILE) {
                let queries = first..(first + TILE).min(length);
                tiles.push(Tile { start, length, queries, head, probs });
            }
        }
        probs += args.heads * length * length;
    }
    tiles
}

/// Keys one query sees.
fn seen_keys(args: &AttentionArgs<'_, Vec<f32>>, query: usize, length: usize) -> Range<usize> {
    let end = if args.causal { query + 1 } else { length };
    let start = args.window.map_or(0, |window| (query + 1).saturating_sub(window));
    start..end
}

/// Keys that some query of the tile sees.
pub(super) fn visible_keys(args: &AttentionArgs<'_, Vec<f32>>, tile: &Tile) -> Range<usize> {
    let first = seen_keys(args, tile.queries.start, tile.length);
    let last = seen_keys(args, tile.queries.end - 1, tile.length);
    first.start..last.end
}

/// The key-value head a query head reads.
fn kv(args: &AttentionArgs<'_, Vec<f32>>, tile: &Tile) -> usize {
    tile.head * args.kv_heads / args.heads
}

/// One head's columns of `qkv`, from token `first` of the tile's sequence on.
pub(super) fn columns<'a>(
    qkv: &'a Tensor,
    tile: &Tile,
    first: usize,
    head: usize,
    width: usize,
) -> Strided<'a> {
    let data = &qkv.values()[(tile.start + first) * qkv.cols() + head * width..];
    Strided { data, row: qkv.cols(), column: 1 }
}

/// scores = scale * q k^T, capped.
fn score(
    args: &AttentionArgs<'_, Vec<f32>>,
    qkv: &Tensor,
    tile: &Tile,
    (keys, scores): (Range<usize>, &mut [f32]),
) {
    let width = args.head_width;
    let q = columns(qkv, tile, tile.queries.start, tile.head, width);
    let k = columns(qkv, tile, keys.start, args.heads + kv(args, tile), width);
    let k = Strided { data: k.data, row: 1, column: k.row };
    let n = keys.len();
    gemm::small((tile.queries.len(), width, n), (args.scale, 0.0), q, k, (scores, n));
    if let Some(cap) = args.softcap {
        cap_values(cap, scores);
    }
}

/// Adds ALiBi's or T5's bias to one query's scores.
fn add_bias(
    args: &AttentionArgs<'_, Vec<f32>>,
    tile: &Tile,
    (query, keys): (usize, Range<usize>),
    row: &mut [f32],
) {
    match args.bias {
        ScoreBias::None => {}
        ScoreBias::Slopes(slopes) => {
            for (score, key) in row.iter_mut().zip(keys) {
                #[expect(clippy::cast_precision_loss, reason = "positions are below 2^24")]
                let position = key as f32;
                *score += slopes[tile.head] * position;
            }
        }
        ScoreBias::Distance { table, reach } => {
            let head = &table[tile.head * (2 * reach + 1)..][..2 * reach + 1];
            let first = keys.start + reach - query;
            for (score, bias) in row.iter_mut().zip(&head[first..]) {
                *score += bias;
            }
        }
    }
}

multiversion! {
    /// Softmax of one query's visible scores, in place.
    fn softmax(row: &mut [f32]) {
        let mut lanes = [f32::NEG_INFINITY; 16];
        for chunk in row.chunks(16) {
            for (lane, x) in lanes.iter_mut().zip(chunk) {
                *lane = if *x > *lane { *x } else { *lane };
            }
        }
        let max = lanes.iter().fold(f32::NEG_INFINITY, |a, &b| if b > a { b } else { a });
        let mut sums = [0.0_f32; 16];
        for chunk in row.chunks_mut(16) {
            for (sum, x) in sums.iter_mut().zip(chunk) {
                *x = math::exp(*x - max);
                *sum += *x;
            }
        }
        let inverse = 1.0 / sums.iter().sum::<f32>();
        for x in row {
            *x *= inverse;
        }
    }
}
