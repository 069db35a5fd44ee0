//! activation_grad: derivatives of nonlinearities and caps, element by element.

use super::buffer::Tensor;
use super::dispatch::multiversion;
use super::math;
use crate::model::Activation;

/// `g = g * act'(x)`.
pub(super) fn activation_grad(activation: Activation, x: &Tensor, g: &mut Tensor) {
    let kernel = match activation {
        Activation::Relu => relu,
        Activation::GeluErf => gelu_erf,
        Activation::GeluTanh => gelu_tanh,
        Activation::Silu => silu,
        Activation::Tanh => tanh,
    };
    each(x, g, kernel);
}

/// `g = g * (1 - (y / cap)^2)`.
pub(super) fn softcap_grad(cap: f32, y: &Tensor, g: &mut Tensor) {
    each(y, g, |y, g| cap_gradient(cap, y, g));
}

fn each(x: &Tensor, g: &mut Tensor, kernel: impl Fn(&[f32], &mut [f32]) + Sync) {
    assert_eq!((x.rows(), x.cols()), (g.rows(), g.cols()));
    let (cols, x) = (x.cols(), x.values());
    g.par_rows(|first, rows| kernel(&x[first * cols..][..rows.len()], rows));
}

multiversion! {
    fn relu(x: &[f32], g: &mut [f32]) {
        for (g, x) in g.iter_mut().zip(x) {
            // At 0 the derivative is 0; where x is no number, the gradient is none either.
            *g *= if *x > 0.0 { 1.0 } else if *x <= 0.0 { 0.0 } else { *x };
        }
    }

    fn gelu_erf(x: &[f32], g: &mut [f32]) {
        // 1 / sqrt(2 pi)
        const DENSITY: f32 = 0.398_942_3;
        for (g, x) in g.iter_mut().zip(x) {
            let below = 0.5 * (1.0 + math::erf(*x * std::f32::consts::FRAC_1_SQRT_2));
            *g *= below + *x * DENSITY * math::exp(-0.5 * *x * *x);
        }
    }

    fn gelu_tanh(x: &[f32], g: &mut [f32]) {
        const SQRT_2_OVER_PI: f32 = 0.797_884_6;
        for (g, x) in g.iter_mut().zip(x) {
            let t = math::tanh(SQRT_2_OVER_PI * (*x + 0.044_715 * *x * *x * *x));
            let inner = SQRT_2_OVER_PI * (1.0 + 3.0 * 0.044_715 * *x * *x);
            *g *= 0.5 * (1.0 + t) + 0.5 * *x * (1.0 - t * t) * inner;
        }
    }

    fn silu(x: &[f32], g: &mut [f32]) {
        for (g, x) in g.iter_mut().zip(x) {
            let s = 1.0 / (1.0 + math::exp(-*x));
            *g *= s * (1.0 + *x * (1.0 - s));
        }
    }

    fn tanh(x: &[f32], g: &mut [f32]) {
        for (g, x) in g.iter_mut().zip(x) {
            let t = math::tanh(*x);
            *g *= 1.0 - t * t;
        }
    }

    /// d (cap tanh(x / cap)) / dx, by the capped value.
    pub(super) fn cap_gradient(cap: f32, y: &[f32], g: &mut [f32]) {
        for (g, y) in g.iter_mut().zip(y) {
            let t = *y / cap;
            *g *= 1.0 - t * t;
        }
    }
}
