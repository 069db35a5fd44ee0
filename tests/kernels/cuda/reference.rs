//! Definitions in f64.

/// The nonlinearity of this number, as kernels/activation.cuh counts them.
pub(super) fn activation(kind: u32, x: f64) -> f64 {
    match kind {
        0 => x.max(0.0),
        1 => 0.5 * x * (1.0 + erf(x / std::f64::consts::SQRT_2)),
        2 => {
            let inner = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044_715 * x * x * x);
            0.5 * x * (1.0 + inner.tanh())
        }
        3 => x / (1.0 + (-x).exp()),
        _ => x.tanh(),
    }
}

/// By its Taylor series, and 1 beyond the range where that converges.
pub(super) fn erf(x: f64) -> f64 {
    if x.abs() > 4.5 {
        return x.signum();
    }
    let (mut term, mut sum) = (x, x);
    for n in 1..200 {
        let n = f64::from(n);
        term *= -x * x / n;
        sum += term / (2.0 * n + 1.0);
    }
    sum * 2.0 / std::f64::consts::PI.sqrt()
}
