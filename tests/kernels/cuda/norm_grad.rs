//! Gradients through norms of rows and of heads.
//! Oracle: the derivative in f64. Bound in f32: twice the error of the CPU device, and no less than
//! eight roundings of the largest value.

use electrode::device::cpu::CpuDevice;
use electrode::device::cuda::Element;
use electrode::device::gradient_ops::GradientOps;
use electrode::device::ops::{HeadRange, NormWeights};
use electrode::model::{NormKind, NormSpec};

use super::rows::{SHAPES, assert_bits, assert_near, random, read, tensor};
use crate::cuda::on_both;

const LAYER: NormSpec = NormSpec { kind: NormKind::Layer, eps: 1e-5, plus_one: false };
const GEMMA: NormSpec = NormSpec { kind: NormKind::Rms, eps: 1e-6, plus_one: true };

fn weights<O: GradientOps>(ops: &O, spec: NormSpec, cols: usize) -> NormWeights<O::Vector> {
    let vector = |seed| ops.vector(random(seed, cols, Element::F32)).unwrap();
    let bias = (spec.kind == NormKind::Layer).then(|| vector(8));
    NormWeights { spec, weight: vector(7), bias }
}

fn by_definition(spec: NormSpec, x: &[f32], g: &[f32], cols: usize) -> Vec<f64> {
    let (weight, n) = (random(7, cols, Element::F32), cols as f64);
    let layer = spec.kind == NormKind::Layer;
    let mut out = Vec::new();
    for (x, g) in x.chunks_exact(cols).zip(g.chunks_exact(cols)) {
        let x: Vec<f64> = x.iter().map(|&x| f64::from(x)).collect();
        let mean = if layer { x.iter().sum::<f64>() / n } else { 0.0 };
        let variance = x.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / n;
        let inverse = 1.0 / (variance + f64::from(spec.eps)).sqrt();
        let plus = if spec.plus_one { 1.0 } else { 0.0 };
        let u = |i: usize| f64::from(g[i]) * (f64::from(weight[i]) + plus);
        let normed = |i: usize| (x[i] - mean) * inverse;
        let flat = if layer { (0..cols).map(u).sum::<f64>() / n } else { 0.0 };
        let along = (0..cols).map(|i| u(i) * normed(i)).sum::<f64>() / n;
        out.extend((0..cols).map(|i| (u(i) - flat - normed(i) * along) * inverse));
    }
    out
}

/// Twice the error of the CPU device, or of a few roundings.
fn bound(cpu: &[f32], want: &[f64]) -> f64 {
    let error = cpu.iter().zip(want).map(|(x, want)| (f64::from(*x) - want).abs());
    let largest = want.iter().fold(0.0, |most: f64, x| most.max(x.abs()));
    2.0 * error.fold(4.0 * f64::from(f32::EPSILON) * largest, f64::max)
}

fn gradient<O: GradientOps>(ops: &O, spec: NormSpec, cols: usize, [x, g]: [&[f32]; 2]) -> Vec<f32> {
    let mut out = tensor(ops, cols, g);
    ops.norm_grad(&weights(ops, spec, cols), &tensor(ops, cols, x), &mut out);
    read(ops, &mut out, g.len() / cols)
}

#[test]
fn rows_are_taken_back_as_defined() {
    on_both(|gpu, element| {
        // The last two are more than a block holds.
        for (rows, cols) in SHAPES.into_iter().chain([(2, 9000), (1, 8209)]) {
            let (x, g) = (random(1, rows * cols, element), random(2, rows * cols, element));
            for spec in [LAYER, GEMMA] {
                let ours = gradient(gpu, spec, cols, [&x, &g]);
                let cpu = gradient(&CpuDevice::F32, spec, cols, [&x, &g]);
                let want = by_definition(spec, &x, &g, cols);
                // A single column normed is 0 whatever it was: what is left is rounding.
                let scale = if cols == 1 && spec.kind == NormKind::Layer { 1e-3 } else { 0.0 };
                let bound = bound(&cpu, &want) + scale;
                let what = format!("{:?} {element:?} [{rows}, {cols}]", spec.kind);
                assert_near(&ours, want.into_iter().map(|x| (x, bound)), (element, &what));
            }
        }
    });
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
fn heads_are_taken_back_in_place() {
    let ranges = [(0, 3, 8), (5, 2, 7), (8, 4, 64), (16, 1, 80), (0, 5, 128), (8, 3, 100)];
    on_both(|gpu, element| {
        for (first, heads, width) in ranges {
            let range = HeadRange { first, heads, width };
            let (rows, cols) = (19, first + heads * width + 11);
            let (x, before) = (random(3, rows * cols, element), random(4, rows * cols, element));
            let mut g = tensor(gpu, cols, &before);
            let norm = weights(gpu, GEMMA, width);
            gpu.head_norm_grad(&norm, range, &tensor(gpu, cols, &x), &mut g);
            let [ours, outside] = split(&read(gpu, &mut g, rows), cols, range);
            let mut g = tensor(&CpuDevice::F32, cols, &before);
            let norm = weights(&CpuDevice::F32, GEMMA, width);
            CpuDevice::F32.head_norm_grad(&norm, range, &tensor(&CpuDevice::F32, cols, &x), &mut g);
            let [cpu, _] = split(&read(&CpuDevice::F32, &mut g, rows), cols, range);
            let [x, _] = split(&x, cols, range);
            let [before, untouched] = split(&before, cols, range);
            let want = by_definition(GEMMA, &x, &before, width);
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
        for cols in [24, 100, 771, 1500] {
            let (x, g) = (random(4, 21 * cols, element), random(5, 21 * cols, element));
            let all = gradient(gpu, LAYER, cols, [&x, &g]);
            for row in [0, 7, 20] {
                let part = row * cols..(row + 1) * cols;
                let alone = gradient(gpu, LAYER, cols, [&x[part.clone()], &g[part.clone()]]);
                assert_bits(&alone, &all[part], &format!("row {row} of {cols}"));
            }
        }
    });
}
