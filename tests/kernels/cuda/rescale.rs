//! Columns shifted and scaled in place.
//! Oracle: a difference and a product in f32, rounded to the type of the tensors, to the bit.

use electrode::device::cuda::Element;
use electrode::device::moment_ops::MomentOps;
use electrode::device::ops::Ops;

use super::rows::{SHAPES, assert_bits, assert_refused, kept, random, read, tensor};
use crate::cuda::{device, on_both};

#[test]
fn columns_are_shifted_and_scaled() {
    on_both(|gpu, element| {
        for (rows, cols) in SHAPES {
            let old = random(1, rows * cols, element);
            let (shift, scale) = (random(2, cols, Element::F32), random(3, cols, Element::F32));
            let both = shift.iter().zip(&scale).cycle();
            let want: Vec<f32> = old
                .iter()
                .zip(both)
                .map(|(x, (shift, scale))| kept(element, (x - shift) * scale))
                .collect();
            let mut x = tensor(gpu, cols, &old);
            let [shift, scale] = [shift, scale].map(|values| gpu.vector(values).unwrap());
            gpu.rescale(&shift, &scale, &mut x);
            let ours = read(gpu, &mut x, rows);
            assert_bits(&ours, &want, &format!("{element:?} [{rows}, {cols}]"));
        }
    });
}

#[test]
fn a_vector_of_another_width_never_reaches_the_kernel() {
    let Some(gpu) = device(Element::F32) else { return };
    let [long, short] = [4, 3].map(|n| gpu.vector(vec![1.0; n]).unwrap());
    let mut x = tensor(&gpu, 4, &[0.0; 12]);
    assert_refused("one of each", || gpu.rescale(&short, &long, &mut x));
    assert_refused("one of each", || gpu.rescale(&long, &short, &mut x));
    gpu.check().unwrap();
}
