//! attention_grad: with P = softmax(S), S = scale q k^T (capped, then biased), O = P v:
//! dv = P^T dO, dP = dO v^T, dS = P (dP - rowsum(P dP)), dq = scale dS k, dk = scale dS^T q.
//! One key-value head of one sequence at a time, its query heads and tiles in order.
#![expect(unsafe_code, reason = "heads write interleaved columns of one tensor")]

use std::cell::RefCell;

use rayon::prelude::*;

use super::activation_grad::cap_gradient;
use super::attention::{TILE, Tile, columns, probabilities, visible_keys};
use super::buffer::Tensor;
use super::dispatch::multiversion;
use super::gemm::{Strided, small};
use super::shared::SharedMut;
use crate::device::ops::AttentionArgs;

/// Buffers of a thread; they grow to the longest sequence once.
#[derive(Default)]
struct Scratch {
    /// Probabilities of a tile, `[queries, keys]`.
    probs: Vec<f32>,
    /// Its capped scores.
    capped: Vec<f32>,
    /// Gradient of its scores.
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
    start: usize,
    length: usize,
    kv_head: usize,
}

/// See [`crate::device::gradient_ops::GradientOps::attention_grad`].
pub(super) fn attention_grad(
    args: &AttentionArgs<'_, Vec<f32>>,
    qkv: &Tensor,
    g: &Tensor,
    out: &mut Tensor,
) {
    assert_eq!(qkv.cols(), (args.heads + 2 * args.kv_heads) * args.head_width);
    assert_eq!((out.rows(), out.cols()), (qkv.rows(), qkv.cols()));
    assert_eq!((g.rows(), g.cols()), (qkv.rows(), args.heads * args.head_width));
    let sequences = args.starts.windows(2).map(|pair| (pair[0], pair[1] - pair[0]));
    let units: Vec<Unit> = sequences
        .flat_map(|(start, length)| {
            let (start, length) = (start as usize, length as usize);
            (0..args.kv_heads).map(move |kv_head| Unit { start, length, kv_head })
        })
        .collect();
    let cols = out.cols();
    let out = SharedMut::new(out.values_mut());
    units.into_par_iter().for_each(|unit| {
        SCRATCH.with_borrow_mut(|scratch| head_grad(args, unit, (qkv, g), scratch, (out, cols)));
    });
}

fn head_grad(
    args: &AttentionArgs<'_, Vec<f32>>,
    unit: Unit,
    (qkv, g): (&Tensor, &Tensor),
    scratch: &mut Scratch,
    (out, cols): (SharedMut, usize),
) {
    let Unit { start, length, kv_head } = unit;
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
            let tile = Tile { start, length, queries, head, probs: 0 };
            tile_grad(args, &tile, (qkv, g), scratch);
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

/// Gradient of a tile's queries into `q`; those of its keys and values are added.
fn tile_grad(
    args: &AttentionArgs<'_, Vec<f32>>,
    tile: &Tile,
    (qkv, g): (&Tensor, &Tensor),
    scratch: &mut Scratch,
) {
    let Scratch { probs, capped, scores, q, k, v } = scratch;
    let width = args.head_width;
    let keys = visible_keys(args, tile);
    let (m, n) = (tile.queries.len(), keys.len());
    for buffer in [&mut *probs, &mut *scores] {
        buffer.resize(m * n, 0.0);
    }
    probabilities(args, qkv, tile, (probs, args.softcap.map(|_| &mut *capped)));
    let kv_head = tile.head * args.kv_heads / args.heads;
    let at_query = tile.start + tile.queries.start;
    let g = Strided {
        data: &g.values()[at_query * g.cols() + tile.head * width..],
        row: g.cols(),
        column: 1,
    };
    let values = columns(qkv, tile, keys.start, args.heads + args.kv_heads + kv_head, width);
    let down = Strided { data: values.data, row: 1, column: values.row };
    small((m, width, n), (1.0, 0.0), g, down, (scores, n));
    let tail = keys.start * width..keys.end * width;
    let across = Strided { data: probs, row: 1, column: n };
    small((n, m, width), (1.0, 1.0), across, g, (&mut v[tail.clone()], width));
    for (p, s) in probs.chunks_exact(n).zip(scores.chunks_exact_mut(n)) {
        through_softmax(p, s);
    }
    if let Some(cap) = args.softcap {
        cap_gradient(cap, capped, scores);
    }
    let key = columns(qkv, tile, keys.start, args.heads + kv_head, width);
    let query = columns(qkv, tile, tile.queries.start, tile.head, width);
    let ds = Strided { data: scores, row: n, column: 1 };
    small((m, n, width), (args.scale, 0.0), ds, key, (q, width));
    let ds = Strided { data: scores, row: 1, column: n };
    small((n, m, width), (args.scale, 1.0), ds, query, (&mut k[tail], width));
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
