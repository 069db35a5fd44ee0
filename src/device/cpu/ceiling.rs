//! How fast this processor multiplies and adds when nothing has to be fetched: the ceiling of its products,
//! measured where and when they are.

use std::hint::black_box;
use std::time::Instant;

use super::CpuDevice;
use super::dispatch::level;
use super::{pairs, tile};

/// Steps of a round: some milliseconds.
const STEPS: usize = 500_000;
/// The fastest of so many counts; the others were disturbed.
const ROUNDS: usize = 7;

impl CpuDevice {
    /// Operations per second of all threads of the current pool at once, a multiplication and an addition
    /// counted as two, in registers alone.
    pub fn peak_flops(self) -> f64 {
        let once = |steps: usize| match self {
            CpuDevice::Bf16 if pairs::available() => pairs::bare(steps, black_box([1.0, 1e-3])),
            _ => tile::bare(level(), steps, black_box([1.0, 1e-3])),
        };
        let round = || {
            let rates = rayon::broadcast(|_| {
                black_box(once(STEPS / 50));
                let clock = Instant::now();
                let (pairs, result) = once(STEPS);
                black_box(result);
                2.0 * pairs as f64 / clock.elapsed().as_secs_f64()
            });
            rates.into_iter().sum::<f64>()
        };
        (0..ROUNDS).map(|_| round()).fold(0.0, f64::max)
    }
}
