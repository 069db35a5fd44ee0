//! Products as the forward pass asks for them.
//! Oracle: the CPU device for f32; for bf16 sums in f64 of the same values; for epilogues the separate
//! operations of the same device, to the bit.

use electrode::device::cpu::CpuDevice;
use electrode::device::cuda::{CudaDevice, Element};
use electrode::device::ops::{Epilogue, Ops};
use electrode::model::Activation;

use super::rows::{assert_bits, assert_near, poisoned, random, read, tensor};
use crate::cuda::{device, on_both};

const KINDS: [Activation; 5] = [
    Activation::Relu,
    Activation::GeluErf,
    Activation::GeluTanh,
    Activation::Silu,
    Activation::Tanh,
];

/// Rows, columns, inner: heads of two classes, ends of tiles, a vocabulary's odd end, many rows, and
/// one column or two to multiply over.
const SHAPES: [(usize, usize, usize); 9] = [
    (7, 3, 5),
    (129, 257, 65),
    (19, 2, 200),
    (70, 1, 24),
    (3, 1009, 64),
    (300, 40, 33),
    (33, 70, 1),
    (140, 1, 1),
    (5, 129, 2),
];

struct Problem {
    rows: usize,
    columns: usize,
    inner: usize,
    x: Vec<f32>,
    w: Vec<f32>,
    bias: Vec<f32>,
}

fn problem((rows, columns, inner): (usize, usize, usize), element: Element) -> Problem {
    let w = random(2, columns * inner, element);
    Problem {
        rows,
        columns,
        inner,
        x: random(1, rows * inner, element),
        w,
        bias: random(3, columns, element),
    }
}

fn product<O: Ops>(ops: &O, problem: &Problem, then: Epilogue<'_, O::Tensor>) -> Vec<f32> {
    let Problem { rows, columns, inner, .. } = *problem;
    let weight = ops.matrix(columns, problem.w.clone(), Some(problem.bias.clone()));
    let x = tensor(ops, inner, &problem.x);
    let mut out = poisoned(ops, rows, columns);
    ops.linear(&weight.expect("a matrix"), &x, then, &mut out);
    read(ops, &mut out, rows)
}

#[test]
fn products_are_those_of_the_cpu() {
    for shape in SHAPES {
        let Some(gpu) = device(Element::F32) else { return };
        let problem = problem(shape, Element::F32);
        let want = product(&CpuDevice::F32, &problem, Epilogue::Store);
        let largest = want.iter().fold(0.0_f32, |a, b| a.max(b.abs()));
        let ours = product(&gpu, &problem, Epilogue::Store);
        let want = want.iter().map(|&y| (f64::from(y), 1e-6 * f64::from(largest)));
        assert_near(&ours, want, (Element::F32, &format!("{shape:?}")));
    }
}

#[test]
fn products_in_bf16_round_once() {
    for shape in SHAPES {
        let Some(gpu) = device(Element::Bf16) else { return };
        let problem = problem(shape, Element::Bf16);
        let (columns, inner) = (problem.columns, problem.inner);
        let exact = |i: usize| -> f64 {
            let x = &problem.x[i / columns * inner..][..inner];
            let w = &problem.w[i % columns * inner..][..inner];
            let sum: f64 = x.iter().zip(w).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
            sum + f64::from(problem.bias[i % columns])
        };
        let want = (0..problem.rows * columns).map(|i| (exact(i), 1e-5));
        let ours = product(&gpu, &problem, Epilogue::Store);
        assert_near(&ours, want, (Element::Bf16, &format!("{shape:?}")));
    }
}

/// The product, and then the operation by itself.
fn separately(
    gpu: &CudaDevice,
    problem: &Problem,
    then: impl Fn(&CudaDevice, &mut <CudaDevice as Ops>::Tensor),
) -> Vec<f32> {
    let mut y = tensor(gpu, problem.columns, &product(gpu, problem, Epilogue::Store));
    then(gpu, &mut y);
    read(gpu, &mut y, problem.rows)
}

#[test]
fn epilogues_give_the_bits_of_the_separate_operations() {
    on_both(|gpu, element| {
        for shape in SHAPES {
            let problem = problem(shape, element);
            let (rows, columns) = (problem.rows, problem.columns);
            let other = random(4, rows * columns, element);
            for kind in KINDS {
                let want = separately(gpu, &problem, |gpu, y| {
                    let mut out = poisoned(gpu, rows, columns);
                    gpu.activate(kind, y, &mut out);
                    std::mem::swap(y, &mut out);
                });
                let ours = product(gpu, &problem, Epilogue::Activate(kind));
                assert_bits(&ours, &want, &format!("{element:?} {shape:?} {kind:?}"));
            }
            let a = tensor(gpu, columns, &other);
            let want = separately(gpu, &problem, |gpu, y| {
                let mut out = poisoned(gpu, rows, columns);
                gpu.multiply(&a, y, &mut out);
                std::mem::swap(y, &mut out);
            });
            let ours = product(gpu, &problem, Epilogue::Multiply(&a));
            assert_bits(&ours, &want, &format!("{element:?} {shape:?} multiply"));
            let stream = || tensor(gpu, columns, &other);
            let want = separately(gpu, &problem, |gpu, y| {
                let mut out = stream();
                gpu.add(&mut out, y);
                std::mem::swap(y, &mut out);
            });
            let ours = residual(gpu, &problem, stream());
            assert_bits(&ours, &want, &format!("{element:?} {shape:?} add"));
        }
    });
}

/// `out + x W^T + b`, in place.
fn residual(gpu: &CudaDevice, problem: &Problem, mut out: <CudaDevice as Ops>::Tensor) -> Vec<f32> {
    let weight = gpu.matrix(problem.columns, problem.w.clone(), Some(problem.bias.clone()));
    let x = tensor(gpu, problem.inner, &problem.x);
    let mut room = poisoned(gpu, problem.rows, problem.columns);
    gpu.linear(&weight.expect("a matrix"), &x, Epilogue::Add(&mut room), &mut out);
    read(gpu, &mut out, problem.rows)
}

#[test]
fn a_row_has_the_same_bits_in_every_batch() {
    on_both(|gpu, element| {
        // Few rows take the smaller tile, many the larger one.
        let all = problem((20_000, 9, 40), element);
        let want = product(gpu, &all, Epilogue::Activate(Activation::GeluErf));
        for (first, rows) in [(0, 5), (777, 133), (19_999, 1)] {
            let x = all.x[first * all.inner..][..rows * all.inner].to_vec();
            let part = Problem { rows, x, w: all.w.clone(), bias: all.bias.clone(), ..all };
            let ours = product(gpu, &part, Epilogue::Activate(Activation::GeluErf));
            let want = &want[first * all.columns..][..rows * all.columns];
            assert_bits(&ours, want, &format!("{element:?} from {first}"));
        }
    });
}

#[test]
fn no_rows_are_no_work() {
    on_both(|gpu, element| {
        let mut problem = problem((1, 24, 16), element);
        (problem.rows, problem.x) = (0, Vec::new());
        assert!(product(gpu, &problem, Epilogue::Store).is_empty());
    });
}
