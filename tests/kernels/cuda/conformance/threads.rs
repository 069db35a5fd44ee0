//! Shuffles, votes, atomics, barriers of part of a block, asynchronous copies. Laws: the PTX manual;
//! sums of a warp in the one order that common.cuh has.

use super::case::{Arguments, Case, Want};
use crate::laws::data::Random;

pub(super) fn cases() -> Vec<Case> {
    vec![shuffles(), atomics(), barriers(), addresses(), copies()]
}

fn case(kernel: &'static str, threads: u32, input: Vec<u32>) -> Case {
    Case { threads, ..Case::new("threads", kernel, input) }
}

fn exact(words: Vec<u32>) -> Vec<Want> {
    words.into_iter().map(Want::Bits).collect()
}

fn random(seed: u64, count: usize) -> Vec<u32> {
    let mut random = Random(seed);
    (0..count).map(|_| random.next() as u32).collect()
}

fn shuffles() -> Case {
    let mut input = random(11, 64);
    // One warp votes no.
    input[..32].iter_mut().for_each(|word| *word |= 1);
    input[40] = 64;
    let mut case = case("thread_shuffles", 64, input);
    for (i, &word) in case.input.iter().enumerate() {
        let warp = &case.input[i / 32 * 32..][..32];
        let lane = i % 32;
        let mut out: Vec<u32> = [16, 8, 4, 2, 1].map(|step| warp[lane ^ step]).to_vec();
        out.extend([warp[5], warp[word as usize % 32]]);
        out.push(u32::from(warp.iter().any(|word| word % 64 == 0)));
        let mut sums: Vec<f32> = warp.iter().map(|word| word.cast_signed() as f32).collect();
        let largest = sums.iter().copied().fold(f32::MIN, f32::max);
        for step in [16, 8, 4, 2, 1] {
            sums = (0..32).map(|lane| sums[lane] + sums[lane ^ step]).collect();
        }
        out.extend([sums[lane].to_bits(), largest.to_bits()]);
        case.want.extend(exact(out));
    }
    case
}

fn atomics() -> Case {
    let mut case = case("thread_atomics", 256, random(12, 1000));
    let mut sums = [0_u32; 8];
    for &word in &case.input {
        let sum = &mut sums[word as usize % 8];
        *sum = sum.wrapping_add(word);
    }
    case.want = exact([sums, sums].concat());
    case
}

fn barriers() -> Case {
    let mut case = case("thread_barriers", 128, random(13, 3 * 128));
    case.arguments = Arguments::Count(3);
    for turn in case.input.chunks_exact(128) {
        // Warp w and its partner w + 2 have 64 words between them.
        let other = |i: usize| {
            let (half, at) = (i / 32 % 2, 63 - (i / 64 * 32 + i % 32));
            turn[at / 32 * 64 + half * 32 + at % 32]
        };
        case.want.extend(exact((0..128).map(other).collect()));
    }
    case
}

fn addresses() -> Case {
    let mut case = case("thread_addresses", 32, vec![200, 7, 99]);
    case.shared = 32;
    let mut out: Vec<u32> = (0..32).map(|i| 4 * i).collect();
    out.extend(0..32);
    out.extend((0..32).map(|i| case.input[i % 3]));
    case.want = exact(out);
    case
}

/// 16 bytes of which the first (i + group) % 17 are the source's.
fn copies() -> Case {
    let mut case = case("thread_copies", 128, random(14, 3 * 128 * 4));
    for (i, pack) in case.input.chunks_exact(4).enumerate() {
        let kept = (i % 128 + i / 128) % 17;
        let mut bytes: Vec<u8> = pack.iter().flat_map(|word| word.to_le_bytes()).collect();
        bytes[kept..].fill(0);
        let word = |bytes: &[u8]| u32::from_le_bytes(bytes.try_into().expect("four"));
        case.want.extend(exact(bytes.chunks_exact(4).map(word).collect()));
    }
    case
}
