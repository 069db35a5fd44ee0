//! Tensors for tests of kernels.

use electrode::device::ops::Ops;

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
