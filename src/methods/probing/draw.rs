//! What probes draw by chance, as a function of a seed alone.

use crate::hash::{GAMMA, mix};

/// A stream of random numbers (SplitMix64; Steele, Lea & Flood 2014).
#[derive(Clone, Debug)]
pub struct Draws(u64);

impl Draws {
    /// Streams of one seed know nothing of one another.
    pub fn new(seed: u64, stream: u64) -> Self {
        Self(mix(seed.wrapping_add(GAMMA)) ^ mix(mix(stream.wrapping_add(GAMMA))))
    }

    /// 64 random bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(GAMMA);
        mix(self.0)
    }

    /// Uniform in [0, 1).
    pub fn uniform(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Uniform in 0..n; 0 for n = 0.
    pub fn below(&mut self, n: usize) -> usize {
        ((u128::from(self.bits()) * n as u128) >> 64) as usize
    }

    /// 0..n in random order (Fisher & Yates).
    pub fn shuffled(&mut self, n: usize) -> Vec<usize> {
        let mut order: Vec<usize> = (0..n).collect();
        for i in (1..n).rev() {
            order.swap(i, self.below(i + 1));
        }
        order
    }
}

/// Rows held out and the rest, each in increasing order; `share` of the rows are held out, at least
/// one of two or more.
pub fn split(rows: usize, share: f64, seed: u64) -> (Vec<usize>, Vec<usize>) {
    let most = rows.saturating_sub(1);
    let held = ((rows as f64 * share).round() as usize).clamp(most.min(1), most);
    let mut order = Draws::new(seed, 0).shuffled(rows);
    let mut rest = order.split_off(held);
    order.sort_unstable();
    rest.sort_unstable();
    (order, rest)
}
