//! The special functions behind p-values, in double precision: log gamma, the incomplete gamma
//! and beta functions, and the complementary error function. Tails are computed as tails, never
//! as one minus the rest, so that they stay accurate down to the smallest positive double.

/// Smallest magnitude that a continued fraction's denominator may take (Lentz's guard).
const TINY: f64 = 1e-300;
/// Continued fractions and series end when a step changes them by less than this.
const EPSILON: f64 = 1e-16;
/// No sum or fraction below needs more steps at the sizes that callers allow.
const STEPS: u32 = 100_000;

/// The remainder of Stirling's series: ln gamma(x) - [(x - 1/2) ln x - x + ln(2 pi)/2], x >= 10
/// (Abramowitz & Stegun 6.1.41).
fn stirling_rest(x: f64) -> f64 {
    debug_assert!(x >= 10.0);
    let s = 1.0 / (x * x);
    let tail = s * (1.0 / 1188.0 - s * (691.0 / 360_360.0 - s / 156.0));
    (1.0 / 12.0 - s * (1.0 / 360.0 - s * (1.0 / 1260.0 - s * (1.0 / 1680.0 - tail)))) / x
}

/// ln gamma(x) for x > 0.
pub fn ln_gamma(x: f64) -> f64 {
    assert!(x > 0.0, "ln_gamma of {x}");
    // Stirling's series wants a large argument: climb with gamma(x + 1) = x gamma(x).
    let mut product = 1.0;
    let mut y = x;
    while y < 10.0 {
        product *= y;
        y += 1.0;
    }
    let half_ln_two_pi = 0.918_938_533_204_672_8;
    (y - 0.5) * y.ln() - y + half_ln_two_pi + stirling_rest(y) - product.ln()
}

/// ln B(a, b), without the cancellation of ln gamma(a) + ln gamma(b) - ln gamma(a + b) when an
/// argument is large (Didonato & Morris 1992, TOMS 708, `betaln`).
fn ln_beta(a: f64, b: f64) -> f64 {
    let (large, small) = if a >= b { (a, b) } else { (b, a) };
    if large < 10.0 {
        return ln_gamma(a) + ln_gamma(b) - ln_gamma(a + b);
    }
    let sum = large + small;
    if small < 10.0 {
        let ratio = -small * large.ln() - (sum - 0.5) * (small / large).ln_1p() + small;
        return ln_gamma(small) + ratio + stirling_rest(large) - stirling_rest(sum);
    }
    let half_ln_two_pi = 0.918_938_533_204_672_8;
    half_ln_two_pi - 0.5 * small.ln() + stirling_rest(large) + stirling_rest(small)
        - stirling_rest(sum)
        - (large - 0.5) * (small / large).ln_1p()
        - small * (large / small).ln_1p()
}

/// Q(a, x), the upper regularised incomplete gamma function, for a > 0 and x >= 0.
pub fn gamma_q(a: f64, x: f64) -> f64 {
    assert!(a > 0.0 && x >= 0.0, "gamma_q({a}, {x})");
    if x == 0.0 {
        return 1.0;
    }
    if x.is_infinite() {
        return 0.0;
    }
    let front = (a * x.ln() - x - ln_gamma(a)).exp();
    if x < a + 1.0 { 1.0 - front * gamma_series(a, x) } else { front * gamma_fraction(a, x) }
}

/// sum_k x^k / (a (a+1) … (a+k)) (Abramowitz & Stegun 6.5.29).
fn gamma_series(a: f64, x: f64) -> f64 {
    let mut term = 1.0 / a;
    let mut sum = term;
    for k in 1..STEPS {
        term *= x / (a + f64::from(k));
        sum += term;
        if term < sum * EPSILON {
            break;
        }
    }
    sum
}

/// Legendre's continued fraction of Q(a, x) (Abramowitz & Stegun 6.5.31), even part, by Lentz.
fn gamma_fraction(a: f64, x: f64) -> f64 {
    let mut b = x + 1.0 - a;
    let mut c = 1.0 / TINY;
    let mut d = 1.0 / b;
    let mut h = d;
    for k in 1..STEPS {
        let k = f64::from(k);
        let numerator = -k * (k - a);
        b += 2.0;
        d = 1.0 / guard(numerator * d + b);
        c = guard(b + numerator / c);
        let step = d * c;
        h *= step;
        if (step - 1.0).abs() <= EPSILON {
            break;
        }
    }
    h
}

fn guard(x: f64) -> f64 {
    if x.abs() < TINY { TINY } else { x }
}

/// The complementary error function.
pub fn erfc(x: f64) -> f64 {
    let upper = gamma_q(0.5, x * x);
    if x < 0.0 { 2.0 - upper } else { upper }
}

/// I_x(a, b), the regularised incomplete beta function; `y` must be 1 - x, given apart so that
/// neither end loses its digits.
pub fn beta_inc(a: f64, b: f64, x: f64, y: f64) -> f64 {
    assert!(a > 0.0 && b > 0.0 && (0.0..=1.0).contains(&x), "beta_inc({a}, {b}, {x})");
    if x == 0.0 || y == 0.0 {
        return if x == 0.0 { 0.0 } else { 1.0 };
    }
    let ln = |p: f64, q: f64| if p > 0.5 { (-q).ln_1p() } else { p.ln() };
    let front = (a * ln(x, y) + b * ln(y, x) - ln_beta(a, b)).exp();
    if x < (a + 1.0) / (a + b + 2.0) {
        front * beta_fraction(a, b, x) / a
    } else {
        1.0 - front * beta_fraction(b, a, y) / b
    }
}

/// The continued fraction of I_x(a, b) (Abramowitz & Stegun 26.5.8), by Lentz.
fn beta_fraction(a: f64, b: f64, x: f64) -> f64 {
    let mut c = 1.0;
    let mut d = 1.0 / guard(1.0 - (a + b) * x / (a + 1.0));
    let mut h = d;
    for m in 1..STEPS {
        let m = f64::from(m);
        let even = m * (b - m) * x / ((a + 2.0 * m - 1.0) * (a + 2.0 * m));
        d = 1.0 / guard(1.0 + even * d);
        c = guard(1.0 + even / c);
        h *= d * c;
        let odd = -(a + m) * (a + b + m) * x / ((a + 2.0 * m) * (a + 2.0 * m + 1.0));
        d = 1.0 / guard(1.0 + odd * d);
        c = guard(1.0 + odd / c);
        let step = d * c;
        h *= step;
        if (step - 1.0).abs() <= EPSILON {
            break;
        }
    }
    h
}
