//! Norms of rows, of sums of rows, and of heads in place.
//! Oracle: the definition in f64. Bound in f32: twice the error of the CPU device, and no less than
//! eight roundings of the largest value.

use electrode::device::cpu::CpuDevice;
use electrode::device::cuda::Element;
use electrode::device::ops::{HeadRange, NormWeights, Ops};
use electrode::model::{NormKind, NormSpec};

use super::rows::{SHAPES, assert_bits, assert_near, poisoned, random, read, tensor};
use crate::cuda::{device, on_both};

const LAYER: NormSpec = NormSpec { kind: NormKind::Layer, eps: 1e-5, plus_one: false };
const GEMMA: NormSpec = NormSpec { kind: NormKind::Rms, eps: 1e-6, plus_one: true };

fn weights<O: Ops>(ops: &O, spec: NormSpec, cols: usize) -> NormWeights<O::Vector> {
    let vector = |seed| ops.vector(random(seed, cols, Element::F32)).unwrap();
    let bias = (spec.kind == NormKind::Layer).then(|| vector(8));
    NormWeights { spec, weight: vector(7), bias }
}

fn by_definition(spec: NormSpec, runs: &[f64], cols: usize) -> Vec<f64> {
    let (weight, bias) = (random(7, cols, Element::F32), random(8, cols, Element::F32));
    let mut out = Vec::new();
    for run in runs.chunks_exact(cols) {
        let layer = spec.kind == NormKind::Layer;
        let mean = if layer { run.iter().sum::<f64>() / cols as f64 } else { 0.0 };
        let variance = run.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / cols as f64;
        let inverse = 1.0 / (variance + f64::from(spec.eps)).sqrt();
        for (i, x) in run.iter().enumerate() {
            let factor = f64::from(weight[i]) + if spec.plus_one { 1.0 } else { 0.0 };
            let shift = if layer { f64::from(bias[i]) } else { 0.0 };
            out.push((x - mean) * inverse * factor + shift);
        }
    }
    out
}

/// Twice the error of the CPU device, or of a few roundings.
fn bound(cpu: &[f32], want: &[f64]) -> f64 {
    let error = cpu.iter().zip(want).map(|(x, want)| (f64::from(*x) - want).abs());
    let largest = want.iter().fold(0.0, |most: f64, x| most.max(x.abs()));
    2.0 * error.fold(4.0 * f64::from(f32::EPSILON) * largest, f64::max)
}

fn normed<O: Ops>(ops: &O, spec: NormSpec, cols: usize, values: [&[f32]; 2]) -> [Vec<f32>; 2] {
    let (rows, norm) = (values[0].len() / cols, weights(ops, spec, cols));
    let (x, y) = (tensor(ops, cols, values[0]), tensor(ops, cols, values[1]));
    let (mut out, mut sum) = (poisoned(ops, rows, cols), poisoned(ops, rows, cols));
    ops.norm(&norm, &x, &mut out);
    ops.add_norm(&norm, &x, &y, &mut sum);
    [read(ops, &mut out, rows), read(ops, &mut sum, rows)]
}

#[test]
fn rows_are_normed_as_defined() {
    on_both(|gpu, element| {
        // The last two are more than a block holds.
        for (rows, cols) in SHAPES.into_iter().chain([(2, 9000), (1, 8209)]) {
            let (a, b) = (random(1, rows * cols, element), random(2, rows * cols, element));
            for spec in [LAYER, GEMMA] {
                let ours = normed(gpu, spec, cols, [&a, &b]);
                let cpu = normed(&CpuDevice::F32, spec, cols, [&a, &b]);
                let alone: Vec<f64> = a.iter().map(|&x| f64::from(x)).collect();
                let sum: Vec<f64> = alone.iter().zip(&b).map(|(x, y)| x + f64::from(*y)).collect();
                for (i, input) in [alone, sum].iter().enumerate() {
                    let want = by_definition(spec, input, cols);
                    let bound = bound(&cpu[i], &want);
                    let what = format!("{:?} {element:?} [{rows}, {cols}]", spec.kind);
                    assert_near(&ours[i], want.into_iter().map(|x| (x, bound)), (element, &what));
                }
            }
        }
    });
}

#[test]
fn a_large_mean_does_not_cancel() {
    let Some(gpu) = device(Element::F32) else { return };
    for cols in [96, 768, 4096] {
        let values: Vec<f32> = random(1, 4 * cols, Element::F32).iter().map(|x| x + 3e4).collect();
        let [ours, _] = normed(&gpu, LAYER, cols, [&values, &values]);
        let [cpu, _] = normed(&CpuDevice::F32, LAYER, cols, [&values, &values]);
        let exact: Vec<f64> = values.iter().map(|&x| f64::from(x)).collect();
        let want = by_definition(LAYER, &exact, cols);
        let bound = bound(&cpu, &want);
        assert!(bound < 0.1, "the oracle's own error is small");
        assert_near(&ours, want.into_iter().map(|x| (x, bound)), (Element::F32, "large mean"));
    }
}

/// The values inside the heads, and those outside.
fn split(values: &[f32], cols: usize, range: HeadRange) -> [Vec<f32>; 2] {
    let columns = range.first..range.first + range.heads * range.width;
    [true, false].map(|part| {
        let of_part = |(i, _): &(usize, &f32)| columns.contains(&(i % cols)) == part;
        values.iter().enumerate().filter(of_part).map(|(_, x)| *x).collect()
    })
}

#[test]
fn heads_are_normed_in_place() {
    let ranges = [(0, 3, 8), (5, 2, 7), (8, 4, 64), (16, 1, 80), (0, 5, 128), (8, 3, 100)];
    on_both(|gpu, element| {
        for (first, heads, width) in ranges {
            let range = HeadRange { first, heads, width };
            let (rows, cols) = (19, first + heads * width + 11);
            let values = random(3, rows * cols, element);
            let mut x = tensor(gpu, cols, &values);
            gpu.head_norm(&weights(gpu, GEMMA, width), range, &mut x);
            let [ours, outside] = split(&read(gpu, &mut x, rows), cols, range);
            let mut x = tensor(&CpuDevice::F32, cols, &values);
            CpuDevice::F32.head_norm(&weights(&CpuDevice::F32, GEMMA, width), range, &mut x);
            let [cpu, _] = split(&read(&CpuDevice::F32, &mut x, rows), cols, range);
            let [inside, untouched] = split(&values, cols, range);
            let exact: Vec<f64> = inside.iter().map(|&x| f64::from(x)).collect();
            let want = by_definition(GEMMA, &exact, width);
            let bound = bound(&cpu, &want);
            let what = format!("{element:?} {range:?}");
            assert_near(&ours, want.into_iter().map(|x| (x, bound)), (element, &what));
            assert_bits(&outside, &untouched, &what);
        }
    });
}

#[test]
fn a_row_does_not_depend_on_the_others() {
    on_both(|gpu, element| {
        for cols in [24, 100, 768, 1500] {
            let values = random(4, 21 * cols, element);
            let [all, _] = normed(gpu, LAYER, cols, [&values, &values]);
            for row in [0, 7, 20] {
                let part = &values[row * cols..][..cols];
                let [alone, _] = normed(gpu, LAYER, cols, [part, part]);
                assert_bits(&alone, &all[row * cols..][..cols], &format!("row {row} of {cols}"));
            }
        }
    });
}
