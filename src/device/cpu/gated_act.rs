//! gated_act: nonlinearities, products and caps, element by element.

use super::buffer::Tensor;
use super::dispatch::multiversion;
use super::math;
use crate::model::Activation;

/// `out = act(x)`.
pub(super) fn activate(activation: Activation, x: &Tensor, out: &mut Tensor) {
    assert_eq!((x.rows(), x.cols()), (out.rows(), out.cols()));
    let (cols, x) = (x.cols(), x.values());
    let kernel = kernel(activation);
    out.par_rows(|first, rows| {
        rows.copy_from_slice(&x[first * cols..][..rows.len()]);
        kernel(rows);
    });
}

/// An activation function, in place.
pub(super) fn kernel(activation: Activation) -> fn(&mut [f32]) {
    match activation {
        Activation::Relu => relu,
        Activation::GeluErf => gelu_erf,
        Activation::GeluTanh => gelu_tanh,
        Activation::Silu => silu,
        Activation::Tanh => tanh,
    }
}

/// `out = a * b`.
pub(super) fn multiply(a: &Tensor, b: &Tensor, out: &mut Tensor) {
    assert_eq!((a.rows(), a.cols()), (out.rows(), out.cols()));
    assert_eq!((b.rows(), b.cols()), (out.rows(), out.cols()));
    let (cols, a, b) = (a.cols(), a.values(), b.values());
    out.par_rows(|first, rows| {
        let range = first * cols..first * cols + rows.len();
        for ((out, a), b) in rows.iter_mut().zip(&a[range.clone()]).zip(&b[range]) {
            *out = a * b;
        }
    });
}

/// `x = a * x`.
pub(super) fn multiply_in_place(a: &Tensor, x: &mut Tensor) {
    assert_eq!((a.rows(), a.cols()), (x.rows(), x.cols()));
    let (cols, a) = (a.cols(), a.values());
    x.par_rows(|first, rows| {
        for (x, a) in rows.iter_mut().zip(&a[first * cols..]) {
            *x *= a;
        }
    });
}

/// `x = cap * tanh(x / cap)`.
pub(super) fn softcap(cap: f32, x: &mut Tensor) {
    x.par_rows(|_, rows| cap_values(cap, rows));
}

multiversion! {
    fn relu(x: &mut [f32]) {
        for x in x {
            // Not max(): that would turn NaN into 0.
            *x = if *x < 0.0 { 0.0 } else { *x };
        }
    }

    fn gelu_erf(x: &mut [f32]) {
        for x in x {
            *x = 0.5 * *x * (1.0 + math::erf(*x * std::f32::consts::FRAC_1_SQRT_2));
        }
    }

    fn gelu_tanh(x: &mut [f32]) {
        const SQRT_2_OVER_PI: f32 = 0.797_884_6;
        for x in x {
            let inner = SQRT_2_OVER_PI * (*x + 0.044_715 * *x * *x * *x);
            *x = 0.5 * *x * (1.0 + math::tanh(inner));
        }
    }

    fn silu(x: &mut [f32]) {
        for x in x {
            *x /= 1.0 + math::exp(-*x);
        }
    }

    fn tanh(x: &mut [f32]) {
        for x in x {
            *x = math::tanh(*x);
        }
    }

    /// x = cap * tanh(x / cap).
    pub(super) fn cap_values(cap: f32, x: &mut [f32]) {
        for x in x {
            *x = cap * math::tanh(*x / cap);
        }
    }
}
