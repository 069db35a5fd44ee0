//! residual: sums and copies. Oracle: the CPU device, bit for bit in f32; one rounding in bf16.

use electrode::device::cpu::CpuDevice;
use electrode::device::cuda::Element;
use electrode::device::ops::Ops;

use crate::cuda::on_both;
use crate::tensors::{noise, read, tensor};

#[test]
fn sums_and_copies_are_those_of_the_cpu() {
    on_both(|device, element| {
        for (rows, cols) in [(1, 1), (5, 1), (3, 7), (4, 8), (70, 33), (2, 1000), (0, 5)] {
            let (a, b) = (noise(1, rows * cols), noise(2, rows * cols));
            let (mut x, y) = (tensor(device, cols, &a), tensor(device, cols, &b));
            // The same values as the device holds them.
            let (a, b) = (read(device, &x), read(device, &y));
            let (mut want, other) = (tensor(&CpuDevice, cols, &a), tensor(&CpuDevice, cols, &b));
            let mut copied = device.tensor(rows + 1, cols).expect("memory");
            device.set_rows(&mut copied, rows);
            device.copy(&x, &mut copied);
            device.add(&mut x, &y);
            CpuDevice.add(&mut want, &other);
            let (got, want) = (read(device, &x), read(&CpuDevice, &want));
            for (got, want) in got.iter().zip(&want) {
                let bound = if element == Element::F32 { 0.0 } else { want.abs() / 256.0 };
                assert!((got - want).abs() <= bound, "{rows} x {cols}: {got} {want}");
            }
            assert_eq!(got.len(), rows * cols);
            assert_eq!(read(device, &copied), a);
        }
    });
}
