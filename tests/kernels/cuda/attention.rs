//! Attention over packed sequences: every option, widths of every path, and probabilities; the processor's
//! too.
//! Oracle: the definition in f64. Bound: twice the error of the definition in f32 (and no less than
//! four roundings of the largest value); in bf16, besides, half a unit of each weight, where the
//! weights are rounded for the matrix units, and of the result.

use electrode::device::cpu::CpuDevice;
use electrode::device::cuda::Element;
use electrode::device::ops::Ops;

use super::attention_case::{Bias, Case, HALF_UNIT, LENGTHS, bound, plain};
use super::rows::{assert_bits, poisoned, poisoned_cells, random, read, tensor};
use crate::cuda::device;

const ELEMENTS: [Element; 2] = [Element::F32, Element::Bf16];

/// Whether the matrix units do it: weights are then rounded to bf16.
fn rounds_weights(case: &Case, element: Element) -> bool {
    element == Element::Bf16 && case.width.is_multiple_of(8)
}

/// What attention gives.
#[derive(Default)]
pub(super) struct Outcome {
    pub(super) z: Vec<f64>,
    probs: Vec<f64>,
    /// Each value of `z` with the absolute values of v: how much a relative error of the weights does.
    spread: Vec<f64>,
}

/// The definition; `round` is what becomes of every intermediate result.
pub(super) fn by_definition(case: &Case, qkv: &[f32], round: fn(f64) -> f64) -> Outcome {
    let d = case.width;
    let mut outcome = Outcome::default();
    outcome.z.resize(case.tokens() * case.heads * d, 0.0);
    outcome.spread.clone_from(&outcome.z);
    for (start, &n) in case.starts().iter().zip(&case.lengths) {
        let start = *start as usize;
        for (head, query) in (0..case.heads).flat_map(|h| (0..n).map(move |query| (h, query))) {
            let value_head = case.heads + case.kv_heads + head * case.kv_heads / case.heads;
            let at = (start + query) * case.heads * d + head * d;
            let probs = case.probabilities(qkv, (start, n), (head, query), round);
            for (key, (p, _)) in probs.into_iter().enumerate() {
                outcome.probs.push(p);
                for (i, v) in case.row(qkv, (start + key, value_head)).enumerate() {
                    let z = &mut outcome.z[at + i];
                    *z = round(*z + round(p * v));
                    outcome.spread[at + i] += p * v.abs();
                }
            }
        }
    }
    outcome
}

fn attend<O: Ops>(ops: &O, case: &Case, qkv: &[f32]) -> [Vec<f32>; 2] {
    let qkv = tensor(ops, case.cols(), qkv);
    let mut z = poisoned(ops, case.tokens(), case.heads * case.width);
    let mut probs = poisoned_cells(ops, case.cells());
    let (starts, bias) = (case.starts(), ops.vector(case.bias_values()).expect("a vector"));
    let args = case.args(&starts, &bias);
    ops.attention(&args, &qkv, &mut z, Some(&mut probs));
    [read(ops, &mut z, case.tokens()), read(ops, &mut probs, case.cells())]
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

fn hold<O: Ops>(ops: &O, element: Element, case: &Case) {
    let qkv = random(3, case.tokens() * case.cols(), element);
    let [z, probs] = attend(ops, case, &qkv);
    let exact = by_definition(case, &qkv, |x| x);
    let single = by_definition(case, &qkv, |x| f64::from(x as f32));
    let half_unit = if element == Element::Bf16 { HALF_UNIT } else { 0.0 };
    let weights = if rounds_weights(case, element) { HALF_UNIT } else { 0.0 };

    let most = bound(&single.z, &exact.z);
    assert_eq!(z.len(), exact.z.len());
    for (i, (ours, want)) in z.iter().zip(&exact.z).enumerate() {
        let error = (f64::from(*ours) - want).abs();
        let bound = most + half_unit * want.abs() + weights * exact.spread[i];
        assert!(error <= bound, "{element:?} {case:?}: z {i} is {ours:e}, not {want:e}");
    }
    let most = bound(&single.probs, &exact.probs);
    assert_eq!(probs.len(), exact.probs.len());
    for (i, (ours, want)) in probs.iter().zip(&exact.probs).enumerate() {
        let error = (f64::from(*ours) - want).abs();
        let is_hidden_zero = *want != 0.0 || *ours == 0.0;
        let bound = most + half_unit * want;
        assert!(
            error <= bound && is_hidden_zero,
            "{element:?} {case:?}: probability {i} is {ours:e}, not {want:e}"
        );
    }
}

#[test]
fn sequences_of_every_length_are_attended_alone() {
    for element in ELEMENTS {
        check(element, &plain(&LENGTHS, (3, 3, 64)));
        check(element, &Case { causal: false, ..plain(&LENGTHS, (4, 2, 64)) });
        check(element, &Case { causal: false, ..plain(&[129, 1, 257], (2, 1, 32)) });
    }
}

#[test]
fn every_head_width_has_a_kernel() {
    let wide = [1, 4, 5, 8, 12, 16, 20, 32, 40, 48, 64, 72, 80, 88, 96, 112, 128, 160, 250, 256];
    for element in ELEMENTS {
        for width in wide {
            check(element, &plain(&[3, 70], (3, 1, width)));
        }
        for width in [20, 80, 128, 256] {
            check(element, &Case { causal: false, ..plain(&[1, 150], (2, 1, width)) });
        }
    }
}

#[test]
fn a_window_hides_what_is_far_behind() {
    for element in ELEMENTS {
        for window in [1, 2, 16, 64, 65, 130, 1000] {
            for causal in [true, false] {
                let case = plain(&[1, 40, 200], (2, 1, 32));
                check(element, &Case { window: Some(window), causal, ..case });
            }
        }
        check(element, &Case { window: Some(70), ..plain(&[300], (1, 1, 256)) });
    }
}

#[test]
fn scores_are_capped_and_biased() {
    for element in ELEMENTS {
        for bias in [Bias::None, Bias::Slopes, Bias::Distance] {
            for (softcap, causal) in [(None, true), (None, false), (Some(2.0), true)] {
                let case = plain(&[1, 30, 140], (4, 2, 32));
                check(element, &Case { softcap, causal, bias, ..case });
            }
        }
        // All at once, at the widths of the other shapes of tile.
        for width in [20, 64, 80, 96, 128, 256] {
            let case =
                Case { softcap: Some(5.0), window: Some(80), ..plain(&[90, 7], (2, 2, width)) };
            check(element, &Case { scale: 1.0, bias: Bias::Distance, ..case });
        }
        // A scale that turns the order of the scores.
        check(element, &Case { scale: -0.5, ..plain(&[70], (2, 2, 64)) });
    }
}

#[test]
fn a_sequence_has_the_same_bits_in_any_company() {
    let cases = [
        plain(&LENGTHS, (2, 1, 64)),
        Case { causal: false, bias: Bias::Slopes, ..plain(&LENGTHS, (2, 2, 32)) },
        Case { window: Some(33), ..plain(&[65, 130], (1, 1, 20)) },
    ];
    for case in &cases {
        has_bits_alone(&CpuDevice::F32, Element::F32, case);
        for element in ELEMENTS {
            let Some(gpu) = device(element) else { return };
            has_bits_alone(&gpu, element, case);
        }
    }
}

fn has_bits_alone<O: Ops>(ops: &O, element: Element, case: &Case) {
    let qkv = random(9, case.tokens() * case.cols(), element);
    let [z, probs] = attend(ops, case, &qkv);
    let (mut token, mut cell) = (0, 0);
    for &n in &case.lengths {
        let alone = Case { lengths: vec![n], ..case.clone() };
        let part = &qkv[token * case.cols()..][..n * case.cols()];
        let [z_alone, probs_alone] = attend(ops, &alone, part);
        let cols = case.heads * case.width;
        assert_bits(&z[token * cols..][..n * cols], &z_alone, "z");
        assert_bits(&probs[cell..][..alone.cells()], &probs_alone, "probabilities");
        (token, cell) = (token + n, cell + alone.cells());
    }
}

/// More queries than share a packing of their keys, on the processor.
#[test]
fn the_processor_takes_long_sequences_in_runs() {
    for causal in [true, false] {
        for (window, bias) in [(None, Bias::Slopes), (Some(100), Bias::None)] {
            let case = plain(&[256, 257, 530], (2, 1, 20));
            let case = Case { causal, window, bias, ..case };
            hold(&CpuDevice::F32, Element::F32, &case);
            has_bits_alone(&CpuDevice::F32, Element::F32, &case);
        }
    }
}

#[test]
fn a_value_that_is_no_number_stays_in_its_sequence() {
    keeps_apart(&CpuDevice::F32, Element::F32);
    for element in ELEMENTS {
        let Some(gpu) = device(element) else { return };
        keeps_apart(&gpu, element);
    }
}

fn keeps_apart<O: Ops>(ops: &O, element: Element) {
    let case = plain(&[65, 65], (1, 1, 64));
    let mut qkv = random(4, case.tokens() * case.cols(), element);
    qkv[64 * case.cols() + 70] = f32::NAN;
    let [z, _] = attend(ops, &case, &qkv);
    // The last query of the first sequence sees the last key, and nobody else has to.
    assert!(z[64 * 64..65 * 64].iter().all(|x| x.is_nan()));
    assert!(z[65 * 64..].iter().all(|x| x.is_finite()));
}
