//! Elementary functions as straight-line f32 arithmetic, so that loops over them vectorise.
//! Oracle: std's libm in f64; bounds in the tests below.

/// e^x, within 2 ulp for x in [-87, 88]; 0 below, clamped above. NaN stays NaN.
///
/// x = n ln 2 + r with |r| <= ln 2 / 2, and a degree-6 polynomial for e^r (coefficients of
/// Cephes' `expf`).
#[inline(always)]
pub(super) fn exp(x: f32) -> f32 {
    const LOG2_E: f32 = std::f32::consts::LOG2_E;
    const LN_2_HIGH: f32 = 0.693_359_4;
    const LN_2_LOW: f32 = -2.121_944_4e-4;
    // Adding 1.5 * 2^23 rounds to the nearest integer and leaves it in the low mantissa bits.
    const ROUND: f32 = 12_582_912.0;
    let clamped = if x > 88.3 { 88.3 } else { x };
    let clamped = if clamped < -87.3 { -87.3 } else { clamped };
    let shifted = clamped * LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = clamped - n * LN_2_HIGH - n * LN_2_LOW;
    let mut p = 1.987_569_1e-4;
    p = p * r + 1.398_199_9e-3;
    p = p * r + 8.333_452e-3;
    p = p * r + 4.166_579_6e-2;
    p = p * r + 1.666_666_5e-1;
    p = p * r + 0.5;
    let value = p * r * r + r + 1.0;
    let exponent = shifted.to_bits().wrapping_add(127) << 23;
    let result = value * f32::from_bits(exponent);
    if x < -87.3 { 0.0 } else { result }
}

/// tanh(x), within 3e-7.
#[inline(always)]
pub(super) fn tanh(x: f32) -> f32 {
    // Near 0 the quotient loses digits: a short odd series serves there.
    let small = x * (1.0 - x * x * (1.0 / 3.0) * (1.0 - x * x * 0.4));
    let e = exp(-2.0 * x.abs());
    let large = ((1.0 - e) / (1.0 + e)).copysign(x);
    if x.abs() < 0.04 { small } else { large }
}

/// erf(x), within 6e-7: x P(x^2) / Q(x^2), a quotient of polynomials fitted on [-4, 4], beyond which f32
/// has no more digits of 1 - |erf|. The coefficients are those that Eigen and XLA publish for float32.
#[inline(always)]
pub(super) fn erf(x: f32) -> f32 {
    let clamped = if x > 4.0 { 4.0 } else { x };
    let clamped = if clamped < -4.0 { -4.0 } else { clamped };
    let z = clamped * clamped;
    let mut p = -2.726_142_3e-10;
    p = p * z + 2.770_681_4e-8;
    p = p * z - 2.101_024e-6;
    p = p * z - 5.692_506_5e-5;
    p = p * z - 7.349_906_3e-4;
    p = p * z - 2.954_6e-3;
    p = p * z - 1.609_603_3e-2;
    let mut q = -1.456_607_2e-5;
    q = q * z - 2.133_740_6e-4;
    q = q * z - 1.682_827e-3;
    q = q * z - 7.373_329_4e-3;
    q = q * z - 1.426_473_9e-2;
    clamped * p / q
}

#[cfg(test)]
mod tests {
    use super::*;

    fn worst(f: fn(f32) -> f32, oracle: fn(f64) -> f64, range: f32, relative: bool) -> f64 {
        (-200_000..=200_000)
            .map(|i| i as f32 / 200_000.0 * range)
            .map(|x| {
                let want = oracle(f64::from(x));
                let error = (f64::from(f(x)) - want).abs();
                if relative { error / want.abs().max(1e-300) } else { error }
            })
            .fold(0.0, f64::max)
    }

    #[test]
    fn exp_agrees_with_libm() {
        assert!(worst(exp, f64::exp, 87.0, true) <= 2.5e-7);
        assert_eq!(exp(0.0), 1.0);
        assert_eq!(exp(-200.0), 0.0);
        assert_eq!(exp(f32::NEG_INFINITY), 0.0);
        assert!(exp(f32::NAN).is_nan());
        assert!(exp(1e9).is_finite());
    }

    #[test]
    fn tanh_agrees_with_libm() {
        assert!(worst(tanh, f64::tanh, 12.0, false) <= 3e-7);
        assert_eq!(tanh(0.0), 0.0);
    }

    /// erf by its Taylor series in f64, and 1 beyond the range where that converges.
    fn erf_series(x: f64) -> f64 {
        if x.abs() > 5.5 {
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

    #[test]
    fn erf_agrees_with_its_series() {
        assert!(worst(erf, erf_series, 4.0, false) <= 6e-7);
    }
}
