//! Sums and copies of whole tensors.
//! Oracle: the sum in f32, rounded to the type of the tensors, to the bit.

use electrode::device::ops::Ops;

use super::rows::{SHAPES, assert_bits, kept, poisoned, random, read, tensor};
use crate::cuda::on_both;

#[test]
fn sums_and_copies_are_exact() {
    on_both(|gpu, element| {
        // The last has several blocks, and ends in the middle of one.
        for (rows, cols) in SHAPES.into_iter().chain([(9, 1000), (4100, 1), (0, 5)]) {
            let (a, b) = (random(1, rows * cols, element), random(2, rows * cols, element));
            let (mut x, y) = (tensor(gpu, cols, &a), tensor(gpu, cols, &b));
            let mut copy = poisoned(gpu, rows, cols);
            gpu.copy(&x, &mut copy);
            gpu.add(&mut x, &y);
            let sum: Vec<f32> = a.iter().zip(&b).map(|(a, b)| kept(element, a + b)).collect();
            let what = format!("{element:?} [{rows}, {cols}]");
            assert_bits(&read(gpu, &mut x, rows), &sum, &what);
            assert_bits(&read(gpu, &mut copy, rows), &a, &what);
        }
    });
}
