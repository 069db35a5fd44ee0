//! gemm: `x W^T + b` with packed weights, tile by tile, in f32 or of bfloat16 with sums in f32; what is done
//! to the sums next is done while they are in the first cache.
//!
//! Rows and panels are shared among threads in fixed pieces. Each element is summed over the inner
//! dimension in one fixed order, so that its bits depend on neither.
#![expect(unsafe_code, reason = "pieces of rows that no slice can lend")]

use std::cell::{Cell, RefCell};
use std::ops::Range;

use rayon::prelude::*;

use super::buffer::{Matrix, Tensor};
use super::dispatch::{Level, level, multiversion};
use super::pairs;
use super::panels::{PANEL, Panels, Values};
use super::shared::SharedMut;
use super::tile::{self, Rows};

/// Rows of a piece: a stretch of them stays in the second cache beside that of a panel, and their sums.
const ROWS: usize = 96;
/// Panels of a piece: the rows are fetched once for all of them.
const PANELS: usize = 4;
/// Steps along the inner dimension before the next tile of rows has its turn.
const STRETCH: usize = 512;

/// What is done to a product's sums on their way out.
#[derive(Clone, Copy)]
pub(super) enum Then<'a> {
    /// `out = sums`.
    Store,
    /// `out = f(sums)`, element by element and in place.
    Apply(fn(&mut [f32])),
    /// `out = a * sums`.
    Multiply(&'a [f32]),
    /// `out += sums`.
    Add,
}

/// `x W^T + b` into `out`, as `then` has it.
pub(super) fn linear(weight: &Matrix, x: &Tensor, then: Then<'_>, out: &mut Tensor) {
    assert_eq!((out.rows(), out.cols()), (x.rows(), weight.weight.outputs()));
    assert_eq!(x.cols(), weight.weight.inputs());
    let bias = weight.bias.as_deref();
    product(level(), (&weight.weight, bias), x.values(), (then, out.values_mut()));
}

/// The same of bare rows, with the instructions of a level that this machine has.
fn product(
    with: Level,
    (weight, bias): (&Panels, Option<&[f32]>),
    x: &[f32],
    (then, out): (Then<'_>, &mut [f32]),
) {
    let (inner, columns) = (weight.inputs(), weight.outputs());
    let rows = out.len().checked_div(columns).unwrap_or(0);
    assert_eq!(x.len(), rows * inner);
    let plain = |x: &[f32], panels: &[f32], out: &mut [f32]| {
        let shape = Shape { rows, columns, steps: inner };
        tiles(shape, bias, (then, out), |(row, tall), panel, steps, sums| {
            let values = &x[row * inner + steps.start..];
            let a = Rows { values, rows: tall, stride: inner, step: 1 };
            let panel = &panels[panel * inner * PANEL..][steps.start * PANEL..steps.end * PANEL];
            tile::add(with, a, (panel, PANEL), sums);
        });
    };
    match weight.values() {
        Values::Exact(panels) => plain(x, panels, out),
        Values::Rounded(panels) => {
            let mut rounded = vec![0.0; x.len()];
            let length = (ROWS * inner).max(1);
            let both = rounded.par_chunks_mut(length).zip(x.par_chunks(length));
            both.for_each(|(to, x)| pairs::round_rows(x, to));
            plain(&rounded, panels, out);
        }
        Values::Pairs(panels) => {
            let all = inner.div_ceil(2);
            let mut words = WORDS.take();
            words.resize(rows * all, 0);
            let both = words.par_chunks_mut((ROWS * all).max(1));
            both.zip(x.par_chunks((ROWS * inner).max(1)))
                .for_each(|(words, x)| pairs::pack_rows(inner, x, words));
            let shape = Shape { rows, columns, steps: all };
            tiles(shape, bias, (then, out), |(row, tall), panel, steps, sums| {
                let panel = &panels[panel * all * PANEL..][steps.start * PANEL..steps.end * PANEL];
                pairs::add((&words[row * all + steps.start..], tall, all), panel, sums);
            });
            WORDS.set(words);
        }
    }
}

thread_local! {
    /// The left side of the last product in pairs: its memory is used again by the next one.
    static WORDS: Cell<Vec<u32>> = const { Cell::new(Vec::new()) };
    /// The sums of a piece, panel by panel, where they wait for another stretch.
    static SUMS: RefCell<Vec<[f32; PANEL]>> = const { RefCell::new(Vec::new()) };
}

/// Of a product: of its result, and the steps along the inner dimension.
#[derive(Clone, Copy)]
struct Shape {
    rows: usize,
    columns: usize,
    steps: usize,
}

/// Every tile of a result, in pieces that threads share: `add` adds to the sums `[tall, 64]` of (first row,
/// tall) and a panel what some of the steps give.
fn tiles(
    shape: Shape,
    bias: Option<&[f32]>,
    (then, out): (Then<'_>, &mut [f32]),
    add: impl Fn((usize, usize), usize, Range<usize>, &mut [f32]) + Sync,
) {
    let Shape { rows, columns, steps } = shape;
    assert_eq!(out.len(), rows * columns);
    assert!(bias.is_none_or(|bias| bias.len() == columns));
    let target = SharedMut::new(out);
    let panels = columns.div_ceil(PANEL);
    let pieces: Vec<(usize, usize)> = (0..rows)
        .step_by(ROWS)
        .flat_map(|row| (0..panels).step_by(PANELS).map(move |panel| (row, panel)))
        .collect();
    let stretches = steps.div_ceil(STRETCH).max(1);
    let piece = |(first_row, first_panel), sums: &mut Vec<[f32; PANEL]>| {
        let piece: Range<usize> = first_row..rows.min(first_row + ROWS);
        // Sums that are done at once need no place of their own.
        let apart = if stretches == 1 { 0 } else { piece.len() };
        let room = tile::ROWS.max(apart * PANELS);
        if sums.len() < room {
            sums.resize(room, [0.0; PANEL]);
        }
        for stretch in 0..stretches {
            let steps = stretch * STRETCH..steps.min((stretch + 1) * STRETCH);
            let last = stretch + 1 == stretches;
            for panel in first_panel..panels.min(first_panel + PANELS) {
                let column = panel * PANEL;
                let width = PANEL.min(columns - column);
                let place = Place { column, width, columns };
                let bias = bias.map_or(&[][..], |bias| &bias[column..][..width]);
                for row in piece.clone().step_by(tile::ROWS) {
                    let tall = tile::ROWS.min(piece.end - row);
                    let own = (panel - first_panel) * apart + (row - first_row).min(apart);
                    let sums = &mut sums[own..][..tall];
                    if stretch == 0 {
                        begin(bias, sums);
                    }
                    if last {
                        // What is written comes into the cache while the tile is computed.
                        (row..row + tall).for_each(|row| target.expect(place.at(row), width));
                    }
                    add((row, tall), panel, steps.clone(), sums.as_flattened_mut());
                    if last {
                        // SAFETY: a row of `out` and a panel's columns in it belong to one piece.
                        unsafe { finish(then, sums, (row, place), target) };
                    }
                }
            }
        }
    };
    pieces.into_par_iter().for_each(|at| SUMS.with_borrow_mut(|sums| piece(at, sums)));
}

/// The columns of a panel in the rows of a result.
#[derive(Clone, Copy)]
struct Place {
    column: usize,
    width: usize,
    columns: usize,
}

impl Place {
    fn at(self, row: usize) -> usize {
        row * self.columns + self.column
    }
}

/// The sums of some rows from `row` on, as `then` has it, to where they belong.
///
/// # Safety
/// These columns of these rows must be inside the target, and nobody else's.
unsafe fn finish(
    then: Then<'_>,
    sums: &mut [[f32; PANEL]],
    (row, place): (usize, Place),
    out: SharedMut,
) {
    match then {
        Then::Store | Then::Add => {}
        Then::Apply(f) => f(sums.as_flattened_mut()),
        Then::Multiply(a) => {
            for (row, sums) in (row..).zip(sums.iter_mut()) {
                scale(&a[place.at(row)..][..place.width], sums);
            }
        }
    }
    for (row, sums) in (row..).zip(sums) {
        let sums = &sums[..place.width];
        // SAFETY: the caller's promise.
        unsafe {
            match then {
                Then::Add => out.add(place.at(row), sums),
                _ => out.write(place.at(row), sums),
            }
        }
    }
}

multiversion! {
    /// What sums begin with.
    fn begin(bias: &[f32], sums: &mut [[f32; PANEL]]) {
        let mut first = [0.0; PANEL];
        first[..bias.len()].copy_from_slice(bias);
        sums.fill(first);
    }

    fn scale(a: &[f32], sums: &mut [f32; PANEL]) {
        for (sum, a) in sums.iter_mut().zip(a) {
            *sum *= a;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::CpuDevice;
    use super::*;
    use crate::hash::{GAMMA, mix};

    fn numbers(count: usize, seed: u64) -> Vec<f32> {
        let number = |at: usize| {
            let bits = mix((at as u64 + 1).wrapping_mul(GAMMA) ^ seed) >> 40;
            bits as f32 / (1 << 23) as f32 - 1.0
        };
        (0..count).map(number).collect()
    }

    const SHAPES: [(usize, usize, usize); 7] = [
        (1, 1, 1),
        (7, 3, 65),
        (13, 64, 64),
        (5, 100, 130),
        (200, 49, 20),
        (9, 2501, 70),
        (3, 0, 4),
    ];

    /// Every remainder of rows, columns and steps against a loop in f64, at every level; and each row
    /// alone has the bits it has among others.
    #[test]
    fn products_are_those_of_a_plain_loop() {
        for (rows, inner, columns) in SHAPES {
            let (x, w) = (numbers(rows * inner, 1), numbers(columns * inner, 2));
            let packed = Panels::pack(CpuDevice::F32, (columns, inner), |o, i| w[o * inner + i]);
            for with in Level::all() {
                against_a_loop((with, &packed), &x, &w);
            }
            turned(&packed, &w);
        }
    }

    /// The same of numbers rounded to bfloat16: pairs where the processor has them, and f32.
    #[test]
    fn products_of_bf16_are_those_of_rounded_numbers() {
        let near = |x: &[f32]| -> Vec<f32> {
            x.iter().map(|x| half::bf16::from_f32(*x).to_f32()).collect()
        };
        for (rows, inner, columns) in SHAPES {
            let (x, w) = (numbers(rows * inner, 1), numbers(columns * inner, 2));
            let at = |o: usize, i: usize| w[o * inner + i];
            let pairs = Panels::pack(CpuDevice::Bf16, (columns, inner), at);
            let plain = Panels::rounded((columns, inner), at);
            assert!(pairs::available() == matches!(pairs.values(), Values::Pairs(_)));
            for packed in [pairs, plain] {
                for with in Level::all() {
                    // The rows that are given are rounded by the product itself.
                    against_a_loop((with, &packed), &x, &near(&w));
                }
                turned(&packed, &near(&w));
            }
        }
    }

    /// What is done to the sums on their way has the bits of the same done afterwards, over every remainder
    /// and every number of stretches.
    #[test]
    fn sums_are_finished_on_their_way_out() {
        for (rows, inner, columns) in SHAPES {
            let (x, w) = (numbers(rows * inner, 1), numbers(columns * inner, 2));
            let (a, b) = (numbers(rows * columns, 3), numbers(columns, 4));
            for device in [CpuDevice::F32, CpuDevice::Bf16] {
                let packed = Panels::pack(device, (columns, inner), |o, i| w[o * inner + i]);
                let of = |then: Then<'_>, mut out: Vec<f32>| {
                    product(level(), (&packed, Some(&b)), &x, (then, &mut out));
                    out
                };
                let plain = of(Then::Store, vec![f32::NAN; rows * columns]);
                let twice: fn(&mut [f32]) = |x| x.iter_mut().for_each(|x| *x = 2.0 * *x + 1.0);
                let mut applied = plain.clone();
                twice(&mut applied);
                assert_eq!(of(Then::Apply(twice), vec![f32::NAN; rows * columns]), applied);
                let by = |f: fn(f32, f32) -> f32| -> Vec<f32> {
                    plain.iter().zip(&a).map(|(x, a)| f(*x, *a)).collect()
                };
                let product = of(Then::Multiply(&a), vec![f32::NAN; rows * columns]);
                assert_eq!(product, by(|x, a| x * a));
                assert_eq!(of(Then::Add, a.clone()), by(|x, a| a + x));
            }
        }
    }

    /// `w` as it is multiplied.
    fn against_a_loop((with, packed): (Level, &Panels), x: &[f32], w: &[f32]) {
        let (inner, columns) = (packed.inputs(), packed.outputs());
        let rows = x.len().checked_div(inner).unwrap_or(3);
        let b = numbers(columns, 3);
        let multiplied = |x: f32| match packed.values() {
            Values::Exact(_) => f64::from(x),
            Values::Rounded(_) | Values::Pairs(_) => half::bf16::from_f32(x).to_f64(),
        };
        for bias in [None, Some(&b[..])] {
            let mut out = vec![f32::NAN; rows * columns];
            product(with, (packed, bias), x, (Then::Store, &mut out));
            for row in 0..rows {
                let own = &x[row * inner..][..inner];
                let mut alone = vec![f32::NAN; columns];
                product(with, (packed, bias), own, (Then::Store, &mut alone));
                assert_eq!(alone, out[row * columns..][..columns], "{with:?} row {row}");
                for column in 0..columns {
                    let w = &w[column * inner..][..inner];
                    let terms = own.iter().zip(w).map(|(a, b)| multiplied(*a) * f64::from(*b));
                    let want = terms.sum::<f64>() + bias.map_or(0.0, |b| f64::from(b[column]));
                    let error = (f64::from(alone[column]) - want).abs();
                    assert!(error < 1e-5 * (inner as f64).sqrt() + 1e-6, "{error}");
                }
            }
        }
    }

    /// Single elements, columns, and the transpose.
    fn turned(packed: &Panels, w: &[f32]) {
        let (inner, columns) = (packed.inputs(), packed.outputs());
        let back = packed.transposed();
        let mut column = vec![0.0; columns];
        for input in 0..inner.min(5) {
            packed.of_input(input, &mut column);
            for (output, value) in column.iter().enumerate() {
                assert_eq!(*value, w[output * inner + input]);
                assert_eq!(packed.at(output, input), *value);
                assert_eq!(back.at(input, output), *value);
            }
        }
    }
}
