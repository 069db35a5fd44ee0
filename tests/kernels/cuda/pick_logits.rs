//! Differences of two logits without the others.
//! Oracle: the definition in f64.

use electrode::device::cuda::Element;
use electrode::device::gradient_ops::GradientOps;
use electrode::device::ops::Ops;
use electrode::device::suffix_ops::SuffixOps;

use super::rows::{SHAPES, assert_near, assert_refused, indices, random, tensor};
use crate::cuda::{device, on_both};

const CLASSES: usize = 13;

#[test]
fn differences_are_those_of_the_definition() {
    on_both(|gpu, element| {
        for (rows, cols) in SHAPES {
            let (w, x) = (random(1, CLASSES * cols, element), random(2, rows * cols, element));
            let (ids, others) = (indices(3, rows, CLASSES), indices(4, rows, CLASSES));
            for bias in [None, Some(random(5, CLASSES, Element::F32))] {
                let weight = gpu.matrix(CLASSES, w.clone(), bias.clone()).unwrap();
                let mut out = gpu.exact_tensor(rows, 1).unwrap();
                gpu.set_rows(&mut out, rows);
                gpu.pick_logits(&weight, (&ids, &others), &tensor(gpu, cols, &x), &mut out);
                let mut ours = Vec::new();
                gpu.read(&out, &mut ours).unwrap();
                let want = (0..rows).map(|row| {
                    let [id, other] = [ids[row] as usize, others[row] as usize];
                    let of = |id: usize| bias.as_ref().map_or(0.0, |bias| f64::from(bias[id]));
                    let terms = (0..cols).map(|i| {
                        let [a, b] = [id, other].map(|id| f64::from(w[id * cols + i]));
                        (a - b) * f64::from(x[row * cols + i])
                    });
                    let (sum, size) = terms
                        .fold((0.0, 0.0), |(sum, size), term: f64| (sum + term, size + term.abs()));
                    (sum + of(id) - of(other), 1e-6 * (size + 1.0))
                });
                // Exact whatever the type of the tensors.
                assert_near(&ours, want, (Element::F32, &format!("{element:?} [{rows}, {cols}]")));
            }
        }
    });
}

#[test]
fn answers_beyond_the_logits_never_reach_the_kernel() {
    let Some(gpu) = device(Element::F32) else { return };
    let weight = gpu.matrix(2, vec![0.5; 6], None).unwrap();
    let x = tensor(&gpu, 3, &[0.0; 3]);
    let mut out = gpu.exact_tensor(1, 1).unwrap();
    gpu.set_rows(&mut out, 1);
    assert_refused("beyond", || gpu.pick_logits(&weight, (&[0], &[2]), &x, &mut out));
}
