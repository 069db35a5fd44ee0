//! Heads turned by the angles of their positions, and back.
//! Oracle: the rotation in f64, with the angles' cosines and sines as the table has them.

use electrode::device::cuda::Element;
use electrode::device::gradient_ops::GradientOps;
use electrode::device::ops::{HeadRange, Ops};

use super::rows::{assert_near, assert_refused, indices, random, read, tensor};
use crate::cuda::{device, on_both};

const POSITIONS: usize = 17;
const ROWS: usize = 37;

fn turned(
    values: &[f32],
    cols: usize,
    (range, sense): (HeadRange, f64),
    angles: &[f32],
) -> Vec<(f64, f64)> {
    let r = angles.len() / POSITIONS / 2;
    let exact = |x: &f32| (f64::from(*x), 0.0);
    let mut out: Vec<(f64, f64)> = values.iter().map(exact).collect();
    let positions = indices(9, ROWS, POSITIONS);
    for (t, head) in (0..ROWS).flat_map(|t| (0..range.heads).map(move |head| (t, head))) {
        let angles = &angles[positions[t] as usize * 2 * r..][..2 * r];
        let start = t * cols + range.first + head * range.width;
        for j in start..start + r {
            let (x, y) = (f64::from(values[j]), f64::from(values[j + r]));
            let (cos, sin) =
                (f64::from(angles[j - start]), sense * f64::from(angles[j - start + r]));
            let bound = 4.0 * f64::from(f32::EPSILON) * (x.abs() + y.abs());
            out[j] = (x * cos - y * sin, bound);
            out[j + r] = (y * cos + x * sin, bound);
        }
    }
    out
}

#[test]
fn pairs_are_rotated() {
    // (first, heads, width, r): whole heads, parts of heads, packs that begin anywhere.
    let cases = [(0, 1, 8, 4), (0, 5, 64, 32), (8, 9, 16, 8), (3, 4, 11, 3), (0, 3, 80, 10)];
    on_both(|gpu, element| {
        for (first, heads, width, r) in cases.into_iter().chain([(16, 2, 128, 64), (1, 1, 2, 1)]) {
            let range = HeadRange { first, heads, width };
            let cols = first + heads * width + 5;
            let values = random(1, ROWS * cols, element);
            let turn = |j: usize| 0.1 + (j / (2 * r) * (1 + j % r)) as f32;
            let angles: Vec<f32> = (0..POSITIONS * 2 * r)
                .map(|j| if j % (2 * r) < r { turn(j).cos() } else { turn(j).sin() })
                .collect();
            let table = gpu.exact_table(POSITIONS, angles.clone()).unwrap();
            for sense in [1.0, -1.0] {
                let mut x = tensor(gpu, cols, &values);
                let positions = indices(9, ROWS, POSITIONS);
                if sense > 0.0 {
                    gpu.rope(&table, &positions, range, &mut x);
                } else {
                    gpu.rope_grad(&table, &positions, range, &mut x);
                }
                let want = turned(&values, cols, (range, sense), &angles);
                let what = format!("{element:?} {range:?}, r = {r}, {sense}");
                assert_near(&read(gpu, &mut x, ROWS), want.into_iter(), (element, &what));
            }
        }
    });
}

#[test]
fn positions_beyond_the_table_never_reach_the_kernel() {
    let Some(gpu) = device(Element::F32) else { return };
    let table = gpu.exact_table(2, vec![0.5; 8]).unwrap();
    let range = HeadRange { first: 0, heads: 1, width: 4 };
    let mut x = tensor(&gpu, 4, &[0.0; 4]);
    assert_refused("without angles", || gpu.rope(&table, &[2], range, &mut x));
}
