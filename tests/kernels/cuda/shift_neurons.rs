//! A neuron's change on its way through the down projection.
//! Oracle: the definition in f64.

use electrode::device::cuda::Element;
use electrode::device::ops::Ops;
use electrode::device::suffix_ops::SuffixOps;

use super::rows::{assert_near, assert_refused, indices, random, read, tensor};
use crate::cuda::{device, on_both};

/// Rows, columns, neurons: one of each, packs and blocks not full, several of both.
const SHAPES: [(usize, usize, usize); 5] =
    [(1, 1, 2), (5, 7, 33), (40, 64, 96), (33, 1027, 9), (70, 520, 1030)];
const TOKENS: usize = 11;

#[test]
fn a_change_reaches_the_columns_it_should() {
    on_both(|gpu, element| {
        for (rows, cols, inner) in SHAPES {
            let (w, act) = (random(1, cols * inner, element), random(2, TOKENS * inner, element));
            let before = random(3, rows * cols, element);
            let (scale, shift) = (random(4, rows, Element::F32), random(5, rows, Element::F32));
            let tokens = indices(6, rows, TOKENS);
            // Runs of one neuron, as a sweep has them.
            let picks = indices(7, rows, inner);
            let neurons: Vec<u32> = (0..rows).map(|row| picks[row / 6]).collect();
            let down = gpu.matrix(cols, w.clone(), Some(random(8, cols, Element::F32))).unwrap();
            let mut out = tensor(gpu, cols, &before);
            let values = (&tensor(gpu, inner, &act), &scale[..], &shift[..]);
            gpu.shift_neurons(&down, (&tokens, &neurons), values, &mut out);
            let want = (0..rows * cols).map(|i| {
                let (row, col) = (i / cols, i % cols);
                let neuron = neurons[row] as usize;
                let x = f64::from(act[tokens[row] as usize * inner + neuron]);
                let change = (f64::from(scale[row]) - 1.0) * x + f64::from(shift[row]);
                let added = change * f64::from(w[col * inner + neuron]);
                let most = f64::from(before[i]).abs() + added.abs() + 1.0;
                (f64::from(before[i]) + added, 8.0 * f64::from(f32::EPSILON) * most)
            });
            let what = format!("{element:?} [{rows}, {cols}] of {inner}");
            assert_near(&read(gpu, &mut out, rows), want, (element, &what));
        }
    });
}

#[test]
fn neurons_and_tokens_that_are_not_there_never_reach_the_kernel() {
    let Some(gpu) = device(Element::F32) else { return };
    let down = gpu.matrix(3, vec![0.5; 12], None).unwrap();
    let act = tensor(&gpu, 4, &[0.0; 8]);
    let mut out = tensor(&gpu, 3, &[0.0; 3]);
    let values = (&act, &[1.0][..], &[0.0][..]);
    assert_refused("neuron", || gpu.shift_neurons(&down, (&[0], &[4]), values, &mut out));
    assert_refused("token", || gpu.shift_neurons(&down, (&[2], &[0]), values, &mut out));
}
