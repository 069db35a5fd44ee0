//! The inner loop of products: a tile of up to six rows and the columns of a panel, its sums in registers.
//! Each element goes on from the sum there is, `sum += a[k] b[k]` in the order of k, with one rounding a
//! step where the processor fuses product and sum, whatever rows stand beside it and wherever the steps
//! are cut.
#![cfg_attr(
    target_arch = "x86_64",
    expect(unsafe_code, reason = "vector instructions on slices whose bounds are checked first")
)]

use super::dispatch::{Level, level};

/// Rows of a tile.
pub(super) const ROWS: usize = 6;
/// Columns of a panel are a multiple of this, and at most four times as many.
pub(super) const LANES: usize = 16;

/// Rows of the left side: `rows` of them, 1 to 6, each `stride` after the one before; its elements are
/// `step` apart. Either `step` is 1, as in a matrix as it lies, or `stride` is, as in its transpose.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rows<'a> {
    pub(super) values: &'a [f32],
    pub(super) rows: usize,
    pub(super) stride: usize,
    pub(super) step: usize,
}

impl Rows<'_> {
    /// Steps of the panel; every element that a tile reads is there, and so are its sums.
    fn steps(&self, (panel, width): (&[f32], usize), sums: &[f32]) -> usize {
        assert!(width.is_multiple_of(LANES) && (1..=4).contains(&(width / LANES)));
        let steps = panel.len() / width;
        assert!((1..=ROWS).contains(&self.rows) && sums.len() >= self.rows * width);
        assert!(self.step == 1 || self.stride == 1);
        let last = (self.rows - 1) * self.stride + steps.saturating_sub(1) * self.step;
        assert!(steps == 0 || last < self.values.len());
        steps
    }
}

/// Adds the products of rows and a panel `[steps, width]` to `sums`, `[rows, width]`, with the instructions
/// of a level that this machine has.
pub(super) fn add(with: Level, a: Rows<'_>, panel: (&[f32], usize), sums: &mut [f32]) {
    assert!(with <= level(), "{with:?} on a machine without it");
    #[cfg(target_arch = "x86_64")]
    match with {
        // SAFETY: `level` has found these instructions on this processor.
        Level::Avx512 => return unsafe { avx512::tile(a, panel, sums) },
        // SAFETY: as above.
        Level::Avx2 => return unsafe { avx2::tile(a, panel, sums) },
        Level::Portable => {}
    }
    portable(a, panel, sums);
}

/// Products and sums in registers alone, `steps` of a whole tile each, to see how fast they can be; gives
/// their number and a result that depends on all of them.
pub(super) fn bare(with: Level, steps: usize, factors: [f32; 2]) -> (usize, f32) {
    assert!(with <= level(), "{with:?} on a machine without it");
    #[cfg(target_arch = "x86_64")]
    match with {
        // SAFETY: `level` has found these instructions on this processor.
        Level::Avx512 => return (steps * ROWS * 4 * 16, unsafe { avx512::bare(steps, factors) }),
        // SAFETY: as above.
        Level::Avx2 => return (steps * ROWS * 2 * 8, unsafe { avx2::bare(steps, factors) }),
        Level::Portable => {}
    }
    let mut sums = [0.0; 4 * LANES];
    for _ in 0..steps {
        sums.iter_mut().for_each(|sum| *sum += factors[0] * factors[1]);
    }
    (steps * sums.len(), sums.iter().sum())
}

/// A tile in plain Rust.
fn portable(a: Rows<'_>, (panel, width): (&[f32], usize), sums: &mut [f32]) {
    let steps = a.steps((panel, width), sums);
    for (row, sums) in sums.chunks_exact_mut(width).enumerate().take(a.rows) {
        for (k, weights) in panel.chunks_exact(width).enumerate().take(steps) {
            let x = a.values[row * a.stride + k * a.step];
            for (sum, w) in sums.iter_mut().zip(weights) {
                *sum += x * w;
            }
        }
    }
}

/// Tiles for one set of vector instructions: the panel is taken in stripes of at most `$vectors` vectors
/// of `$lanes` lanes.
#[cfg(target_arch = "x86_64")]
macro_rules! tiles {
    ($name:ident, $features:literal, $lanes:literal, $vectors:literal,
     $load:ident, $store:ident, $splat:ident, $fma:ident, $zero:ident) => {
        mod $name {
            use std::arch::x86_64::{$fma, $load, $splat, $store, $zero};

            use super::Rows;

            /// A tile. The caller has found these instructions on this processor.
            #[target_feature(enable = $features)]
            pub(super) fn tile(a: Rows<'_>, panel: (&[f32], usize), sums: &mut [f32]) {
                match a.rows {
                    1 => stripes::<1>(a, panel, sums),
                    2 => stripes::<2>(a, panel, sums),
                    3 => stripes::<3>(a, panel, sums),
                    4 => stripes::<4>(a, panel, sums),
                    5 => stripes::<5>(a, panel, sums),
                    _ => stripes::<6>(a, panel, sums),
                }
            }

            /// As many products and sums as tiles of so many steps have, in registers alone.
            #[target_feature(enable = $features)]
            pub(super) fn bare(steps: usize, factors: [f32; 2]) -> f32 {
                let [x, w] = factors.map(|factor| $splat(factor));
                let mut own = [[$zero(); $vectors]; super::ROWS];
                let mut k = 0;
                while k < steps {
                    let mut r = 0;
                    while r < super::ROWS {
                        let mut v = 0;
                        while v < $vectors {
                            own[r][v] = $fma(x, w, own[r][v]);
                            v += 1;
                        }
                        r += 1;
                    }
                    k += 1;
                }
                let mut lanes = [0.0; $lanes];
                for sum in own.into_iter().flatten() {
                    let mut kept = [0.0; $lanes];
                    // SAFETY: one vector has so many lanes.
                    unsafe { $store(kept.as_mut_ptr(), sum) };
                    lanes.iter_mut().zip(kept).for_each(|(lane, x)| *lane += x);
                }
                lanes.iter().sum()
            }

            #[target_feature(enable = $features)]
            fn stripes<const R: usize>(a: Rows<'_>, panel: (&[f32], usize), sums: &mut [f32]) {
                for first in (0..panel.1).step_by($lanes * $vectors) {
                    match (usize::min($vectors, (panel.1 - first) / $lanes), a.step) {
                        (1, 1) => stripe::<R, 1, false>(a, panel, (first, sums)),
                        (2, 1) => stripe::<R, 2, false>(a, panel, (first, sums)),
                        (3, 1) => stripe::<R, 3, false>(a, panel, (first, sums)),
                        (_, 1) => stripe::<R, $vectors, false>(a, panel, (first, sums)),
                        (1, _) => stripe::<R, 1, true>(a, panel, (first, sums)),
                        (2, _) => stripe::<R, 2, true>(a, panel, (first, sums)),
                        (3, _) => stripe::<R, 3, true>(a, panel, (first, sums)),
                        (_, _) => stripe::<R, $vectors, true>(a, panel, (first, sums)),
                    }
                }
            }

            /// V vectors of columns from `first` on. ACROSS: the rows lie beside each other.
            #[target_feature(enable = $features)]
            fn stripe<const R: usize, const V: usize, const ACROSS: bool>(
                a: Rows<'_>,
                (panel, width): (&[f32], usize),
                (first, sums): (usize, &mut [f32]),
            ) {
                let steps = a.steps((panel, width), sums);
                assert!(R <= a.rows && first + V * $lanes <= width);
                let stride = if ACROSS { 1 } else { a.stride };
                let step = if ACROSS { a.step } else { 1 };
                let mut own = [[$zero(); V]; R];
                for (r, own) in own.iter_mut().enumerate() {
                    for (v, sum) in own.iter_mut().enumerate() {
                        // SAFETY: `steps` has found `R` rows of sums; the stripe ends inside a row.
                        *sum = unsafe { $load(sums.as_ptr().add(r * width + first + v * $lanes)) };
                    }
                }
                // Plain counting: builds with little optimisation keep this in registers too.
                let mut k = 0;
                while k < steps {
                    let mut weights = [$zero(); V];
                    let mut v = 0;
                    while v < V {
                        let at = k * width + first + v * $lanes;
                        // SAFETY: k is below the panel's rows, and the stripe ends inside a row.
                        weights[v] = unsafe { $load(panel.as_ptr().add(at)) };
                        v += 1;
                    }
                    let mut r = 0;
                    while r < R {
                        let at = r * stride + k * step;
                        // SAFETY: `steps` has found the last step of the last row inside; one of the
                        // factors is 1, as it has found too.
                        let x = $splat(unsafe { *a.values.get_unchecked(at) });
                        let mut v = 0;
                        while v < V {
                            own[r][v] = $fma(x, weights[v], own[r][v]);
                            v += 1;
                        }
                        r += 1;
                    }
                    k += 1;
                }
                for (r, own) in own.into_iter().enumerate() {
                    for (v, sum) in own.into_iter().enumerate() {
                        let at = r * width + first + v * $lanes;
                        // SAFETY: as where they were loaded.
                        unsafe { $store(sums.as_mut_ptr().add(at), sum) };
                    }
                }
            }
        }
    };
}

#[cfg(target_arch = "x86_64")]
tiles!(
    avx512,
    "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,bmi2,popcnt",
    16,
    4,
    _mm512_loadu_ps,
    _mm512_storeu_ps,
    _mm512_set1_ps,
    _mm512_fmadd_ps,
    _mm512_setzero_ps
);
#[cfg(target_arch = "x86_64")]
tiles!(
    avx2,
    "avx2,fma,bmi2,popcnt",
    8,
    2,
    _mm256_loadu_ps,
    _mm256_storeu_ps,
    _mm256_set1_ps,
    _mm256_fmadd_ps,
    _mm256_setzero_ps
);

#[cfg(test)]
mod tests {
    //! Oracle: the definition in f64; for cuts of steps, equal bits.
    use super::*;
    use crate::hash::{GAMMA, mix};

    fn numbers(count: usize, seed: u64) -> Vec<f32> {
        let number = |at: usize| {
            let bits = mix((at as u64 + 1).wrapping_mul(GAMMA) ^ seed) >> 40;
            bits as f32 / (1 << 23) as f32 - 1.0
        };
        (0..count).map(number).collect()
    }

    /// Every number of rows and width, of a matrix and of its transpose, at every level.
    #[test]
    fn tiles_add_to_the_sums_there_are() {
        let steps = 37;
        for (rows, lanes) in (1..=ROWS).flat_map(|rows| (1..=4).map(move |lanes| (rows, lanes))) {
            let width = lanes * LANES;
            let (x, panel, start) =
                (numbers(50 * 50, 1), numbers(steps * width, 2), numbers(rows * width, 3));
            for ((stride, step), with) in
                [(50, 1), (1, 50)].into_iter().flat_map(|way| Level::all().map(move |l| (way, l)))
            {
                let a = Rows { values: &x, rows, stride, step };
                let mut whole = start.clone();
                add(with, a, (&panel, width), &mut whole);
                let mut cut = start.clone();
                add(with, a, (&panel[..9 * width], width), &mut cut);
                let rest = Rows { values: &x[9 * step..], ..a };
                add(with, rest, (&panel[9 * width..], width), &mut cut);
                assert_eq!(whole, cut, "{with:?}: {rows} rows of {width}");
                for (at, ours) in whole.iter().enumerate() {
                    let (row, column) = (at / width, at % width);
                    let term = |k: usize| {
                        f64::from(x[row * stride + k * step]) * f64::from(panel[k * width + column])
                    };
                    let want = f64::from(start[at]) + (0..steps).map(term).sum::<f64>();
                    assert!((f64::from(*ours) - want).abs() <= 1e-5, "{ours} {want}");
                }
            }
        }
    }
}
