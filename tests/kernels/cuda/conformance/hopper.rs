//! Barriers in shared memory, bulk copies, products of four warps, registers that change hands.
//! Laws: the PTX manual: boxes in the 128-byte swizzle, zeros outside the matrix; the layout of
//! wgmma.m64nNk16's sums; and of products as in matrices.rs.

use super::case::{Arguments, Case, Matrix, Want};
use super::matrices::{product, values};
use crate::laws::data::Random;

pub(super) fn cases() -> Vec<Case> {
    let mut all = vec![barriers(), boxes(), registers()];
    for n in [128, 256] {
        all.extend([multiply(n, "integers", 1), multiply(n, "integers_anew", 0)]);
    }
    all.push(multiply(128, "any", 1));
    all
}

fn case(kernel: &'static str, threads: u32, input: Vec<u32>) -> Case {
    Case { threads, ..Case::new("hopper_sm90", kernel, input) }
}

/// Words come back as they are.
fn same(mut case: Case, count: u32) -> Case {
    case.arguments = Arguments::Count(count);
    case.want = case.input.iter().map(|&word| Want::Bits(word)).collect();
    case
}

fn random(seed: u64, count: usize) -> Vec<u32> {
    let mut random = Random(seed);
    (0..count).map(|_| random.next() as u32).collect()
}

fn barriers() -> Case {
    same(case("hopper_barriers", 128, random(31, 5 * 96)), 5)
}

fn registers() -> Case {
    same(case("hopper_registers", 384, random(32, 4 * 384)), 4)
}

/// Boxes inside, over the right edge, over the lower one, and over both.
fn boxes() -> Case {
    const CORNERS: [(usize, usize); 4] = [(0, 0), (64, 5), (8, 40), (96, 70)];
    let (rows, columns) = (80, 100);
    let values = values(&mut Random(33), rows * columns, false);
    let input = CORNERS.iter().flat_map(|&(column, row)| [column as u32, row as u32]).collect();
    let element = |row: usize, column: usize| match row < rows && column < columns {
        true => u32::from(half::bf16::from_f32(values[row * columns + column]).to_bits()),
        false => 0,
    };
    let mut case = case("hopper_boxes", 128, input);
    for (column, row) in CORNERS {
        for word in 0..64 * 32 {
            // A row is 8 chunks of 16 bytes; the one at place p is chunk p ^ (row % 8).
            let (r, place) = (word / 32, word % 32 / 4);
            let c = column + (place ^ (r % 8)) * 8 + word % 4 * 2;
            let pair = element(row + r, c) | element(row + r, c + 1) << 16;
            case.want.push(Want::Bits(pair));
        }
    }
    case.shared = 64 * 128;
    case.arguments =
        Arguments::Boxes(Matrix { values, columns, box_rows: 64 }, CORNERS.len() as u32);
    case
}

/// [64, 64] times [n, 64]; `keep` 0 forgets what the sums were.
fn multiply(n: usize, variant: &'static str, keep: u32) -> Case {
    const ROWS: usize = 64;
    let integers = variant != "any";
    let mut random = Random(34 + n as u64);
    let [a, b] = [ROWS, n].map(|rows| values(&mut random, rows * 64, integers));
    let start = values(&mut random, ROWS * n, integers);
    let (mut input, mut want) = (Vec::new(), Vec::new());
    for thread in 0..128 {
        for i in 0..n / 2 {
            let row = thread / 32 * 16 + thread % 32 / 4 + i / 2 % 2 * 8;
            let column = i / 4 * 8 + thread % 4 * 2 + i % 2;
            let before = start[row * n + column];
            input.push(before.to_bits());
            let before = if keep == 0 { 0.0 } else { before };
            want.push(product(before, &a[row * 64..][..64], &b[column * 64..][..64], integers));
        }
    }
    let kernel = if n == 128 { "hopper_product_128" } else { "hopper_product_256" };
    let matrix = |values: Vec<f32>| {
        let box_rows = (values.len() / 64) as u32;
        Matrix { values, columns: 64, box_rows }
    };
    Case {
        variant,
        shared: (ROWS + n) as u32 * 128,
        arguments: Arguments::Product([matrix(a), matrix(b)], keep),
        want,
        ..case(kernel, 128, input)
    }
}
