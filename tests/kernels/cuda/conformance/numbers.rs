//! Conversions, approximations, exact arithmetic. Laws: IEEE 754 as Rust's own arithmetic has it,
//! f64 for what is approximated, bounds from the PTX manual (ex2.approx: 2 units, subnormal results
//! are 0) and from the table of functions in NVIDIA's programming guide (expf, tanhf, erff: 2).

use super::super::reference::erf;
use super::case::{Case, Want};
use crate::laws::data::Random;

/// Zeros, ones, ends of the range, infinities, NaN of both kinds, subnormals, and ties between two
/// values of bf16 with their neighbours.
const SPECIAL: [u32; 24] = [
    0x0000_0000,
    0x8000_0000,
    0x3f80_0000,
    0xbf80_0000,
    0x7f7f_ffff,
    0xff7f_ffff,
    0x7f80_0000,
    0xff80_0000,
    0x7fc0_0000,
    0xffc0_0001,
    0x7f80_0001,
    0xff80_ffff,
    0x0000_0001,
    0x8000_0001,
    0x007f_ffff,
    0x0080_0000,
    0x8080_0000,
    0x3f80_8000,
    0x3f81_8000,
    0x3f80_7fff,
    0x3f80_8001,
    0xbf80_8000,
    0x7f7f_7fff,
    0x7f7f_8000,
];

pub(super) fn cases() -> Vec<Case> {
    let mut bits = Case::new("numbers", "number_bits", words(1, 200));
    bits.want = bits.input.iter().map(|&word| Want::Bits(word)).collect();
    let mut positive = Case::new("numbers", "number_positive", words(2, 200));
    let count = |(i, word): (usize, &u32)| i as u32 + u32::from(f32::from_bits(*word) > 0.0);
    positive.want = positive.input.iter().enumerate().map(count).map(Want::Bits).collect();
    vec![bits, positive, pack(), exp2(), doubles(), functions(), operations()]
}

/// Special words, then random ones.
fn words(seed: u64, count: usize) -> Vec<u32> {
    let mut random = Random(seed);
    let more = (0..count).map(|_| random.next() as u32);
    SPECIAL.into_iter().chain(more).collect()
}

/// Items of several words each.
fn with_items(mut case: Case, size: usize, law: impl Fn(&[u32]) -> Vec<Want>) -> Case {
    case.arguments = super::case::Arguments::Count((case.input.len() / size) as u32);
    case.want = case.input.chunks_exact(size).flat_map(law).collect();
    case
}

fn pack() -> Case {
    let each = |word: u32| {
        let x = f32::from_bits(word);
        // NaN of any kind becomes this one.
        if x.is_nan() { 0x7fff } else { u32::from(half::bf16::from_f32(x).to_bits()) }
    };
    let mut input = words(3, 400);
    input.extend(SPECIAL.iter().rev());
    let case = Case::new("numbers", "number_pack", input);
    with_items(case, 2, |pair| vec![Want::Bits(each(pair[0]) | each(pair[1]) << 16)])
}

fn exp2() -> Case {
    let mut random = Random(4);
    let mut input = SPECIAL.to_vec();
    for scale in [1e-6_f32, 0.01, 1.0, 20.0, 45.0] {
        input.extend((0..100).map(|_| (random.normal() * scale).to_bits()));
    }
    let edges = [-125.99, -126.0, -126.01, -126.5, -127.0, -150.0, -1e9, 127.0, 127.99, 128.0, 1e9];
    input.extend(edges.map(f32::to_bits));
    let case = Case::new("numbers", "number_exp2", input);
    with_items(case, 1, |x| {
        let exact = f64::from(f32::from_bits(x[0])).exp2();
        let flushed = exact < f64::from(f32::MIN_POSITIVE);
        vec![if flushed { Want::Bits(0) } else { Want::near(exact, 2.0) }]
    })
}

/// Of many sizes, but never beyond the range.
fn doubles() -> Case {
    let mut random = Random(5);
    let mut double = || {
        let x = random.next();
        let exponent = 1023 - 200 + random.below(400);
        f64::from_bits(x & !(0x7ff << 52) | exponent << 52)
    };
    let mut values: Vec<f64> = (0..3 * 300).map(|_| double()).collect();
    for item in values.chunks_exact_mut(3).take(200) {
        // Sums that cancel, products whose lower half decides.
        item[1] = f64::from_bits(item[0].to_bits() ^ 1 << 63 ^ 5);
        item[2] = -(item[0] * item[1]);
    }
    let halves = |x: f64| [x.to_bits() as u32, (x.to_bits() >> 32) as u32];
    let input = values.into_iter().flat_map(halves).collect();
    with_items(Case::new("numbers", "number_doubles", input), 6, |item| {
        let at = |i: usize| f64::from_bits(u64::from(item[i]) | u64::from(item[i + 1]) << 32);
        let (x, y, z) = (at(0), at(2), at(4));
        let all = [x + y, x * y, x.mul_add(y, z), x * y + z];
        all.into_iter().flat_map(halves).map(Want::Bits).collect()
    })
}

fn functions() -> Case {
    let mut random = Random(6);
    let mut input = SPECIAL.to_vec();
    for scale in [1e-30_f32, 1e-3, 1.0, 3.0, 30.0] {
        input.extend((0..60).map(|_| (random.normal() * scale).to_bits()));
    }
    with_items(Case::new("numbers", "number_functions", input), 1, |word| {
        let x = f32::from_bits(word[0]);
        let exact = f64::from(x);
        vec![
            Want::near(exact.exp(), 2.0),
            Want::near(exact.tanh(), 2.0),
            // Where the series has lost its last digits, all is 1 in f32.
            Want::near(if exact.abs() > 4.0 { exact.signum() } else { erf(exact) }, 2.0),
            Want::float(x.sqrt()),
            Want::float(1.0 / x),
        ]
    })
}

fn operations() -> Case {
    let mut input = words(7, 600);
    let mut random = Random(8);
    input.extend((0..300).map(|_| random.normal().to_bits()));
    let case = Case::new("numbers", "number_operations", input);
    with_items(case, 3, |item| {
        let [x, y, z] = [0, 1, 2].map(|i| f32::from_bits(item[i]));
        // Which zero is the smaller one is not said.
        let bound = |bound: f32| match bound == 0.0 {
            true => Want::Within(0.0, 0.0),
            false => Want::float(bound),
        };
        vec![Want::float(x / y), Want::float(x.mul_add(y, z)), bound(x.min(y)), bound(x.max(y))]
    })
}
