//! Matrix loads and products of a warp. Laws: the fragments of ldmatrix.m8n8 and mma.m16n8k16 as the
//! PTX manual draws them. Products of small integers are exact in any order of sums; of others the
//! order is not documented, and each term of a sum may be cut off at the last place of the largest:
//! an error of at most 2^-23 of the terms' total size, for each term.

use super::case::{Arguments, Case, Want};
use crate::laws::data::Random;

pub(super) fn cases() -> Vec<Case> {
    vec![load(false), load(true), multiply(false), multiply(true)]
}

fn load(transposed: bool) -> Case {
    let mut random = Random(21);
    let input: Vec<u32> = (0..32 * 4).map(|_| random.next() as u32).collect();
    let half = |row: usize, column: usize| {
        let word = input[row % 32 * 4 + column / 2];
        word >> (16 * (column % 2)) & 0xffff
    };
    // Element (row, column) of matrix m: lane 8 m + row named the row of memory.
    let element = |m: usize, row: usize, column: usize| half((8 * m + row) * 5, column);
    let mut want = Vec::new();
    for lane in 0..32 {
        let (major, minor) = (lane / 4, lane % 4 * 2);
        for m in 0..4 {
            let [low, high] = [minor, minor + 1].map(|minor| match transposed {
                true => element(m, minor, major),
                false => element(m, major, minor),
            });
            want.push(Want::Bits(low | high << 16));
        }
    }
    let kernel = if transposed { "matrix_load_transposed" } else { "matrix_load" };
    Case { threads: 32, want, ..Case::new("matrices", kernel, input) }
}

/// Values that bf16 holds: small integers, or anything.
pub(super) fn values(random: &mut Random, count: usize, integers: bool) -> Vec<f32> {
    let mut value = || match integers {
        true => random.below(17) as f32 - 8.0,
        false => half::bf16::from_f32(random.normal()).to_f32(),
    };
    (0..count).map(|_| value()).collect()
}

/// Row `i` of a times row `j` of b, added to `start`.
pub(super) fn product(start: f32, a: &[f32], b: &[f32], integers: bool) -> Want {
    let terms = || a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b));
    let sum: f64 = f64::from(start) + terms().sum::<f64>();
    if integers {
        return Want::Bits((sum as f32).to_bits());
    }
    let size: f64 = f64::from(start.abs()) + terms().map(f64::abs).sum::<f64>();
    Want::Within(sum, size * (a.len() + 1) as f64 * 2.0_f64.powi(-23))
}

fn pairs(values: &[f32]) -> impl Iterator<Item = u32> {
    let bits = |x: f32| u32::from(half::bf16::from_f32(x).to_bits());
    values.chunks_exact(2).map(move |pair| bits(pair[0]) | bits(pair[1]) << 16)
}

/// Three products in a row.
fn multiply(integers: bool) -> Case {
    const STEPS: usize = 3;
    let mut random = Random(22);
    let start = values(&mut random, 16 * 8, integers);
    // [16, 48] and [8, 48]: a step is 16 columns of each.
    let a = values(&mut random, 16 * 16 * STEPS, integers);
    let b = values(&mut random, 8 * 16 * STEPS, integers);
    let mut input: Vec<u32> = start.iter().map(|x| x.to_bits()).collect();
    for step in 0..STEPS {
        for matrix in [&a, &b] {
            let rows = matrix.chunks_exact(16 * STEPS);
            input.extend(rows.flat_map(|row| pairs(&row[16 * step..][..16])));
        }
    }
    let mut want = Vec::new();
    for lane in 0..32 {
        for i in 0..4 {
            let (row, column) = (lane / 4 + i / 2 * 8, lane % 4 * 2 + i % 2);
            let [x, y] = [(&a, row), (&b, column)].map(|(m, at)| &m[at * 16 * STEPS..]);
            let (x, y) = (&x[..16 * STEPS], &y[..16 * STEPS]);
            want.push(product(start[row * 8 + column], x, y, integers));
        }
    }
    Case {
        threads: 32,
        variant: if integers { "integers" } else { "any" },
        arguments: Arguments::Count(STEPS as u32),
        want,
        ..Case::new("matrices", "matrix_multiply", input)
    }
}
