//! Attention of sequences that go on from a past, and its gradient.
//! Oracle: the definitions of `attention.rs` and `attention_grad.rs` over the whole sequences, with no
//! gradient at the past's queries. Bounds: theirs.

use electrode::device::cpu::CpuDevice;
use electrode::device::cuda::Element;
use electrode::device::gradient_ops::GradientOps;
use electrode::device::ops::{AttentionArgs, Ops};
use electrode::device::suffix_ops::{Past, SuffixOps};

use super::attention_case::{Bias, Case, HALF_UNIT, bound, plain};
use super::rows::{assert_bits, assert_refused, poisoned, random, read, tensor};
use super::{attention, attention_grad};
use crate::cuda::device;

const ELEMENTS: [Element; 2] = [Element::F32, Element::Bf16];

/// Whole sequences, and how many tokens of each are past.
struct Cut {
    case: Case,
    pasts: Vec<usize>,
    qkv: Vec<f32>,
    /// 0 at the past's queries.
    g: Vec<f32>,
    /// Tokens that are past, and those that are not.
    old: Vec<u32>,
    new: Vec<u32>,
}

fn cut(case: Case, pasts: &[usize], element: Element) -> Cut {
    let [mut qkv, mut g] = attention_grad::inputs(&case, element);
    let (mut old, mut new) = (Vec::new(), Vec::new());
    let (cols, heads) = (case.cols(), case.heads * case.width);
    for ((&start, &n), &past) in case.starts().iter().zip(&case.lengths).zip(pasts) {
        let middle = start + past as u32;
        old.extend(start..middle);
        new.extend(middle..start + n as u32);
        g[start as usize * heads..middle as usize * heads].fill(0.0);
    }
    if shared(pasts) {
        let second = case.lengths[0] * cols;
        qkv.copy_within(..pasts[0] * cols, second);
    }
    Cut { case, pasts: pasts.to_vec(), qkv, g, old, new }
}

/// Two sequences of one past.
fn shared(pasts: &[usize]) -> bool {
    pasts.len() == 2 && pasts[0] == pasts[1]
}

fn picked<T: Copy>(values: &[T], cols: usize, rows: &[u32]) -> Vec<T> {
    rows.iter().flat_map(|&row| values[row as usize * cols..][..cols].to_vec()).collect()
}

impl Cut {
    /// Results of the tokens that are not past, and the gradient of their queries, keys and values.
    fn run<O: SuffixOps>(&self, gpu: &O) -> [Vec<f32>; 2] {
        let Self { case, pasts, .. } = self;
        let (cols, heads, n) = (case.cols(), case.heads * case.width, self.new.len());
        // Rows 3 and up of the past are used.
        let kv_cols = 2 * case.kv_heads * case.width;
        let mut kv = poisoned(gpu, self.old.len() + 4, kv_cols);
        let rows: Vec<u32> = (3..).take(self.old.len()).collect();
        gpu.store_past(&tensor(gpu, cols, &self.qkv), &self.old, &rows, &mut kv);
        let mut start = 3;
        let mut places: Vec<[u32; 2]> = Vec::new();
        for &past in pasts {
            places.push([start, past as u32]);
            start += past as u32;
        }
        if shared(pasts) {
            places[1] = places[0];
        }
        let own = Case {
            lengths: case.lengths.iter().zip(pasts).map(|(n, past)| n - past).collect(),
            ..case.clone()
        };
        let (starts, bias) = (own.starts(), gpu.vector(case.bias_values()).expect("a vector"));
        // The reach of a table is that of whole sequences.
        let args = AttentionArgs { starts: &starts, ..case.args(&[], &bias) };
        let past = Past { kv: &kv, rows: &places };
        let qkv = tensor(gpu, cols, &picked(&self.qkv, cols, &self.new));
        let g = tensor(gpu, heads, &picked(&self.g, heads, &self.new));
        let (mut z, mut out) = (poisoned(gpu, n, heads), poisoned(gpu, n, cols));
        gpu.attention_past(&args, past, &qkv, &mut z);
        gpu.attention_past_grad(&args, past, (&qkv, &g), &mut out);
        [read(gpu, &mut z, n), read(gpu, &mut out, n)]
    }

    /// Holds a GPU to the definitions, and in f32 the processor.
    fn check(&self, element: Element) {
        if element == Element::F32 {
            self.hold(&CpuDevice::F32, element);
        }
        if let Some(gpu) = device(element) {
            self.hold(&gpu, element);
        }
    }

    fn hold<O: SuffixOps>(&self, ops: &O, element: Element) {
        let Self { case, qkv, .. } = self;
        let [z, out] = self.run(ops);
        let rounds: [fn(f64) -> f64; 2] = [|x| x, |x| f64::from(x as f32)];
        let heads = case.heads * case.width;
        let [exact, single] = rounds
            .map(|round| picked(&attention::by_definition(case, qkv, round).z, heads, &self.new));
        let half_unit = if element == Element::Bf16 { HALF_UNIT } else { 0.0 };
        let most = bound(&single, &exact);
        for (i, (ours, want)) in z.iter().zip(&exact).enumerate() {
            let error = (f64::from(*ours) - want).abs();
            let bound = most + half_unit * want.abs();
            assert!(error <= bound, "{element:?} {case:?}: z {i} is {ours:e}, not {want:e}");
        }
        let wanted = rounds.map(|round| {
            let all = attention_grad::by_definition(case, qkv, &self.g, round);
            picked(&all, case.cols(), &self.new)
        });
        attention_grad::judge((element, case), &out, [&wanted[0], &wanted[1]]);
    }
}

#[test]
fn what_goes_on_from_a_past_is_the_end_of_the_whole() {
    for element in ELEMENTS {
        for causal in [true, false] {
            let case = |lengths: &[usize], shape| Case { causal, ..plain(lengths, shape) };
            // No past, one token, around a tile, and several; one token goes on, and several tiles.
            let lengths = [5, 2, 64, 130, 70, 200];
            cut(case(&lengths, (4, 2, 16)), &[0, 1, 63, 64, 69, 65], element).check(element);
            for width in [5, 72, 136, 256] {
                cut(case(&[40, 80], (2, 1, width)), &[30, 70], element).check(element);
            }
        }
    }
}

#[test]
fn windows_caps_and_biases_count_from_the_past() {
    for element in ELEMENTS {
        for bias in [Bias::Slopes, Bias::Distance] {
            for (window, softcap) in [(None, Some(2.0)), (Some(1), None), (Some(50), None)] {
                for causal in [true, false] {
                    let case = plain(&[30, 140], (4, 2, 16));
                    let case = Case { bias, window, softcap, causal, ..case };
                    cut(case, &[7, 90], element).check(element);
                }
            }
        }
    }
}

#[test]
fn sequences_share_a_past() {
    for element in ELEMENTS {
        cut(plain(&[80, 100], (2, 1, 32)), &[66, 66], element).check(element);
    }
}

#[test]
fn without_a_past_the_gradient_has_the_bits_of_whole_sequences() {
    for element in ELEMENTS {
        let Some(gpu) = device(element) else { return };
        let cut = cut(plain(&[65, 130], (2, 1, 32)), &[0, 0], element);
        let [_, ours] = cut.run(&gpu);
        let Cut { case, qkv, g, .. } = &cut;
        let (qkv, g) = (tensor(&gpu, case.cols(), qkv), tensor(&gpu, 64, g));
        let mut whole = poisoned(&gpu, case.tokens(), case.cols());
        let (starts, bias) = (case.starts(), gpu.vector(vec![0.0]).unwrap());
        gpu.attention_grad(&case.args(&starts, &bias), &qkv, &g, &mut whole);
        assert_bits(&ours, &read(&gpu, &mut whole, case.tokens()), "gradient");
    }
}

#[test]
fn pasts_beyond_what_is_kept_never_reach_the_kernel() {
    let Some(gpu) = device(Element::F32) else { return };
    let case = plain(&[2], (1, 1, 4));
    let (kv, qkv) = (poisoned(&gpu, 3, 8), tensor(&gpu, 12, &random(1, 24, Element::F32)));
    let mut z = poisoned(&gpu, 2, 4);
    let (starts, bias) = (case.starts(), gpu.vector(vec![0.0]).unwrap());
    let past = Past { kv: &kv, rows: &[[2, 2]] };
    assert_refused("beyond", || {
        gpu.attention_past(&case.args(&starts, &bias), past, &qkv, &mut z);
    });
    let mut kv = kv;
    assert_refused("twice", || gpu.store_past(&qkv, &[0, 1], &[1, 1], &mut kv));
    assert_refused("beyond", || gpu.store_past(&qkv, &[0, 2], &[0, 1], &mut kv));
}
