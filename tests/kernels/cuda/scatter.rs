//! Rows added to chosen rows, and put in their place.
//! Oracle: the rows, and the sum in f32, rounded to the type of the tensors, to the bit.

use electrode::device::cuda::Element;
use electrode::device::gradient_ops::GradientOps;
use electrode::device::ops::Ops;
use electrode::device::suffix_ops::SuffixOps;

use super::rows::{SHAPES, assert_bits, assert_refused, kept, random, read, tensor};
use crate::cuda::{device, on_both};

#[test]
fn listed_rows_are_written_and_others_left() {
    on_both(|gpu, element| {
        for (count, cols) in SHAPES {
            let rows = 2 * count + 3;
            // Every other row, from the end.
            let listed: Vec<u32> = (0..count).rev().map(|i| 2 * i as u32 + 1).collect();
            let (g, old) = (random(1, count * cols, element), random(2, rows * cols, element));
            let mut want = old.clone();
            for (row, g) in listed.iter().zip(g.chunks_exact(cols)) {
                for (x, g) in want[*row as usize * cols..].iter_mut().zip(g) {
                    *x = kept(element, *x + g);
                }
            }
            let mut out = tensor(gpu, cols, &old);
            gpu.scatter(&listed, &tensor(gpu, cols, &g), &mut out);
            let what = format!("{element:?} [{count}, {cols}]");
            assert_bits(&read(gpu, &mut out, rows), &want, &what);
            for (row, g) in listed.iter().zip(g.chunks_exact(cols)) {
                want[*row as usize * cols..][..cols].copy_from_slice(g);
            }
            let mut out = tensor(gpu, cols, &old);
            gpu.put_rows(&listed, &tensor(gpu, cols, &g), &mut out);
            assert_bits(&read(gpu, &mut out, rows), &want, &what);
        }
    });
}

#[test]
fn rows_listed_twice_or_beyond_the_end_never_reach_the_kernel() {
    let Some(gpu) = device(Element::F32) else { return };
    let g = tensor(&gpu, 4, &[1.0; 8]);
    let mut out = tensor(&gpu, 4, &[0.0; 12]);
    assert_refused("twice", || gpu.scatter(&[2, 2], &g, &mut out));
    assert_refused("beyond", || gpu.scatter(&[0, 3], &g, &mut out));
    gpu.check().unwrap();
}
