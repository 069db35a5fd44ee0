//! Numbers rounded to bfloat16, two of them in a word as the processor's product of pairs reads them
//! (`vdpbf16ps`): the earlier one in the lower half. Sums stay in f32.
#![cfg_attr(
    target_arch = "x86_64",
    expect(unsafe_code, reason = "vector instructions on slices whose bounds are checked first")
)]

use std::sync::OnceLock;

use super::dispatch::multiversion;
use super::tile::ROWS;

/// Columns of a tile.
pub(super) const WIDTH: usize = 64;

/// Whether this processor multiplies pairs; asked once.
pub(super) fn available() -> bool {
    static FOUND: OnceLock<bool> = OnceLock::new();
    *FOUND.get_or_init(detect)
}

#[cfg(target_arch = "x86_64")]
fn detect() -> bool {
    is_x86_feature_detected!("avx512bf16") && is_x86_feature_detected!("avx512f")
}

#[cfg(not(target_arch = "x86_64"))]
fn detect() -> bool {
    false
}

/// The upper half of a number: the nearest bfloat16, ties to even; what is no number stays none.
#[inline(always)]
pub(super) fn rounded(x: f32) -> u32 {
    let bits = x.to_bits();
    let nearest = bits.wrapping_add(0x7fff + ((bits >> 16) & 1)) >> 16;
    if x.is_nan() { (bits >> 16) | 0x40 } else { nearest }
}

/// A word of two numbers.
#[inline(always)]
pub(super) fn pair(first: f32, second: f32) -> u32 {
    rounded(first) | (rounded(second) << 16)
}

/// One of the two numbers of a word.
pub(super) fn half(word: u32, second: bool) -> f32 {
    f32::from_bits(if second { word & 0xffff_0000 } else { word << 16 })
}

multiversion! {
    /// Two numbers in each word.
    fn pack(values: &[f32], words: &mut [u32]) {
        for (word, both) in words.iter_mut().zip(values.as_chunks::<2>().0) {
            *word = pair(both[0], both[1]);
        }
    }

    /// Every number as the nearest bfloat16 has it.
    fn round(values: &[f32], to: &mut [f32]) {
        for (to, x) in to.iter_mut().zip(values) {
            *to = f32::from_bits(rounded(*x) << 16);
        }
    }
}

/// Rows of `inner` numbers as rows of words; an odd one is paired with 0.
pub(super) fn pack_rows(inner: usize, values: &[f32], words: &mut [u32]) {
    assert_eq!(words.len() * inner, values.len() * inner.div_ceil(2));
    if inner == 0 {
        return;
    }
    for (row, to) in values.chunks_exact(inner).zip(words.chunks_exact_mut(inner.div_ceil(2))) {
        let done = pack_vectors(row, to);
        pack(&row[2 * done..], &mut to[done..]);
        if let (true, [.., last]) = (inner % 2 == 1, row) {
            to[inner / 2] = pair(*last, 0.0);
        }
    }
}

/// Packs whole vectors of words where the processor rounds pairs itself, and says how many words. It takes
/// numbers below the smallest normal one for 0, as its products do.
fn pack_vectors(values: &[f32], words: &mut [u32]) -> usize {
    #[cfg(target_arch = "x86_64")]
    if available() {
        // SAFETY: `available` has found the instructions.
        return unsafe { avx512::pack(values, words) };
    }
    let _ = (values, words);
    0
}

/// [`round`], as a function that threads share work by.
pub(super) fn round_rows(values: &[f32], to: &mut [f32]) {
    assert_eq!(values.len(), to.len());
    round(values, to);
}

/// `sums += a panel`: up to six rows of words, each `stride` after the one before, and a panel
/// `[steps, 64]` of words; `sums` is `[rows, 64]`. Only where they are [`available`].
pub(super) fn add((a, rows, stride): (&[u32], usize, usize), panel: &[u32], sums: &mut [f32]) {
    assert!(available(), "pairs on a machine without them");
    assert!((1..=ROWS).contains(&rows) && sums.len() >= rows * WIDTH);
    let steps = panel.len() / WIDTH;
    assert!(steps == 0 || (rows - 1) * stride + steps <= a.len());
    #[cfg(target_arch = "x86_64")]
    // SAFETY: `available` has found the instructions, and what they read and write was just found inside.
    unsafe {
        match rows {
            1 => avx512::tile::<1>((a, stride), (panel, steps), sums),
            2 => avx512::tile::<2>((a, stride), (panel, steps), sums),
            3 => avx512::tile::<3>((a, stride), (panel, steps), sums),
            4 => avx512::tile::<4>((a, stride), (panel, steps), sums),
            5 => avx512::tile::<5>((a, stride), (panel, steps), sums),
            _ => avx512::tile::<6>((a, stride), (panel, steps), sums),
        }
    }
}

/// As [`tile::bare`](super::tile::bare), of pairs; 0 where the processor has none.
pub(super) fn bare(steps: usize, factors: [f32; 2]) -> (usize, f32) {
    #[cfg(target_arch = "x86_64")]
    if available() {
        // SAFETY: `available` has found the instructions.
        return (2 * steps * ROWS * WIDTH, unsafe {
            avx512::bare(steps, pair(factors[0], factors[1]))
        });
    }
    let _ = (steps, factors);
    (0, 0.0)
}

#[cfg(target_arch = "x86_64")]
mod avx512 {
    use std::arch::x86_64::{
        __m512bh, __m512i, _mm512_cvtne2ps_pbh, _mm512_dpbf16_ps, _mm512_loadu_ps,
        _mm512_loadu_si512, _mm512_reduce_add_ps, _mm512_set1_epi32, _mm512_setzero_ps,
        _mm512_setzero_si512, _mm512_storeu_ps, _mm512_storeu_si512,
    };

    use super::WIDTH;

    /// Vectors of a panel's row.
    const VECTORS: usize = 4;

    /// The same bits, seen as pairs.
    #[inline(always)]
    fn pairs(words: __m512i) -> __m512bh {
        // SAFETY: both are 512 bits without any that mean nothing.
        unsafe { std::mem::transmute(words) }
    }

    /// The other way.
    #[inline(always)]
    fn words_of(pairs: __m512bh) -> __m512i {
        // SAFETY: as above.
        unsafe { std::mem::transmute(pairs) }
    }

    /// See [`super::bare`].
    #[target_feature(enable = "avx512f,avx512bf16")]
    pub(super) fn bare(steps: usize, word: u32) -> f32 {
        let x = pairs(_mm512_set1_epi32(word.cast_signed()));
        let mut own = [[_mm512_setzero_ps(); VECTORS]; super::ROWS];
        let mut k = 0;
        while k < steps {
            let mut r = 0;
            while r < super::ROWS {
                let mut v = 0;
                while v < VECTORS {
                    own[r][v] = _mm512_dpbf16_ps(own[r][v], x, x);
                    v += 1;
                }
                r += 1;
            }
            k += 1;
        }
        own.into_iter().flatten().map(|sum| _mm512_reduce_add_ps(sum)).sum()
    }

    /// Two vectors of numbers in one of words, as often as there are two.
    #[target_feature(enable = "avx512f,avx512bf16")]
    pub(super) fn pack(values: &[f32], words: &mut [u32]) -> usize {
        let (both, _) = values.as_chunks::<32>();
        let (to, _) = words.as_chunks_mut::<16>();
        for (to, both) in to.iter_mut().zip(both) {
            // SAFETY: 32 numbers are there, and neither load needs alignment.
            let (low, high) =
                unsafe { (_mm512_loadu_ps(both.as_ptr()), _mm512_loadu_ps(both[16..].as_ptr())) };
            // SAFETY: 512 bits of pairs, to 16 words.
            unsafe {
                _mm512_storeu_si512(
                    to.as_mut_ptr().cast(),
                    words_of(_mm512_cvtne2ps_pbh(high, low)),
                )
            };
        }
        16 * both.len().min(to.len())
    }

    /// R rows. The caller has found the instructions, R rows of `steps` words, each `stride` after the one
    /// before, a panel of as many steps, and R rows of sums.
    #[target_feature(enable = "avx512f,avx512bf16")]
    pub(super) unsafe fn tile<const R: usize>(
        (a, stride): (&[u32], usize),
        (panel, steps): (&[u32], usize),
        sums: &mut [f32],
    ) {
        let mut own = [[_mm512_setzero_ps(); VECTORS]; R];
        for (r, own) in own.iter_mut().enumerate() {
            for (v, sum) in own.iter_mut().enumerate() {
                // SAFETY: R rows of sums are there.
                *sum = unsafe { _mm512_loadu_ps(sums.as_ptr().add(r * WIDTH + v * 16)) };
            }
        }
        // Plain counting: builds with little optimisation keep this in registers too.
        let mut k = 0;
        while k < steps {
            let mut weights = [pairs(_mm512_setzero_si512()); VECTORS];
            let mut v = 0;
            while v < VECTORS {
                // SAFETY: k is below the steps of the panel.
                let words = unsafe { panel.as_ptr().add(k * WIDTH + v * 16) };
                // SAFETY: as above, and the load needs no alignment.
                weights[v] = pairs(unsafe { _mm512_loadu_si512(words.cast()) });
                v += 1;
            }
            let mut r = 0;
            while r < R {
                // SAFETY: R rows of so many words are there.
                let word = unsafe { *a.get_unchecked(r * stride + k) };
                let x = pairs(_mm512_set1_epi32(word.cast_signed()));
                let mut v = 0;
                while v < VECTORS {
                    own[r][v] = _mm512_dpbf16_ps(own[r][v], x, weights[v]);
                    v += 1;
                }
                r += 1;
            }
            k += 1;
        }
        for (r, own) in own.into_iter().enumerate() {
            for (v, sum) in own.into_iter().enumerate() {
                // SAFETY: R rows of sums are there.
                unsafe { _mm512_storeu_ps(sums.as_mut_ptr().add(r * WIDTH + v * 16), sum) };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    //! Oracle: `half::bf16`, which rounds by the same rule.
    use half::bf16;

    use super::*;
    use crate::hash::{GAMMA, mix};

    #[test]
    fn numbers_round_as_those_of_the_crate() {
        let special = [0.0, -0.0, f32::INFINITY, f32::NEG_INFINITY, f32::MAX, f32::MIN_POSITIVE];
        let any =
            (0..200_000_u64).map(|at| f32::from_bits((mix(at.wrapping_mul(GAMMA)) >> 32) as u32));
        let ties = (0..1_000_u32).map(|at| f32::from_bits(0x3f80_8000 + (at << 16)));
        for x in special.into_iter().chain(any).chain(ties) {
            let want = bf16::from_f32(x);
            let word = pair(x, 1.0);
            assert_eq!(word & 0xffff, u32::from(want.to_bits()), "{x}");
            assert!(
                half(word, false).to_bits() == want.to_f32().to_bits() && half(word, true) == 1.0
            );
        }
        let values: Vec<f32> = (0..35).map(|at| at as f32 * 1.001).collect();
        let (mut words, mut single) = (vec![0; 5 * 4], vec![0.0; 35]);
        pack_rows(7, &values, &mut words);
        round_rows(&values, &mut single);
        for (at, single) in single.iter().enumerate() {
            let (row, column) = (at / 7, at % 7);
            assert_eq!(half(words[row * 4 + column / 2], column % 2 == 1), *single);
        }
        assert!(
            (0..5).all(|row| half(words[row * 4 + 3], true) == 0.0),
            "an odd one has no partner"
        );
    }
}
