//! Hashes of files: SHA-256 for what others compare with, blake3 for our own; and a mixer of
//! numbers, for everything that is drawn by a seed.

use std::io::Read;
use std::path::Path;

use sha2::{Digest, Sha256};

use crate::disk;
use crate::error::{Error, Result};

/// Size and SHA-256 (hex) of a file.
pub fn sha256_of_file(path: &Path) -> Result<(u64, String)> {
    let mut hasher = Sha256::new();
    let bytes = read_through(path, |part| hasher.update(part))?;
    Ok((bytes, hex(&hasher.finalize())))
}

/// Size and blake3 (hex) of a file.
pub fn blake3_of_file(path: &Path) -> Result<(u64, String)> {
    let mut hasher = blake3::Hasher::new();
    let bytes = read_through(path, |part| {
        hasher.update(part);
    })?;
    Ok((bytes, hasher.finalize().to_hex().to_string()))
}

/// blake3 (hex) of bytes at hand.
pub fn blake3_of_bytes(bytes: &[u8]) -> String {
    blake3::hash(bytes).to_hex().to_string()
}

/// SHA-256 of bytes at hand.
pub fn sha256(bytes: &[u8]) -> Vec<u8> {
    Sha256::digest(bytes).to_vec()
}

fn read_through(path: &Path, mut take: impl FnMut(&[u8])) -> Result<u64> {
    let mut file = disk::File::open(path).map_err(Error::io(path, "read"))?;
    let mut buffer = vec![0_u8; 1 << 18];
    let mut total = 0;
    loop {
        let n = match file.read(&mut buffer) {
            Ok(0) => return Ok(total),
            Ok(n) => n,
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(e) => return Err(Error::io(path, "read")(e)),
        };
        take(&buffer[..n]);
        total += n as u64;
    }
}

/// Lower-case hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The odd number nearest to 2^64 divided by the golden ratio.
pub const GAMMA: u64 = 0x9e37_79b9_7f4a_7c15;

/// The finaliser of SplitMix64 (Steele, Lea and Flood, OOPSLA 2014), a permutation of all numbers.
/// Part of file formats and of every seeded result: never changed.
#[inline]
pub fn mix(x: u64) -> u64 {
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// A permutation that leaves nothing in its place (of more than one), the same for a seed on every
/// machine: one cycle through all (Sattolo 1986).
pub fn derangement(n: usize, seed: u64) -> Vec<usize> {
    let hash = |x: u64| mix(x.wrapping_add(GAMMA));
    let mut order: Vec<usize> = (0..n).collect();
    for i in (1..n).rev() {
        let bits = hash(seed ^ hash(i as u64));
        #[expect(clippy::cast_possible_truncation, reason = "it is below i")]
        let below = ((u128::from(bits) * i as u128) >> 64) as usize;
        order.swap(i, below);
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_stays_in_its_place() {
        for n in 2..40 {
            for seed in 0..20 {
                let order = derangement(n, seed);
                assert!(order.iter().enumerate().all(|(i, &other)| i != other));
                let mut sorted = order.clone();
                sorted.sort_unstable();
                assert!(sorted.into_iter().eq(0..n));
            }
        }
        assert_ne!(derangement(30, 1), derangement(30, 2));
    }
}
