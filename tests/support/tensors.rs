//! Tensors for tests of kernels.

use electrode::device::ops::Ops;

/// Values between -2 and 2, the same for the same seed.
pub(crate) fn noise(seed: u64, count: usize) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1_u64 << 22) as f32 - 2.0
    };
    (0..count).map(|_| next()).collect()
}

/// A tensor of any device with these rows, and room for one more.
pub(crate) fn tensor<O: Ops>(ops: &O, cols: usize, values: &[f32]) -> O::Tensor {
    let rows = values.len().checked_div(cols).unwrap_or(0);
    let mut x = ops.tensor(rows + 1, cols).expect("memory");
    ops.set_rows(&mut x, rows);
    ops.write(&mut x, values).expect("an upload");
    x
}

/// Its rows on the host.
pub(crate) fn read<O: Ops>(ops: &O, x: &O::Tensor) -> Vec<f32> {
    let mut out = Vec::new();
    ops.read(x, &mut out).expect("a download");
    out
}
