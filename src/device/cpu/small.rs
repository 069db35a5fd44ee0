//! Small products of activations, on the calling thread: by `matrixmultiply`, and row by row where there are
//! few.
#![expect(unsafe_code, reason = "matrixmultiply takes pointers")]

use super::dispatch::multiversion;

/// So few rows are multiplied one by one: packing would cost more than the products.
pub(super) const FEW: usize = 2;

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
