//! gemm: `out = x W^T + b` with packed weights, tile by tile, in f32 or of bfloat16 with sums in f32; and
//! small products of activations, by `matrixmultiply`.
//!
//! Rows and panels are shared among threads in fixed pieces. Each element is summed over the inner
//! dimension in one fixed order, so that its bits depend on neither.
#![expect(unsafe_code, reason = "pieces of rows that no slice can lend; matrixmultiply's pointers")]

use std::cell::Cell;

use rayon::prelude::*;

use super::buffer::{Matrix, Tensor};
use super::dispatch::{Level, level, multiversion};
use super::pairs;
use super::panels::{PANEL, Panels, Values};
use super::shared::SharedMut;
use super::tile::{self, Rows};

/// Rows of a piece: they stay in the second cache beside a panel.
const ROWS: usize = 192;
/// Panels of a piece.
const PANELS: usize = 8;
/// So few rows are multiplied one by one: packing would cost more than the products.
const FEW: usize = 2;

/// A strided matrix in memory.
#[derive(Clone, Copy)]
pub(super) struct Strided<'a> {
    /// From its first element on.
    pub(super) data: &'a [f32],
    /// Elements between rows.
    pub(super) row: usize,
    /// Elements between columns.
    pub(super) column: usize,
}

/// `out = x W^T + b`.
pub(super) fn linear(weight: &Matrix, x: &Tensor, out: &mut Tensor) {
    assert_eq!((out.rows(), out.cols()), (x.rows(), weight.weight.outputs()));
    assert_eq!(x.cols(), weight.weight.inputs());
    let bias = weight.bias.as_deref();
    product(level(), (&weight.weight, bias), x.values(), out.values_mut());
}

/// The same of bare rows, with the instructions of a level that this machine has.
fn product(with: Level, (weight, bias): (&Panels, Option<&[f32]>), x: &[f32], out: &mut [f32]) {
    let (inner, columns) = (weight.inputs(), weight.outputs());
    let rows = out.len().checked_div(columns).unwrap_or(0);
    assert_eq!(x.len(), rows * inner);
    let plain = |x: &[f32], panels: &[f32], out: &mut [f32]| {
        tiles((rows, columns, bias), out, |(row, tall), panel, sums| {
            let a = Rows { values: &x[row * inner..], rows: tall, stride: inner, step: 1 };
            sums.fill(0.0);
            tile::add(with, a, (&panels[panel * inner * PANEL..][..inner * PANEL], PANEL), sums);
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
            let steps = inner.div_ceil(2);
            let mut words = WORDS.take();
            words.resize(rows * steps, 0);
            let both = words.par_chunks_mut((ROWS * steps).max(1));
            both.zip(x.par_chunks((ROWS * inner).max(1)))
                .for_each(|(words, x)| pairs::pack_rows(inner, x, words));
            tiles((rows, columns, bias), out, |(row, tall), panel, sums| {
                let panel = &panels[panel * steps * PANEL..][..steps * PANEL];
                pairs::multiply((&words[row * steps..], tall, steps), panel, sums);
            });
            WORDS.set(words);
        }
    }
}

thread_local! {
    /// The left side of the last product in pairs: its memory is used again by the next one.
    static WORDS: Cell<Vec<u32>> = const { Cell::new(Vec::new()) };
}

/// Every tile of `[rows, columns]` with its bias, in pieces that threads share: `multiply` gives the sums
/// `[tall, 64]` of (first row, tall) and a panel.
fn tiles(
    (rows, columns, bias): (usize, usize, Option<&[f32]>),
    out: &mut [f32],
    multiply: impl Fn((usize, usize), usize, &mut [f32]) + Sync,
) {
    let target = SharedMut::new(out);
    let panels = columns.div_ceil(PANEL);
    let pieces: Vec<(usize, usize)> = (0..rows)
        .step_by(ROWS)
        .flat_map(|row| (0..panels).step_by(PANELS).map(move |panel| (row, panel)))
        .collect();
    pieces.into_par_iter().for_each(|(first_row, first_panel)| {
        let piece = first_row..rows.min(first_row + ROWS);
        let mut sums = [0.0; tile::ROWS * PANEL];
        for panel in first_panel..panels.min(first_panel + PANELS) {
            let column = panel * PANEL;
            let width = PANEL.min(columns - column);
            for row in piece.clone().step_by(tile::ROWS) {
                let tall = tile::ROWS.min(piece.end - row);
                multiply((row, tall), panel, &mut sums);
                for (at, sums) in (row..).zip(sums.chunks_exact_mut(PANEL).take(tall)) {
                    if let Some(bias) = bias {
                        sums.iter_mut().zip(&bias[column..]).for_each(|(sum, b)| *sum += b);
                    }
                    // SAFETY: a row of `out` and a panel's columns in it belong to one piece.
                    unsafe { target.write(at * columns + column, &sums[..width]) };
                }
            }
        }
    });
}

/// `out[m, n] = scale * a[m, k] b[k, n] + beta * out`, on the calling thread; `out` has `out_row`
/// elements between rows.
pub(super) fn small(
    (m, k, n): (usize, usize, usize),
    (scale, beta): (f32, f32),
    a: Strided<'_>,
    b: Strided<'_>,
    (out, out_row): (&mut [f32], usize),
) {
    let last =
        |rows: usize, columns: usize, s: Strided<'_>| (rows - 1) * s.row + (columns - 1) * s.column;
    if m == 0 || n == 0 || k == 0 {
        return;
    }
    assert!(last(m, k, a) < a.data.len() && last(k, n, b) < b.data.len());
    assert!((m - 1) * out_row + n <= out.len());
    if m <= FEW && a.column == 1 && (b.row == 1 || b.column == 1) {
        for row in 0..m {
            let out = &mut out[row * out_row..][..n];
            let a = &a.data[row * a.row..][..k];
            match b.row {
                1 => dots((scale, beta), a, b.data, b.column, out),
                _ => combination((scale, beta), a, b.data, b.row, out),
            }
        }
        return;
    }
    // SAFETY: the last element of each matrix was just found inside its slice.
    unsafe {
        matrixmultiply::sgemm(
            m,
            k,
            n,
            scale,
            a.data.as_ptr(),
            stride(a.row),
            stride(a.column),
            b.data.as_ptr(),
            stride(b.row),
            stride(b.column),
            beta,
            out.as_mut_ptr(),
            stride(out_row),
            1,
        );
    }
}

multiversion! {
    /// `out[j] = scale * a . b[j] + beta * out[j]`, the rows of b `apart`.
    fn dots(factors: (f32, f32), a: &[f32], b: &[f32], apart: usize, out: &mut [f32]) {
        let (scale, beta) = factors;
        for (j, out) in out.iter_mut().enumerate() {
            let mut lanes = [0.0_f32; 16];
            for (a, b) in a.chunks(16).zip(b[j * apart..].chunks(16)) {
                for ((lane, a), b) in lanes.iter_mut().zip(a).zip(b) {
                    *lane += a * b;
                }
            }
            let kept = if beta == 0.0 { 0.0 } else { beta * *out };
            *out = scale * lanes.iter().sum::<f32>() + kept;
        }
    }

    /// `out = scale * sum_k a[k] b[k] + beta * out`, the rows of b `apart`.
    fn combination(factors: (f32, f32), a: &[f32], b: &[f32], apart: usize, out: &mut [f32]) {
        let (scale, beta) = factors;
        if beta == 0.0 {
            out.fill(0.0);
        } else if beta != 1.0 {
            out.iter_mut().for_each(|x| *x *= beta);
        }
        for (k, a) in a.iter().enumerate() {
            for (out, b) in out.iter_mut().zip(&b[k * apart..]) {
                *out += scale * a * b;
            }
        }
    }
}

fn stride(n: usize) -> isize {
    isize::try_from(n).expect("slices are shorter than isize::MAX")
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
            product(with, (packed, bias), x, &mut out);
            for row in 0..rows {
                let own = &x[row * inner..][..inner];
                let mut alone = vec![f32::NAN; columns];
                product(with, (packed, bias), own, &mut alone);
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
