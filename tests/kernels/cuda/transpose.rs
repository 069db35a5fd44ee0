//! Transposed weights, as products with gradients read them.
//! Oracle: the same weight transposed on the host, to the bit, through each epilogue.

use electrode::device::gradient_ops::GradientOps;
use electrode::device::ops::{Epilogue, Ops};
use electrode::model::Activation;

use super::rows::{assert_bits, poisoned, random, read, tensor};
use crate::cuda::on_both;

/// Out, in of the weight: one of each, inside a square, its sides, one more, and several.
const SHAPES: [(usize, usize); 8] =
    [(1, 1), (1, 70), (70, 1), (5, 7), (32, 64), (33, 65), (100, 31), (259, 72)];

#[test]
fn transposed_weights_multiply_as_if_they_were_stored_so() {
    on_both(|gpu, element| {
        for (out, inner) in SHAPES {
            let values = random(1, out * inner, element);
            let turned: Vec<f32> =
                (0..out * inner).map(|i| values[i % out * inner + i / out]).collect();
            let weight = gpu.matrix(out, values, Some(random(2, out, element))).unwrap();
            let ours = gpu.transposed(&weight).unwrap();
            let theirs = gpu.matrix(inner, turned, None).unwrap();
            let rows = 5;
            let x = tensor(gpu, out, &random(3, rows * out, element));
            let other = random(4, rows * inner, element);
            let mut scratch = poisoned(gpu, rows, inner);
            let a = tensor(gpu, inner, &other);
            for which in 0..4 {
                let mut product = |weight| {
                    let mut y = tensor(gpu, inner, &other);
                    let then = match which {
                        0 => Epilogue::Store,
                        1 => Epilogue::Activate(Activation::Silu),
                        2 => Epilogue::Multiply(&a),
                        _ => Epilogue::Add(&mut scratch),
                    };
                    gpu.linear(weight, &x, then, &mut y);
                    read(gpu, &mut y, rows)
                };
                let (ours, theirs) = (product(&ours), product(&theirs));
                assert_bits(&ours, &theirs, &format!("{element:?} [{out}, {inner}] {which}"));
            }
        }
    });
}

#[test]
fn twice_transposed_is_the_weight() {
    on_both(|gpu, element| {
        for (out, inner) in SHAPES {
            let weight = gpu.matrix(out, random(1, out * inner, element), None).unwrap();
            let twice = gpu.transposed(&gpu.transposed(&weight).unwrap()).unwrap();
            let x = tensor(gpu, inner, &random(3, 3 * inner, element));
            let product = |weight| {
                let mut y = poisoned(gpu, 3, out);
                gpu.linear(weight, &x, Epilogue::Store, &mut y);
                read(gpu, &mut y, 3)
            };
            assert_bits(&product(&twice), &product(&weight), &format!("[{out}, {inner}]"));
        }
    });
}
