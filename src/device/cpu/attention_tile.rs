//! The probabilities and results of a few queries of one head, by the tiles of products: scores
//! `scale q k^T`, capped, biased and masked, their softmax, and its sum of values.
//!
//! Keys stand in columns, counted from a multiple of 16 before the first that is seen, so that a key has the
//! same lane in whatever run it is.

use std::ops::Range;

use super::attention::{Role, Source, Tile, seen_keys, visible_keys};
use super::dispatch::{level, multiversion};
use super::gated_act::cap_values;
use super::math;
use super::shared::put;
use super::small::{FEW, Strided, small};
use super::tile::{self, LANES, Rows};
use crate::device::ops::{AttentionArgs, ScoreBias};

/// Columns of a panel; the last has fewer.
const PANEL: usize = 4 * LANES;

/// Keys and values of one head that a run of queries sees.
#[derive(Default)]
pub(super) struct Packed {
    /// Panels `[width, columns]` of keys.
    keys: Vec<f32>,
    /// Panels `[keys, columns]` of values.
    values: Vec<f32>,
    /// The key of the first column.
    origin: usize,
    /// Columns, a multiple of 16.
    wide: usize,
    /// So few queries that packing would cost more than the products: nothing is, and keys and values
    /// are read where they lie.
    few: bool,
}

/// Probabilities of a tile's queries.
#[derive(Default)]
pub(super) struct Probabilities {
    /// `[queries, wide]`.
    pub(super) values: Vec<f32>,
    /// Capped scores, where they were asked for.
    pub(super) capped: Option<Vec<f32>>,
    /// Elements between rows.
    pub(super) wide: usize,
    /// The key of the first column.
    origin: usize,
    seen: Vec<Range<usize>>,
}

impl Packed {
    /// Takes the keys and values that a run of queries sees.
    pub(super) fn pack(
        &mut self,
        args: &AttentionArgs<'_, Vec<f32>>,
        source: Source<'_>,
        run: &Tile,
    ) {
        let (width, seen) = (args.head_width, visible_keys(args, run));
        self.origin = seen.start / LANES * LANES;
        self.wide = (seen.end - self.origin).next_multiple_of(LANES);
        self.few = run.queries.len() <= FEW;
        if self.few {
            return;
        }
        let before = seen.start - self.origin;
        fresh(&mut self.keys, self.wide * width);
        for (place, keys) in source.visible(args, run, Role::Key) {
            let columns = before + place.start..before + place.end;
            turn((keys.data, keys.row, width), columns, (&mut self.keys, self.wide));
        }
        fresh(&mut self.values, self.wide * width.next_multiple_of(LANES));
        for (place, values) in source.visible(args, run, Role::Value) {
            for (at, key) in (before + place.start..before + place.end).enumerate() {
                let row = &values.data[at * values.row..][..width];
                for (first, part) in (0..).step_by(PANEL).zip(row.chunks(PANEL)) {
                    let (_, columns) = panel(width.next_multiple_of(LANES), first);
                    put(&mut self.values[first * self.wide + key * columns..][..part.len()], part);
                }
            }
        }
    }

    /// What the tile's queries read: the sum of values, each by its probability; `[queries, width]`.
    pub(super) fn values_of(
        &self,
        args: &AttentionArgs<'_, Vec<f32>>,
        source: Source<'_>,
        (probs, tile): (&Probabilities, &Tile),
        out: &mut [f32],
    ) {
        let (width, wide, rows) = (args.head_width, self.wide, tile.queries.len());
        if self.few {
            let before = probs.first_column(args, tile);
            let mut so_far = 0.0;
            for (place, values) in source.visible(args, tile, Role::Value) {
                if !place.is_empty() {
                    let data = &probs.values[before + place.start..];
                    let weights = Strided { data, row: wide, column: 1 };
                    let shape = (rows, place.len(), width);
                    small(shape, (1.0, so_far), weights, values, (&mut *out, width));
                    so_far = 1.0;
                }
            }
            return;
        }
        let columns = self.columns(visible_keys(args, tile));
        let a = Rows { values: &probs.values[columns.start..], rows, stride: wide, step: 1 };
        for first in (0..width).step_by(PANEL) {
            let (_, across) = panel(width.next_multiple_of(LANES), first);
            let values = &self.values[first * wide..];
            let panel = &values[columns.start * across..columns.end * across];
            let mut sums = [0.0; tile::ROWS * PANEL];
            tile::add(level(), a, (panel, across), &mut sums);
            let part = across.min(width - first);
            for (out, sums) in out.chunks_exact_mut(width).zip(sums.chunks_exact(across)) {
                put(&mut out[first..first + part], &sums[..part]);
            }
        }
    }

    /// Columns of whole panels that hold some keys.
    fn columns(&self, keys: Range<usize>) -> Range<usize> {
        let first = (keys.start - self.origin) / PANEL * PANEL;
        first..(keys.end - self.origin).next_multiple_of(PANEL).min(self.wide)
    }
}

impl Probabilities {
    /// Those of a tile, whose run is packed.
    pub(super) fn compute(
        &mut self,
        args: &AttentionArgs<'_, Vec<f32>>,
        source: Source<'_>,
        (packed, tile): (&Packed, &Tile),
    ) {
        let (rows, wide) = (tile.queries.len(), packed.wide);
        (self.wide, self.origin) = (wide, packed.origin);
        self.values.resize(rows * wide, 0.0);
        let columns = self.score(args, source, (packed, tile));
        if let Some(cap) = args.softcap {
            cap_values(cap, &mut self.values);
        }
        if let Some(capped) = &mut self.capped {
            capped.clone_from(&self.values);
        }
        self.seen.clear();
        for (row, query) in self.values.chunks_exact_mut(wide).zip(tile.queries.clone()) {
            let keys = seen_keys(args, query, tile);
            let seen = keys.start - packed.origin..keys.end - packed.origin;
            add_bias(args, tile, (query, keys.clone()), &mut row[seen.clone()]);
            row[columns.start..seen.start].fill(f32::NEG_INFINITY);
            row[seen.end..columns.end].fill(f32::NEG_INFINITY);
            softmax(&mut row[columns.clone()]);
            self.seen.push(keys);
        }
    }

    /// Keys that the i-th query sees, and their probabilities.
    pub(super) fn of_query(&self, i: usize) -> (Range<usize>, &[f32]) {
        let seen = self.seen[i].clone();
        let first = i * self.wide + seen.start - self.origin;
        (seen.clone(), &self.values[first..first + seen.len()])
    }

    /// Where the first key that some query sees stands in a row.
    pub(super) fn first_column(&self, args: &AttentionArgs<'_, Vec<f32>>, tile: &Tile) -> usize {
        visible_keys(args, tile).start - self.origin
    }

    /// `scale q k^T`; gives the columns that hold it.
    fn score(
        &mut self,
        args: &AttentionArgs<'_, Vec<f32>>,
        source: Source<'_>,
        (packed, tile): (&Packed, &Tile),
    ) -> Range<usize> {
        let (width, wide, q) = (args.head_width, packed.wide, source.queries(args, tile));
        if packed.few {
            let before = self.first_column(args, tile);
            self.values.fill(0.0);
            for (place, k) in source.visible(args, tile, Role::Key) {
                let k = Strided { data: k.data, row: 1, column: k.row };
                let shape = (tile.queries.len(), width, place.len());
                if !place.is_empty() {
                    let out = (&mut self.values[before + place.start..], wide);
                    small(shape, (args.scale, 0.0), q, k, out);
                }
            }
            return 0..wide;
        }
        let columns = packed.columns(visible_keys(args, tile));
        let groups = self.values.chunks_mut(tile::ROWS * wide).enumerate();
        for (group, to) in groups {
            let values = &q.data[group * tile::ROWS * q.row..];
            let a = Rows { values, rows: to.len() / wide, stride: q.row, step: 1 };
            for first in columns.clone().step_by(PANEL) {
                let (_, across) = panel(wide, first);
                let keys = &packed.keys[first * width..(first + across) * width];
                let mut sums = [0.0; tile::ROWS * PANEL];
                tile::add(level(), a, (keys, across), &mut sums);
                for (to, sums) in to.chunks_exact_mut(wide).zip(sums.chunks_exact(across)) {
                    scaled(args.scale, sums, &mut to[first..first + across]);
                }
            }
        }
        columns
    }
}

/// First column of the panel of `wide` columns that holds one, and the panel's columns.
fn panel(wide: usize, column: usize) -> (usize, usize) {
    let first = column / PANEL * PANEL;
    (first, PANEL.min(wide - first))
}

/// So many zeros.
fn fresh(values: &mut Vec<f32>, count: usize) {
    values.clear();
    values.resize(count, 0.0);
}

/// Adds ALiBi's or T5's bias to one query's scores of the keys it sees.
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
            let first = keys.start + reach - (tile.past.len() + query);
            for (score, bias) in row.iter_mut().zip(&head[first..]) {
                *score += bias;
            }
        }
    }
}

multiversion! {
    /// Rows of some width as columns of panels of `wide` columns, four by four where they fit.
    fn turn(rows: (&[f32], usize, usize), columns: Range<usize>, panels: (&mut [f32], usize)) {
        let ((data, apart, width), (out, wide)) = (rows, panels);
        let (mut row, mut column) = (0, columns.start);
        while column < columns.end {
            let (first, across) = panel(wide, column);
            let to = &mut out[first * width..][..across * width];
            let place = column - first;
            if column % 4 == 0 && column + 4 <= columns.end && width % 4 == 0 {
                let of = |r: usize| data[(row + r) * apart..][..width].as_chunks::<4>().0;
                let rows = of(0).iter().zip(of(1)).zip(of(2)).zip(of(3));
                for (to, (((a, b), c), d)) in to.chunks_exact_mut(4 * across).zip(rows) {
                    for k in 0..4 {
                        let turned = [a[k], b[k], c[k], d[k]];
                        to[k * across + place..][..4].copy_from_slice(&turned);
                    }
                }
                (row, column) = (row + 4, column + 4);
            } else {
                for (to, x) in to.chunks_exact_mut(across).zip(&data[row * apart..][..width]) {
                    to[place] = *x;
                }
                (row, column) = (row + 1, column + 1);
            }
        }
    }

    fn scaled(scale: f32, sums: &[f32], to: &mut [f32]) {
        for (to, sum) in to.iter_mut().zip(sums) {
            *to = scale * sum;
        }
    }

    /// Softmax of one query's scores, whole vectors of them, in place; what it does not see is -inf.
    fn softmax(row: &mut [f32]) {
        let (vectors, rest) = row.as_chunks_mut::<LANES>();
        assert!(rest.is_empty());
        let mut lanes = [f32::NEG_INFINITY; LANES];
        for vector in vectors.iter() {
            for (lane, x) in lanes.iter_mut().zip(vector) {
                *lane = if *x > *lane { *x } else { *lane };
            }
        }
        let max = lanes.iter().fold(f32::NEG_INFINITY, |a, &b| if b > a { b } else { a });
        let mut sums = [0.0_f32; LANES];
        for vector in vectors.iter_mut() {
            for (sum, x) in sums.iter_mut().zip(vector) {
                *x = math::exp(*x - max);
                *sum += *x;
            }
        }
        let inverse = 1.0 / sums.iter().sum::<f32>();
        for x in vectors.as_flattened_mut() {
            *x *= inverse;
        }
    }
}
