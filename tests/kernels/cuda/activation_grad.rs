//! Gradients through nonlinearities and caps.
//! Oracle: derivatives and central differences of the definitions in f64. A bf16 kernel rounds what the f32 one gives.

use electrode::device::cuda::Element;
use electrode::device::gradient_ops::GradientOps;
use electrode::model::Activation;

use super::reference::{activation, erf};
use super::rows::{SHAPES, assert_bits, assert_near, kept, random, read, tensor};
use crate::cuda::{device, on_both};

const KINDS: [Activation; 5] = [
    Activation::Relu,
    Activation::GeluErf,
    Activation::GeluTanh,
    Activation::Silu,
    Activation::Tanh,
];

/// Where the definition is no polynomial or exponential, by Richardson's extrapolation of central
/// differences, which is good to about 1e-10.
fn slope(kind: Activation, x: f64) -> f64 {
    let differ =
        |h: f64| (activation(kind as u32, x + h) - activation(kind as u32, x - h)) / (2.0 * h);
    match kind {
        Activation::Relu if x > 0.0 => 1.0,
        Activation::Relu => 0.0,
        Activation::GeluErf => {
            let density = (-0.5 * x * x).exp() / (2.0 * std::f64::consts::PI).sqrt();
            0.5 * (1.0 + erf(x * std::f64::consts::FRAC_1_SQRT_2)) + x * density
        }
        _ => (4.0 * differ(5e-4) - differ(1e-3)) / 3.0,
    }
}

/// From -8 to 8 and some far out.
fn inputs(n: usize) -> Vec<f32> {
    let values = random(5, n, Element::Bf16).into_iter().enumerate();
    let wide = values.map(|(i, x)| if i % 50 == 49 { 20.0 * x } else { 3.0 * x });
    wide.map(|x| kept(Element::Bf16, x)).collect()
}

#[test]
fn slopes_are_those_of_the_definitions() {
    for kind in KINDS {
        let mut exact = Vec::new();
        for element in [Element::F32, Element::Bf16] {
            let Some(gpu) = device(element) else { return };
            let (rows, cols) = (7, 333);
            let (values, before) = (inputs(rows * cols), random(6, rows * cols, Element::Bf16));
            let mut g = tensor(&gpu, cols, &before);
            gpu.activation_grad(kind, &tensor(&gpu, cols, &values), &mut g);
            let ours = read(&gpu, &mut g, rows);
            let want = values.iter().zip(&before).map(|(&x, &g)| {
                let (x, g) = (f64::from(x), f64::from(g));
                (g * slope(kind, x), 3e-6 * g.abs())
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
            let (x, before) = (random(1, rows * cols, element), random(2, rows * cols, element));
            let mut g = tensor(gpu, cols, &before);
            gpu.activation_grad(Activation::Relu, &tensor(gpu, cols, &x), &mut g);
            let want: Vec<f32> =
                x.iter().zip(&before).map(|(x, g)| if *x > 0.0 { *g } else { 0.0 * g }).collect();
            let what = format!("{element:?} [{rows}, {cols}]");
            assert_bits(&read(gpu, &mut g, rows), &want, &what);
        }
    });
}

#[test]
fn a_cap_flattens() {
    on_both(|gpu, element| {
        for (rows, cols) in [(1, 1), (5, 9), (3, 1003)] {
            let capped = |x: f32| kept(element, 5.0 * x.tanh());
            let y: Vec<f32> = random(1, rows * cols, element).into_iter().map(capped).collect();
            let before = random(2, rows * cols, element);
            let mut g = tensor(gpu, cols, &before);
            gpu.softcap_grad(5.0, &tensor(gpu, cols, &y), &mut g);
            let want = y.iter().zip(&before).map(|(&y, &g)| {
                let (t, g) = (f64::from(y) / 5.0, f64::from(g));
                (g * (1.0 - t * t), 4.0 * f64::from(f32::EPSILON) * g.abs())
            });
            assert_near(&read(gpu, &mut g, rows), want, (element, "softcap"));
        }
    });
}

#[test]
fn nan_stays_visible() {
    on_both(|gpu, _| {
        for kind in KINDS {
            let x = tensor(gpu, 3, &[f32::NAN, 1.0, 2.0]);
            let mut g = tensor(gpu, 3, &[1.0, f32::NAN, 1.0]);
            gpu.activation_grad(kind, &x, &mut g);
            let values = read(gpu, &mut g, 1);
            assert!(values[0].is_nan() && values[1].is_nan() && !values[2].is_nan(), "{kind:?}");
        }
    });
}
