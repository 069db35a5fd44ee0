//! Runs of tokens put together.
//! Oracle: the CPU device, whose f32 values rounded to the type of the tensors are met to the bit.

use electrode::device::cpu::CpuDevice;
use electrode::device::ops::{Ops, Pooling, RowRuns};

use super::rows::{assert_bits, kept, poisoned, random, read, tensor};
use crate::cuda::on_both;

const HOW: [Pooling; 4] = [Pooling::First, Pooling::Last, Pooling::Mean, Pooling::Max];

fn pooled<O: Ops>(ops: &O, how: Pooling, runs: RowRuns<'_>, cols: usize, x: &[f32]) -> Vec<f32> {
    let x = tensor(ops, cols, x);
    let mut out = poisoned(ops, runs.first.len(), cols);
    ops.pool(how, runs, &x, &mut out);
    read(ops, &mut out, runs.first.len())
}

#[test]
fn runs_are_put_together_in_row_order() {
    // Alone, in fours and a rest, overlapping, out of order.
    let first = &[0, 1, 3, 3, 50, 20, 69, 7, 8, 9];
    let runs = RowRuns { first, len: &[1, 2, 4, 5, 20, 13, 1, 3, 7, 61] };
    on_both(|gpu, element| {
        for cols in [1, 7, 8, 9, 33, 300, 771] {
            let mut x = random(1, 70 * cols, element);
            // NaN at the start, inside and at the end of a run stays visible.
            for row in [1, 5, 69] {
                x[row * cols + cols / 2] = f32::NAN;
            }
            for how in HOW {
                let cpu = pooled(&CpuDevice::F32, how, runs, cols, &x);
                let want: Vec<f32> = cpu.iter().map(|&x| kept(element, x)).collect();
                let ours = pooled(gpu, how, runs, cols, &x);
                assert_bits(&ours, &want, &format!("{how:?} {element:?} {cols}"));
            }
        }
    });
}

#[test]
fn a_run_does_not_depend_on_the_others() {
    on_both(|gpu, element| {
        let x = random(2, 40 * 20, element);
        let all = RowRuns { first: &[0, 11, 30], len: &[11, 19, 10] };
        let all = pooled(gpu, Pooling::Mean, all, 20, &x);
        let alone = RowRuns { first: &[11], len: &[19] };
        assert_bits(&pooled(gpu, Pooling::Mean, alone, 20, &x), &all[20..40], "alone");
    });
}
