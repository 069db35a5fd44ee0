//! Gradients of attention over packed sequences: every option, and widths of every path.
//! Oracle: the definition in f64. Bound: twice the error of the definition in f32 (and no less than
//! four roundings of the largest value), of queries, keys and values each; in bf16, besides, half a
//! unit of the result.

use electrode::device::cpu::CpuDevice;
use electrode::device::cuda::Element;
use electrode::device::gradient_ops::GradientOps;

use super::attention_case::{Bias, Case, HALF_UNIT, LENGTHS, bound, plain};
use super::rows::{assert_bits, poisoned, random, read, tensor};
use crate::cuda::device;

const ELEMENTS: [Element; 2] = [Element::F32, Element::Bf16];

/// The definition; `round` is what becomes of every intermediate result.
pub(super) fn by_definition(
    case: &Case,
    qkv: &[f32],
    g: &[f32],
    round: fn(f64) -> f64,
) -> Vec<f64> {
    let (d, cols, scale) = (case.width, case.cols(), f64::from(case.scale));
    let mut out = vec![0.0; qkv.len()];
    let mut add = |token: usize, head: usize, values: &mut dyn Iterator<Item = f64>| {
        for (sum, x) in out[token * cols + head * d..][..d].iter_mut().zip(values) {
            *sum = round(*sum + round(x));
        }
    };
    for (start, &n) in case.starts().iter().zip(&case.lengths) {
        let start = *start as usize;
        for (head, query) in (0..case.heads).flat_map(|h| (0..n).map(move |query| (h, query))) {
            let key_head = case.heads + head * case.kv_heads / case.heads;
            let value_head = key_head + case.kv_heads;
            let at = (start + query) * case.heads * d + head * d;
            let g = g[at..at + d].iter().map(|&x| f64::from(x));
            let probs = case.probabilities(qkv, (start, n), (head, query), round);
            let dots = (0..n).map(|key| {
                let terms = g.clone().zip(case.row(qkv, (start + key, value_head)));
                terms.fold(0.0, |sum, (g, v)| round(sum + round(g * v)))
            });
            let dots: Vec<f64> = dots.collect();
            let products = probs.iter().zip(&dots).map(|((p, _), dot)| round(p * dot));
            let mean = products.fold(0.0, |sum, x| round(sum + x));
            for (key, (p, slope)) in probs.into_iter().enumerate().filter(|(_, (p, _))| *p > 0.0) {
                let ds = round(round(p * round(dots[key] - mean)) * slope);
                let ds = round(ds * scale);
                let (at_key, at_query) = (start + key, start + query);
                add(at_key, value_head, &mut g.clone().map(|g| p * g));
                add(at_query, head, &mut case.row(qkv, (at_key, key_head)).map(|k| ds * k));
                add(at_key, key_head, &mut case.row(qkv, (at_query, head)).map(|q| ds * q));
            }
        }
    }
    out
}

pub(super) fn inputs(case: &Case, element: Element) -> [Vec<f32>; 2] {
    let tokens = case.tokens();
    [random(3, tokens * case.cols(), element), random(4, tokens * case.heads * case.width, element)]
}

fn gradient<O: GradientOps>(ops: &O, case: &Case, [qkv, g]: [&[f32]; 2]) -> Vec<f32> {
    let (qkv, g) = (tensor(ops, case.cols(), qkv), tensor(ops, case.heads * case.width, g));
    let mut out = poisoned(ops, case.tokens(), case.cols());
    let (starts, bias) = (case.starts(), ops.vector(case.bias_values()).expect("a vector"));
    ops.attention_grad(&case.args(&starts, &bias), &qkv, &g, &mut out);
    read(ops, &mut out, case.tokens())
}

/// Holds a GPU to the definition, and in f32 the processor.
fn check(element: Element, case: &Case) {
    if element == Element::F32 {
        hold(&CpuDevice::F32, element, case);
    }
    if let Some(gpu) = device(element) {
        hold(&gpu, element, case);
    }
}

fn hold<O: GradientOps>(ops: &O, element: Element, case: &Case) {
    let [qkv, g] = inputs(case, element);
    let ours = gradient(ops, case, [&qkv, &g]);
    let exact = by_definition(case, &qkv, &g, |x| x);
    let single = by_definition(case, &qkv, &g, |x| f64::from(x as f32));
    judge((element, case), &ours, [&exact, &single]);
}

/// Holds queries, keys and values each to the definition, in f64 and in f32.
pub(super) fn judge((element, case): (Element, &Case), ours: &[f32], wanted: [&[f64]; 2]) {
    let ours: Vec<f64> = ours.iter().map(|&x| f64::from(x)).collect();
    let half_unit = if element == Element::Bf16 { HALF_UNIT } else { 0.0 };
    assert_eq!(ours.len(), wanted[0].len());
    let ends = [case.heads, case.heads + case.kv_heads, case.heads + 2 * case.kv_heads];
    let part = |i: usize| ends.iter().position(|end| i % case.cols() < end * case.width);
    for (which, name) in ["query", "key", "value"].into_iter().enumerate() {
        let of_part = |values: &[f64]| -> Vec<f64> {
            let inside = values.iter().enumerate().filter(|(i, _)| part(*i) == Some(which));
            inside.map(|(_, x)| *x).collect()
        };
        let [exact, single] = wanted.map(of_part);
        let most = bound(&single, &exact);
        for (i, (ours, want)) in of_part(&ours).iter().zip(&exact).enumerate() {
            let error = (ours - want).abs();
            assert!(
                error <= most + half_unit * want.abs(),
                "{element:?} {case:?}: {name} {i} is {ours:e}, not {want:e} (bound {most:.1e})"
            );
        }
    }
}

#[test]
fn sequences_of_every_length_are_taken_back_alone() {
    for element in ELEMENTS {
        check(element, &plain(&LENGTHS, (3, 3, 64)));
        check(element, &Case { causal: false, ..plain(&LENGTHS, (4, 2, 32)) });
    }
}

#[test]
fn every_head_width_is_served() {
    for element in ELEMENTS {
        for width in [1, 4, 5, 8, 20, 32, 64, 72, 80, 128, 136, 160, 250, 256] {
            check(element, &plain(&[3, 70], (3, 1, width)));
        }
        check(element, &Case { causal: false, ..plain(&[1, 130], (2, 1, 256)) });
    }
}

#[test]
fn a_window_hides_what_is_far_behind() {
    for element in ELEMENTS {
        for window in [1, 2, 64, 65, 130, 1000] {
            for causal in [true, false] {
                let case = plain(&[1, 40, 200], (2, 1, 16));
                check(element, &Case { window: Some(window), causal, ..case });
            }
        }
    }
}

#[test]
fn scores_are_capped_and_biased() {
    for element in ELEMENTS {
        for bias in [Bias::None, Bias::Slopes, Bias::Distance] {
            for (softcap, causal) in [(None, true), (None, false), (Some(2.0), true)] {
                let case = plain(&[1, 30, 140], (4, 2, 16));
                check(element, &Case { softcap, causal, bias, ..case });
            }
        }
        let all = Case { softcap: Some(5.0), window: Some(80), ..plain(&[90, 7], (2, 2, 80)) };
        check(element, &Case { scale: 1.0, bias: Bias::Distance, ..all });
        // A scale that turns the order of the scores.
        check(element, &Case { scale: -0.5, ..plain(&[70], (2, 2, 24)) });
    }
}

#[test]
fn a_sequence_has_the_same_bits_in_any_company() {
    let cases = [
        plain(&LENGTHS, (2, 1, 64)),
        Case { causal: false, bias: Bias::Slopes, ..plain(&LENGTHS, (2, 2, 20)) },
        Case { window: Some(33), ..plain(&[65, 130], (4, 2, 160)) },
    ];
    for element in ELEMENTS {
        let Some(gpu) = device(element) else { return };
        for case in &cases {
            let [qkv, g] = inputs(case, element);
            let all = gradient(&gpu, case, [&qkv, &g]);
            let mut token = 0;
            for &n in &case.lengths {
                let alone = Case { lengths: vec![n], ..case.clone() };
                let of = |cols: usize| token * cols..(token + n) * cols;
                let (cells, heads) = (of(case.cols()), of(case.heads * case.width));
                let one = gradient(&gpu, &alone, [&qkv[cells.clone()], &g[heads]]);
                assert_bits(&one, &all[cells], "gradient");
                token += n;
            }
        }
    }
}

#[test]
fn a_value_that_is_no_number_stays_in_its_sequence() {
    for element in ELEMENTS {
        let Some(gpu) = device(element) else { return };
        let case = plain(&[65, 65], (1, 1, 64));
        let [mut qkv, g] = inputs(&case, element);
        qkv[64 * case.cols() + 70] = f32::NAN;
        let ours = gradient(&gpu, &case, [&qkv, &g]);
        let (first, second) = ours.split_at(65 * case.cols());
        assert!(first[64 * case.cols()..].iter().any(|x| x.is_nan()));
        assert!(second.iter().all(|x| x.is_finite()));
    }
}
