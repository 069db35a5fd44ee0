//! attention: softmax(q k^T) v over each packed sequence, one head and a run of queries at a time, whose
//! keys and values are packed once. Panels of 64 keys of which no query of a tile sees one are never
//! multiplied. A sequence may go on from a past whose keys and values are kept elsewhere: keys are then
//! counted from the past's first.
#![expect(unsafe_code, reason = "tiles of different heads write interleaved columns of one tensor")]

use std::cell::RefCell;
use std::ops::Range;

use rayon::prelude::*;

use super::attention_tile::{Packed, Probabilities};
use super::buffer::Tensor;
use super::shared::SharedMut;
use super::small::Strided;
use super::tile;
use crate::device::ops::AttentionArgs;
use crate::device::suffix_ops::Past;

/// Queries that share the packing of their keys.
const RUN: usize = 256;

/// One head, one run of queries of one sequence.
pub(super) struct Tile {
    /// First token of the sequence.
    pub(super) start: usize,
    /// Its tokens in the batch.
    pub(super) length: usize,
    /// Where its past is kept, as rows.
    pub(super) past: Range<usize>,
    /// Queries, counted inside the batch's part of the sequence.
    pub(super) queries: Range<usize>,
    pub(super) head: usize,
    /// Where the sequence's probabilities start.
    pub(super) probs: usize,
}

thread_local! {
    /// What a thread packs and computes in. Grows to the longest sequence once.
    static SCRATCH: RefCell<(Packed, Probabilities, Vec<f32>)> = RefCell::default();
}

impl Tile {
    /// Keys of the sequence, its past included.
    pub(super) fn keys(&self) -> usize {
        self.past.len() + self.length
    }
}

/// Queries, keys and values of a batch, and keys and values of the past of its sequences.
#[derive(Clone, Copy)]
pub(super) struct Source<'a> {
    pub(super) qkv: &'a Tensor,
    pub(super) past: Option<Past<'a, Tensor>>,
}

/// Which of the two things a token has.
#[derive(Clone, Copy)]
pub(super) enum Role {
    Key,
    Value,
}

impl<'a> Source<'a> {
    pub(super) fn check(&self, args: &AttentionArgs<'_, Vec<f32>>) {
        let width = args.head_width;
        assert_eq!(self.qkv.cols(), (args.heads + 2 * args.kv_heads) * width);
        let Some(past) = self.past else { return };
        assert_eq!(past.kv.cols(), 2 * args.kv_heads * width);
        assert_eq!(past.rows.len(), args.starts.len() - 1);
        assert!(past.rows.iter().all(|&[start, len]| (start + len) as usize <= past.kv.rows()));
    }

    /// Rows of the past of a sequence.
    pub(super) fn past_rows(&self, sequence: usize) -> Range<usize> {
        self.past.map_or(0..0, |past| {
            let [start, len] = past.rows[sequence];
            start as usize..(start + len) as usize
        })
    }

    /// Visible keys or values of a tile: those of the past, then those of the batch, each with its
    /// place among the tile's.
    pub(super) fn visible(
        &self,
        args: &AttentionArgs<'_, Vec<f32>>,
        tile: &Tile,
        role: Role,
    ) -> [(Range<usize>, Strided<'a>); 2] {
        let (seen, before) = (visible_keys(args, tile), tile.past.len());
        let head = kv(args, tile) + if matches!(role, Role::Value) { args.kv_heads } else { 0 };
        let old = seen.start.min(before)..seen.end.min(before);
        let new = own_keys(args, tile);
        let of_past = match self.past {
            Some(past) if !old.is_empty() => {
                head_columns(past.kv, tile.past.start + old.start, head * args.head_width)
            }
            _ => Strided { data: &[], row: 0, column: 0 },
        };
        let column = (args.heads + head) * args.head_width;
        let of_batch = head_columns(self.qkv, tile.start + new.start, column);
        [(0..old.len(), of_past), (old.len()..seen.len(), of_batch)]
    }

    /// The tile's queries.
    pub(super) fn queries(&self, args: &AttentionArgs<'_, Vec<f32>>, tile: &Tile) -> Strided<'a> {
        head_columns(self.qkv, tile.start + tile.queries.start, tile.head * args.head_width)
    }
}

/// See [`crate::device::ops::Ops::attention`].
pub(super) fn attention(
    args: &AttentionArgs<'_, Vec<f32>>,
    source: Source<'_>,
    out: &mut Tensor,
    mut probs: Option<&mut Tensor>,
) {
    source.check(args);
    let (width, qkv) = (args.head_width, source.qkv);
    assert_eq!((out.rows(), out.cols()), (qkv.rows(), args.heads * width));
    let out_cols = out.cols();
    let out = SharedMut::new(out.values_mut());
    let probs = probs.as_mut().map(|probs| SharedMut::new(probs.values_mut()));
    runs(args, source).into_par_iter().for_each(|run| {
        SCRATCH.with_borrow_mut(|(packed, rows, result)| {
            packed.pack(args, source, &run);
            result.resize(tile::ROWS * width, 0.0);
            for first in run.queries.clone().step_by(tile::ROWS) {
                let queries = first..run.queries.end.min(first + tile::ROWS);
                let tile = Tile { queries, past: run.past.clone(), ..run };
                rows.compute(args, source, (packed, &tile));
                packed.values_of(args, source, (rows, &tile), result);
                for (i, query) in tile.queries.clone().enumerate() {
                    let at = (tile.start + query) * out_cols + tile.head * width;
                    // SAFETY: this run alone writes these columns of these rows.
                    unsafe { out.write(at, &result[i * width..][..width]) };
                    if let Some(probs) = probs {
                        let at = tile.probs + (tile.head * tile.length + query) * tile.length;
                        let (seen, values) = rows.of_query(i);
                        // SAFETY: this run alone writes these rows of this head.
                        unsafe {
                            probs.zero(at, tile.length);
                            probs.write(at + seen.start, values);
                        }
                    }
                }
            }
        });
    });
}

/// See [`crate::device::suffix_ops::SuffixOps::store_past`].
pub(super) fn store_past(qkv: &Tensor, tokens: &[u32], rows: &[u32], kv: &mut Tensor) {
    assert_eq!(tokens.len(), rows.len());
    let (from, to) = (qkv.cols(), kv.cols());
    let kv = kv.values_mut();
    for (&token, &row) in tokens.iter().zip(rows) {
        let (token, row) = (token as usize, row as usize);
        kv[row * to..][..to].copy_from_slice(&qkv.values()[(token + 1) * from - to..][..to]);
    }
}

/// Every run of a batch, in order.
fn runs(args: &AttentionArgs<'_, Vec<f32>>, source: Source<'_>) -> Vec<Tile> {
    let mut runs = Vec::new();
    let mut probs = 0;
    for (sequence, pair) in args.starts.windows(2).enumerate() {
        let (start, length) = (pair[0] as usize, (pair[1] - pair[0]) as usize);
        for head in 0..args.heads {
            for first in (0..length).step_by(RUN) {
                let queries = first..(first + RUN).min(length);
                let past = source.past_rows(sequence);
                runs.push(Tile { start, length, past, queries, head, probs });
            }
        }
        probs += args.heads * length * length;
    }
    runs
}

/// Keys one query of a tile sees.
pub(super) fn seen_keys(
    args: &AttentionArgs<'_, Vec<f32>>,
    query: usize,
    tile: &Tile,
) -> Range<usize> {
    let query = tile.past.len() + query;
    let end = if args.causal { query + 1 } else { tile.keys() };
    let start = args.window.map_or(0, |window| (query + 1).saturating_sub(window));
    start..end
}

/// Keys that some query of the tile sees.
pub(super) fn visible_keys(args: &AttentionArgs<'_, Vec<f32>>, tile: &Tile) -> Range<usize> {
    let first = seen_keys(args, tile.queries.start, tile);
    let last = seen_keys(args, tile.queries.end - 1, tile);
    first.start..last.end
}

/// Those of them that are tokens of the batch, counted from the sequence's first.
pub(super) fn own_keys(args: &AttentionArgs<'_, Vec<f32>>, tile: &Tile) -> Range<usize> {
    let (seen, before) = (visible_keys(args, tile), tile.past.len());
    seen.start.max(before) - before..seen.end.max(before) - before
}

/// The key-value head a query head reads.
fn kv(args: &AttentionArgs<'_, Vec<f32>>, tile: &Tile) -> usize {
    tile.head * args.kv_heads / args.heads
}

/// A tensor from a row and a column on.
pub(super) fn head_columns(x: &Tensor, row: usize, column: usize) -> Strided<'_> {
    let data = x.values().get(row * x.cols() + column..).unwrap_or_default();
    Strided { data, row: x.cols(), column: 1 }
}
