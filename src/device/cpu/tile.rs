//! The inner loop of products: a tile of up to six rows and a panel's columns, its sums in registers.
//! Each element `sum_k a[k] b[k]` is added from 0 on in the order of k, with one rounding a step where
//! the processor fuses product and sum, whatever rows stand beside it.
#![cfg_attr(
    target_arch = "x86_64",
    expect(unsafe_code, reason = "vector instructions on slices whose bounds are checked first")
)]

use super::panels::PANEL;

/// Rows of a tile.
pub(super) const ROWS: usize = 6;

/// The sums of a tile, row by row.
pub(super) type Sums = [[f32; PANEL]; ROWS];

/// Rows of the left side: `rows` of them, 1 to 6, each `stride` after the one before.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rows<'a> {
    pub(super) values: &'a [f32],
    pub(super) rows: usize,
    pub(super) stride: usize,
}

impl Rows<'_> {
    /// Steps of the panel; every element that a tile reads is there.
    fn steps(&self, panel: &[f32]) -> usize {
        let steps = panel.len() / PANEL;
        assert!((1..=ROWS).contains(&self.rows) && steps <= self.stride);
        assert!((self.rows - 1) * self.stride + steps <= self.values.len());
        steps
    }
}

/// A tile in plain Rust.
pub(super) fn portable(a: Rows<'_>, panel: &[f32], sums: &mut Sums) {
    let steps = a.steps(panel);
    for (row, sums) in sums.iter_mut().enumerate().take(a.rows) {
        let a = &a.values[row * a.stride..][..steps];
        sums.fill(0.0);
        for (x, weights) in a.iter().zip(panel.chunks_exact(PANEL)) {
            for (sum, w) in sums.iter_mut().zip(weights) {
                *sum += x * w;
            }
        }
    }
}

/// Tiles for one set of vector instructions: the panel is taken in stripes of `$vectors` vectors of
/// `$lanes` lanes.
#[cfg(target_arch = "x86_64")]
macro_rules! tiles {
    ($name:ident, $features:literal, $lanes:literal, $vectors:literal,
     $load:ident, $store:ident, $splat:ident, $fma:ident, $zero:ident) => {
        pub(super) mod $name {
            use std::arch::x86_64::{$fma, $load, $splat, $store, $zero};

            use super::{PANEL, Rows, Sums};

            /// Columns of a stripe.
            const STRIPE: usize = $lanes * $vectors;

            /// A tile. The caller has found these instructions on this processor.
            #[target_feature(enable = $features)]
            pub(crate) fn tile(a: Rows<'_>, panel: &[f32], sums: &mut Sums) {
                match a.rows {
                    1 => stripes::<1>(a, panel, sums),
                    2 => stripes::<2>(a, panel, sums),
                    3 => stripes::<3>(a, panel, sums),
                    4 => stripes::<4>(a, panel, sums),
                    5 => stripes::<5>(a, panel, sums),
                    _ => stripes::<6>(a, panel, sums),
                }
            }

            #[target_feature(enable = $features)]
            fn stripes<const R: usize>(a: Rows<'_>, panel: &[f32], sums: &mut Sums) {
                let steps = a.steps(panel);
                assert!(R <= a.rows);
                for first in (0..PANEL).step_by(STRIPE) {
                    let mut own = [[$zero(); $vectors]; R];
                    // Plain counting: builds with little optimisation keep this in registers too.
                    let mut k = 0;
                    while k < steps {
                        let mut weights = [$zero(); $vectors];
                        let mut v = 0;
                        while v < $vectors {
                            let at = k * PANEL + first + v * $lanes;
                            // SAFETY: k is below the panel's rows of 64, and so is the last lane.
                            weights[v] = unsafe { $load(panel.as_ptr().add(at)) };
                            v += 1;
                        }
                        let mut r = 0;
                        while r < R {
                            // SAFETY: `steps` has found the last step of the last row inside.
                            let x = $splat(unsafe { *a.values.get_unchecked(r * a.stride + k) });
                            let mut v = 0;
                            while v < $vectors {
                                own[r][v] = $fma(x, weights[v], own[r][v]);
                                v += 1;
                            }
                            r += 1;
                        }
                        k += 1;
                    }
                    for (sums, own) in sums.iter_mut().zip(own) {
                        for (v, sum) in own.into_iter().enumerate() {
                            // SAFETY: the last stripe of a row of 64 ends with it.
                            unsafe { $store(sums.as_mut_ptr().add(first + v * $lanes), sum) };
                        }
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
