//! attention_grad: with P = softmax(S), S = scale q k^T (capped, then biased), O = P v:
//! dv = P^T dO, dP = dO v^T, dS = P (dP - rowsum(P dP)), dq = scale dS k, dk = scale dS^T q.
//! One key-value head of one sequence at a time, its query heads and tiles in order. The keys and
//! values of the past are held fixed: they get no gradient.
#![expect(unsafe_code, reason = "heads write interleaved columns of one tensor")]

use std::cell::RefCell;

use rayon::prelude::*;

use super::activation_grad::cap_gradient;
use super::attention::{Role, Source, Tile, head_columns, own_keys};
use super::attention_tile::{Packed, Probabilities};
use super::buffer::Tensor;
use super::dispatch::multiversion;
use super::shared::SharedMut;
use super::small::{Strided, small};
use crate::device::ops::AttentionArgs;

/// Queries of a tile.
const TILE: usize = 64;

/// Buffers of a thread; they grow to the longest sequence once.
#[derive(Default)]
struct Scratch {
    packed: Packed,
    /// Probabilities of a tile, and its capped scores.
    probs: Probabilities,
    /// Gradient of its scores, in the same columns.
    scores: Vec<f32>,
    /// Gradients of a tile's queries, and of the head's keys and values, `[n, d]`.
    q: Vec<f32>,
    k: Vec<f32>,
    v: Vec<f32>,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

/// One key-value head of one sequence.
#[derive(Clone, Copy)]
struct Unit {
    sequence: usize,
    start: usize,
    length: usize,
    kv_head: usize,
}

/// See [`crate::device::gradient_ops::GradientOps::attention_grad`].
pub(super) fn attention_grad(
    args: &AttentionArgs<'_, Vec<f32>>,
    source: Source<'_>,
    g: &Tensor,
    out: &mut Tensor,
) {
    source.check(args);
    let qkv = source.qkv;
    assert_eq!((out.rows(), out.cols()), (qkv.rows(), qkv.cols()));
    assert_eq!((g.rows(), g.cols()), (qkv.rows(), args.heads * args.head_width));
    let units: Vec<Unit> = args
        .starts
        .windows(2)
        .enumerate()
        .flat_map(|(sequence, pair)| {
            let (start, length) = (pair[0] as usize, (pair[1] - pair[0]) as usize);
            (0..args.kv_heads).map(move |kv_head| Unit { sequence, start, length, kv_head })
        })
        .collect();
    let cols = out.cols();
    let out = SharedMut::new(out.values_mut());
    units.into_par_iter().for_each(|unit| {
        SCRATCH.with_borrow_mut(|scratch| head_grad(args, unit, (source, g), scratch, (out, cols)));
    });
}

fn head_grad(
    args: &AttentionArgs<'_, Vec<f32>>,
    unit: Unit,
    (source, g): (Source<'_>, &Tensor),
    scratch: &mut Scratch,
    (out, cols): (SharedMut, usize),
) {
    let Unit { sequence, start, length, kv_head } = unit;
    let width = args.head_width;
    for sums in [&mut scratch.k, &mut scratch.v] {
        sums.clear();
        sums.resize(length * width, 0.0);
    }
    scratch.q.resize(TILE * width, 0.0);
    let group = args.heads / args.kv_heads;
    for head in kv_head * group..(kv_head + 1) * group {
        for first in (0..length).step_by(TILE) {
            let queries = first..(first + TILE).min(length);
            let past = source.past_rows(sequence);
            let tile = Tile { start, length, past, queries, head, probs: 0 };
            tile_grad(args, &tile, (source, g), scratch);
            for (query, row) in tile.queries.zip(scratch.q.chunks_exact(width)) {
                // SAFETY: the query head's columns of the sequence's rows are this unit's alone.
                unsafe { out.write((start + query) * cols + head * width, row) };
            }
        }
    }
    for (first, sums) in [(args.heads, &scratch.k), (args.heads + args.kv_heads, &scratch.v)] {
        for (token, row) in (start..).zip(sums.chunks_exact(width)) {
            // SAFETY: so are the columns of its keys and of its values.
            unsafe { out.write(token * cols + (first + kv_head) * width, row) };
        }
    }
}

/// Gradient of a tile's queries into `q`; those of the batch's keys and values are added.
fn tile_grad(
    args: &AttentionArgs<'_, Vec<f32>>,
    tile: &Tile,
    (source, g): (Source<'_>, &Tensor),
    scratch: &mut Scratch,
) {
    let Scratch { packed, probs, scores, q, k, v } = scratch;
    let (width, m) = (args.head_width, tile.queries.len());
    probs.capped = args.softcap.map(|_| probs.capped.take().unwrap_or_default());
    packed.pack(args, source, tile);
    probs.compute(args, source, (packed, tile));
    let (n, before) = (probs.wide, probs.first_column(args, tile));
    scores.clear();
    scores.resize(m * n, 0.0);
    let g = head_columns(g, tile.start + tile.queries.start, tile.head * width);
    let values = source.visible(args, tile, Role::Value);
    for (place, values) in &values {
        let across = Strided { data: values.data, row: 1, column: values.row };
        if !place.is_empty() {
            let out = (&mut scores[before + place.start..], n);
            small((m, width, place.len()), (1.0, 0.0), g, across, out);
        }
    }
    // The batch's own keys: where they stand among the visible ones, and in the sums.
    let (own, keys) = (values[1].0.clone(), own_keys(args, tile));
    let sums = keys.start * width..keys.end * width;
    let own_columns = before + own.start;
    let data = probs.values.get(own_columns..).unwrap_or_default();
    let turned = Strided { data, row: 1, column: n };
    small((own.len(), m, width), (1.0, 1.0), turned, g, (&mut v[sums.clone()], width));
    for (p, s) in probs.values.chunks_exact(n).zip(scores.chunks_exact_mut(n)) {
        through_softmax(p, s);
    }
    if let (Some(cap), Some(capped)) = (args.softcap, &probs.capped) {
        cap_gradient(cap, capped, scores);
    }
    let mut so_far = 0.0;
    for (place, keys) in source.visible(args, tile, Role::Key) {
        let data = scores.get(before + place.start..).unwrap_or_default();
        let ds = Strided { data, row: n, column: 1 };
        if !place.is_empty() {
            small((m, place.len(), width), (args.scale, so_far), ds, keys, (&mut *q, width));
            so_far = 1.0;
        }
    }
    let data = scores.get(own_columns..).unwrap_or_default();
    let turned = Strided { data, row: 1, column: n };
    let queries = source.queries(args, tile);
    small((own.len(), m, width), (args.scale, 1.0), turned, queries, (&mut k[sums], width));
}

multiversion! {
    /// s = p (s - sum(p s)).
    fn through_softmax(p: &[f32], s: &mut [f32]) {
        let mut lanes = [0.0_f32; 16];
        for (p, s) in p.chunks(16).zip(s.chunks(16)) {
            for ((lane, p), s) in lanes.iter_mut().zip(p).zip(s) {
                *lane += p * s;
            }
        }
        let mean = lanes.iter().sum::<f32>();
        for (p, s) in p.iter().zip(s) {
            *s = p * (*s - mean);
        }
    }
}
