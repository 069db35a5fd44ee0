//! Special functions and tail probabilities.
//! Oracle: mpmath 1.3 at 60 digits; the hypergeometric tail by exact rational arithmetic.
#![expect(clippy::excessive_precision, reason = "digits as the oracle prints them")]

use electrode::methods::significance::{
    benjamini_hochberg, chi_square_tail, correlation, f_tail, normal_tail, overlap_tail,
    t_two_sided,
};
use electrode::methods::special::{erfc, gamma_q, ln_gamma};

fn close(name: &str, ours: f64, want: f64) {
    let error = (ours - want).abs() / want.abs();
    assert!(error <= 1e-10, "{name}: {ours:e}, want {want:e}, off by {error:.1e}");
}

#[test]
fn ln_gamma_is_mpmath_s() {
    for (x, want) in [
        (0.1, 2.2527126517342059),
        (0.5, 0.572364942924700087),
        (1.5, -0.120782237635245222),
        (3.7, 1.42807232666538813),
        (25.3, 55.7461811835845923),
        (1e6, 12815504.5691476117),
    ] {
        close("ln_gamma", ln_gamma(x), want);
    }
}

#[test]
fn erfc_is_mpmath_s_far_into_the_tail() {
    for (x, want) in [
        (-1.3, 1.93400794494065245),
        (0.01, 0.988716584444150383),
        (0.4, 0.571607644953331524),
        (1.0, 0.157299207050285131),
        (2.5, 0.00040695201744495894),
        (6.0, 2.15197367124989131e-17),
        (15.0, 7.21299417245120667e-100),
        (26.0, 5.66319240885614285e-296),
    ] {
        close("erfc", erfc(x), want);
    }
    assert!(erfc(40.0) == 0.0);
    assert!((normal_tail(1.959963984540054) - 0.025).abs() <= 1e-12);
}

#[test]
fn gamma_q_is_mpmath_s() {
    for (a, x, want) in [
        (0.5, 0.2, 0.527089256865538074),
        (1.0, 3.0, 0.049787068367863943),
        (3.5, 2.25, 0.720717273791148894),
        (10.0, 40.0, 3.92593222628618819e-9),
        (100.0, 90.0, 0.841779010813569832),
        (100.0, 160.0, 1.44202245053527366e-7),
        (0.5, 650.0, 1.13037284414927424e-284),
        (15000.0, 15500.0, 0.000026646147201686758),
        (2.0, 700.0, 6.91163325717559937e-302),
    ] {
        close("gamma_q", gamma_q(a, x), want);
        close("chi square", chi_square_tail(2.0 * x, 2.0 * a), want);
    }
}

#[test]
fn f_and_t_are_mpmath_s() {
    for (f, d1, d2, want) in [
        (1.0, 1.0, 10.0, 0.340893132302059873),
        (4.5, 3.0, 20.0, 0.0143732446108974514),
        (0.2, 5.0, 100.0, 0.961766547593579296),
        (30.0, 1.0, 1000.0, 5.46598273225313738e-8),
        (1500.0, 1.0, 1000.0, 3.48708916815818503e-201),
        (2.5, 16.0, 2000.0, 0.000848587466494868761),
        (0.9, 13.0, 1137.5, 0.552681445698460497),
        (100.0, 1.0, 5000.0, 2.52087471164399353e-23),
        // Above a million degrees of freedom an expansion takes over.
        (25.0, 1.0, 4e6, 5.733273033606312e-7),
        (3.0, 4.0, 4e6, 0.01735137678063516),
        (900.0, 1.0, 1e7, 1.00146136908178002e-197),
    ] {
        close(&format!("F {f} {d1} {d2}"), f_tail(f, d1, d2), want);
        if d1 == 1.0 {
            close("t", t_two_sided(-f64::sqrt(f), d2), want);
        }
    }
    assert_eq!(f_tail(f64::INFINITY, 1.0, 5.0), 0.0);
    assert_eq!(f_tail(0.0, 3.0, 5.0), 1.0);
    assert_eq!(f_tail(f64::NAN, 3.0, 5.0), 1.0);
    assert_eq!(correlation(1.0, 10.0), 0.0);
    assert_eq!(correlation(0.5, 2.0), 1.0);
    // r = 0.5 over 10 pairs: t = sqrt(0.25 * 8 / 0.75).
    close("r", correlation(-0.5, 10.0), t_two_sided(f64::sqrt(8.0 / 3.0), 8.0));
}

/// Exact by counting: P(X >= k) as a ratio of binomial coefficients in u128.
fn counted(k: u64, drawn: u64, marked: u64, all: u64) -> f64 {
    let choose = |n: u64, k: u64| {
        (0..k)
            .fold(1_u128, |c, i| if k > n { 0 } else { c * u128::from(n - i) / u128::from(i + 1) })
    };
    let ways = |i| choose(marked, i) * choose(all - marked, drawn - i);
    let hits: u128 = (k..=drawn.min(marked)).map(ways).sum();
    hits as f64 / choose(all, drawn) as f64
}

#[test]
fn overlap_tail_counts_the_ways() {
    for (drawn, marked, all) in [(5, 7, 20), (10, 30, 60), (29, 31, 60), (1, 1, 2), (20, 60, 60)] {
        for k in 0..=drawn.min(marked) {
            let want = counted(k, drawn, marked, all);
            close(
                &format!("{k} {drawn} {marked} {all}"),
                overlap_tail(k, drawn, marked, all),
                want,
            );
        }
    }
}

#[test]
fn q_values_by_hand() {
    // p * 4 / rank from the end: 0.8, min(0.05*4/3, .), 0.04*4/2, 0.01*4.
    let q = benjamini_hochberg(&[0.04, 0.8, 0.01, 0.05]);
    for (ours, want) in q.iter().zip([0.2 / 3.0, 0.8, 0.04, 0.2 / 3.0]) {
        assert!((ours - want).abs() <= 1e-15, "{q:?}");
    }
    assert!(benjamini_hochberg(&[]).is_empty());
}
