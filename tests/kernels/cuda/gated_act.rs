//! Nonlinearities, products and caps.
//! Oracle: the definitions in f64; products to the bit. A bf16 kernel rounds what the f32 one gives.

use electrode::device::cuda::Element;
use electrode::device::gradient_ops::GradientOps;
use electrode::device::ops::Ops;
use electrode::model::Activation;

use super::rows::{SHAPES, assert_bits, assert_near, kept, poisoned, random, read, tensor};
use crate::cuda::{device, on_both};

const KINDS: [Activation; 5] = [
    Activation::Relu,
    Activation::GeluErf,
    Activation::GeluTanh,
    Activation::Silu,
    Activation::Tanh,
];
/// The rounding of an f32, relative.
const ULP: f64 = f32::EPSILON as f64;

fn by_definition(kind: Activation, x: f64) -> f64 {
    match kind {
        Activation::Relu => x.max(0.0),
        Activation::GeluErf => 0.5 * x * (1.0 + erf(x * std::f64::consts::FRAC_1_SQRT_2)),
        Activation::GeluTanh => {
            let inner = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044_715 * x.powi(3));
            0.5 * x * (1.0 + inner.tanh())
        }
        Activation::Silu => x / (1.0 + (-x).exp()),
        Activation::Tanh => x.tanh(),
    }
}

/// By its Taylor series, and 1 beyond the range where that converges.
fn erf(x: f64) -> f64 {
    if x.abs() > 5.0 {
        return x.signum();
    }
    let (mut term, mut sum) = (x, x);
    for n in 1..150 {
        let n = f64::from(n);
        term *= -x * x / n;
        sum += term / (2.0 * n + 1.0);
    }
    sum * 2.0 / std::f64::consts::PI.sqrt()
}

/// From -8 to 8 and some far out.
fn inputs(n: usize, element: Element) -> Vec<f32> {
    let values = random(5, n, element).into_iter().enumerate();
    values.map(|(i, x)| kept(element, if i % 50 == 49 { 20.0 * x } else { 3.0 * x })).collect()
}

#[test]
fn activations_are_those_of_the_definitions() {
    for kind in KINDS {
        let mut exact = Vec::new();
        for element in [Element::F32, Element::Bf16] {
            let Some(gpu) = device(element) else { return };
            let (rows, cols) = (7, 333);
            let values = inputs(rows * cols, Element::Bf16);
            let x = tensor(&gpu, cols, &values);
            let mut out = poisoned(&gpu, rows, cols);
            gpu.activate(kind, &x, &mut out);
            let ours = read(&gpu, &mut out, rows);
            let want = values.iter().map(|&x| {
                let x = f64::from(x);
                (by_definition(kind, x), 4.0 * ULP * x.abs())
            });
            assert_near(&ours, want, (element, &format!("{kind:?} {element:?}")));
            if element == Element::F32 {
                exact = ours;
            } else {
                let rounded: Vec<f32> = exact.iter().map(|&x| kept(element, x)).collect();
                assert_bits(&ours, &rounded, &format!("{kind:?}"));
            }
        }
    }
}

#[test]
fn every_shape_is_covered() {
    on_both(|gpu, element| {
        for (rows, cols) in SHAPES.into_iter().chain([(9, 1000), (4100, 1)]) {
            let (a, b) = (random(1, rows * cols, element), random(2, rows * cols, element));
            let (x, y) = (tensor(gpu, cols, &a), tensor(gpu, cols, &b));
            let what = format!("{element:?} [{rows}, {cols}]");
            let mut out = poisoned(gpu, rows, cols);
            gpu.multiply(&x, &y, &mut out);
            let want: Vec<f32> = a.iter().zip(&b).map(|(a, b)| kept(element, a * b)).collect();
            assert_bits(&read(gpu, &mut out, rows), &want, &what);
            let mut in_place = tensor(gpu, cols, &b);
            gpu.scale_by(&x, &mut in_place);
            assert_bits(&read(gpu, &mut in_place, rows), &want, &what);
            let mut out = poisoned(gpu, rows, cols);
            gpu.activate(Activation::Relu, &x, &mut out);
            let want: Vec<f32> = a.iter().map(|a| if *a < 0.0 { 0.0 } else { *a }).collect();
            assert_bits(&read(gpu, &mut out, rows), &want, &what);
        }
    });
}

#[test]
fn a_cap_bends_in_place() {
    on_both(|gpu, element| {
        for (rows, cols) in [(1, 1), (5, 9), (3, 1003)] {
            let values = inputs(rows * cols, element);
            let mut x = tensor(gpu, cols, &values);
            gpu.softcap(5.0, &mut x);
            let want = values.iter().map(|&x| {
                let x = f64::from(x);
                (5.0 * (x / 5.0).tanh(), 4.0 * ULP * x.abs())
            });
            assert_near(&read(gpu, &mut x, rows), want, (element, "softcap"));
        }
    });
}

#[test]
fn nan_stays_visible() {
    on_both(|gpu, _| {
        for kind in KINDS {
            let x = tensor(gpu, 3, &[f32::NAN, 1.0, f32::NAN]);
            let mut out = tensor(gpu, 3, &[0.0; 3]);
            gpu.activate(kind, &x, &mut out);
            let values = read(gpu, &mut out, 1);
            assert!(values[0].is_nan() && values[2].is_nan() && !values[1].is_nan(), "{kind:?}");
        }
    });
}
