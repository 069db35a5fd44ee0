//! Attention over packed sequences: every option, widths of every path, and probabilities.
//! Oracle: the definition in f64. Bound: twice the error of the definition in f32 (and no less than
//! four roundings of the largest value); in bf16, besides, half a unit of each weight, where the
//! weights are rounded for the matrix units, and of the result.

use electrode::device::cuda::Element;
use electrode::device::ops::{AttentionArgs, Ops, ScoreBias};

use super::rows::{assert_bits, poisoned, poisoned_cells, random, read, tensor};
use crate::cuda::device;

const ELEMENTS: [Element; 2] = [Element::F32, Element::Bf16];

/// A sequence of one token, of two, around a tile of keys and of queries, and of several tiles.
const LENGTHS: [usize; 7] = [1, 2, 63, 64, 65, 130, 200];
/// Half a unit in the last place of bf16, relative.
const HALF_UNIT: f64 = 1.0 / 256.0;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Bias {
    None,
    Slopes,
    Distance,
}

#[derive(Clone, Debug)]
struct Case {
    lengths: Vec<usize>,
    heads: usize,
    kv_heads: usize,
    width: usize,
    scale: f32,
    softcap: Option<f32>,
    causal: bool,
    window: Option<usize>,
    bias: Bias,
}

/// Causal, all else off.
fn plain(lengths: &[usize], (heads, kv_heads, width): (usize, usize, usize)) -> Case {
    Case {
        lengths: lengths.to_vec(),
        heads,
        kv_heads,
        width,
        scale: 1.0 / (width as f32).sqrt(),
        softcap: None,
        causal: true,
        window: None,
        bias: Bias::None,
    }
}

impl Case {
    fn starts(&self) -> Vec<u32> {
        let mut end = 0;
        let ends = self.lengths.iter().map(|length| {
            end += *length as u32;
            end
        });
        std::iter::once(0).chain(ends.collect::<Vec<_>>()).collect()
    }

    fn tokens(&self) -> usize {
        self.lengths.iter().sum()
    }

    fn cols(&self) -> usize {
        (self.heads + 2 * self.kv_heads) * self.width
    }

    fn cells(&self) -> usize {
        self.lengths.iter().map(|length| self.heads * length * length).sum()
    }

    fn reach(&self) -> usize {
        self.lengths.iter().max().map_or(0, |length| length - 1)
    }

    /// The vector behind the bias.
    fn bias_values(&self) -> Vec<f32> {
        match self.bias {
            Bias::None => vec![0.0],
            Bias::Slopes => (0..self.heads).map(|h| 0.5_f32.powi(h as i32 + 1)).collect(),
            Bias::Distance => random(5, self.heads * (2 * self.reach() + 1), Element::F32),
        }
    }

    fn sees(&self, query: usize, key: usize) -> bool {
        (!self.causal || key <= query) && self.window.is_none_or(|window| key + window > query)
    }

    /// Whether the matrix units do it: weights are then rounded to bf16.
    fn rounds_weights(&self, element: Element) -> bool {
        element == Element::Bf16 && self.width.is_multiple_of(8)
    }
}

/// What attention gives.
#[derive(Default)]
struct Outcome {
    z: Vec<f64>,
    probs: Vec<f64>,
    /// Each value of `z` with the absolute values of v: how much a relative error of the weights does.
    spread: Vec<f64>,
}

/// The definition; `round` is what becomes of every intermediate result.
fn by_definition(case: &Case, qkv: &[f32], round: fn(f64) -> f64) -> Outcome {
    let (d, bias) = (case.width, case.bias_values());
    let mut outcome = Outcome::default();
    outcome.z.resize(case.tokens() * case.heads * d, 0.0);
    outcome.spread.clone_from(&outcome.z);
    let starts = case.starts();
    for (start, &n) in starts.iter().zip(&case.lengths) {
        let row = |token: usize, head: usize| {
            let at = (*start as usize + token) * case.cols() + head * d;
            qkv[at..at + d].iter().map(|x| f64::from(*x))
        };
        for head in 0..case.heads {
            let kv = head * case.kv_heads / case.heads;
            for query in 0..n {
                let mut scores = vec![f64::NEG_INFINITY; n];
                for key in (0..n).filter(|key| case.sees(query, *key)) {
                    let terms = row(query, head).zip(row(key, case.heads + kv));
                    let dot = terms.fold(0.0, |sum, (q, k)| round(sum + round(q * k)));
                    let mut score = round(dot * f64::from(case.scale));
                    if let Some(cap) = case.softcap.map(f64::from) {
                        score = round(cap * round(round(score / cap).tanh()));
                    }
                    score += match case.bias {
                        Bias::None => 0.0,
                        Bias::Slopes => round(f64::from(bias[head]) * key as f64),
                        Bias::Distance => {
                            let reach = case.reach();
                            f64::from(bias[head * (2 * reach + 1) + key + reach - query])
                        }
                    };
                    scores[key] = round(score);
                }
                let largest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                let weights: Vec<f64> =
                    scores.iter().map(|score| round(round(score - largest).exp())).collect();
                let total = weights.iter().fold(0.0, |sum, weight| round(sum + weight));
                let at = (*start as usize + query) * case.heads * d + head * d;
                for (key, weight) in weights.iter().enumerate() {
                    let p = round(weight / total);
                    outcome.probs.push(p);
                    for (i, v) in row(key, case.heads + case.kv_heads + kv).enumerate() {
                        let z = &mut outcome.z[at + i];
                        *z = round(*z + round(p * v));
                        outcome.spread[at + i] += p * v.abs();
                    }
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
    let args = AttentionArgs {
        starts: &starts,
        heads: case.heads,
        kv_heads: case.kv_heads,
        head_width: case.width,
        scale: case.scale,
        softcap: case.softcap,
        causal: case.causal,
        window: case.window,
        bias: match case.bias {
            Bias::None => ScoreBias::None,
            Bias::Slopes => ScoreBias::Slopes(&bias),
            Bias::Distance => ScoreBias::Distance { table: &bias, reach: case.reach() },
        },
    };
    ops.attention(&args, &qkv, &mut z, Some(&mut probs));
    [read(ops, &mut z, case.tokens()), read(ops, &mut probs, case.cells())]
}

/// Twice the largest error of f32, or of four roundings.
fn bound(single: &[f64], exact: &[f64]) -> f64 {
    let errors = single.iter().zip(exact).map(|(single, exact)| (single - exact).abs());
    let largest = exact.iter().fold(0.0, |most: f64, x| most.max(x.abs()));
    2.0 * errors.fold(4.0 * f64::from(f32::EPSILON) * largest, f64::max)
}

fn check(element: Element, case: &Case) {
    let Some(gpu) = device(element) else { return };
    let qkv = random(3, case.tokens() * case.cols(), element);
    let [z, probs] = attend(&gpu, case, &qkv);
    let exact = by_definition(case, &qkv, |x| x);
    let single = by_definition(case, &qkv, |x| f64::from(x as f32));
    let half_unit = if element == Element::Bf16 { HALF_UNIT } else { 0.0 };
    let weights = if case.rounds_weights(element) { HALF_UNIT } else { 0.0 };

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
    for element in ELEMENTS {
        let Some(gpu) = device(element) else { return };
        for case in &cases {
            let qkv = random(9, case.tokens() * case.cols(), element);
            let [z, probs] = attend(&gpu, case, &qkv);
            let (mut token, mut cell) = (0, 0);
            for &n in &case.lengths {
                let alone = Case { lengths: vec![n], ..case.clone() };
                let part = &qkv[token * case.cols()..][..n * case.cols()];
                let [z_alone, probs_alone] = attend(&gpu, &alone, part);
                let cols = case.heads * case.width;
                assert_bits(&z[token * cols..][..n * cols], &z_alone, "z");
                assert_bits(&probs[cell..][..alone.cells()], &probs_alone, "probabilities");
                (token, cell) = (token + n, cell + alone.cells());
            }
        }
    }
}

#[test]
fn a_value_that_is_no_number_stays_in_its_sequence() {
    for element in ELEMENTS {
        let Some(gpu) = device(element) else { return };
        let case = plain(&[65, 65], (1, 1, 64));
        let mut qkv = random(4, case.tokens() * case.cols(), element);
        qkv[64 * case.cols() + 70] = f32::NAN;
        let [z, _] = attend(&gpu, &case, &qkv);
        // The last query of the first sequence sees the last key, and nobody else has to.
        assert!(z[64 * 64..65 * 64].iter().all(|x| x.is_nan()));
        assert!(z[65 * 64..].iter().all(|x| x.is_finite()));
    }
}
