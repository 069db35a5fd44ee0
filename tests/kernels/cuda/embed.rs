//! Rows of tables, looked up and added.
//! Oracle: the CPU device, whose f32 values rounded to the type of the tensors are met to the bit.

use electrode::device::cpu::CpuDevice;
use electrode::device::cuda::Element;
use electrode::device::ops::Ops;

use super::rows::{
    SHAPES, assert_bits, assert_refused, indices, kept, poisoned, random, read, tensor,
};
use crate::cuda::{device, on_both};

const ENTRIES: usize = 13;

/// `scale * table[ids]`, and some rows with `table[ids]` added.
fn both<O: Ops>(ops: &O, element: Element, (rows, cols): (usize, usize)) -> [Vec<f32>; 2] {
    let table = ops.table(ENTRIES, random(1, ENTRIES * cols, element)).unwrap();
    let ids = indices(2, rows, ENTRIES);
    let mut out = poisoned(ops, rows, cols);
    ops.embed(&table, &ids, 1.7, &mut out);
    let mut sum = tensor(ops, cols, &random(3, rows * cols, element));
    ops.embed_add(&table, &ids, &mut sum);
    [read(ops, &mut out, rows), read(ops, &mut sum, rows)]
}

#[test]
fn rows_are_those_of_the_table() {
    on_both(|gpu, element| {
        for shape in SHAPES {
            let want = both(&CpuDevice::F32, element, shape);
            for (ours, want) in both(gpu, element, shape).iter().zip(want) {
                let want: Vec<f32> = want.iter().map(|&x| kept(element, x)).collect();
                assert_bits(ours, &want, &format!("{element:?} {shape:?}"));
            }
        }
    });
}

#[test]
fn no_rows_are_no_work() {
    let Some(gpu) = device(Element::F32) else { return };
    let table = gpu.table(2, vec![0.0; 16]).unwrap();
    let mut out = poisoned(&gpu, 0, 8);
    gpu.embed(&table, &[], 1.0, &mut out);
    assert!(read(&gpu, &mut out, 0).is_empty());
}

#[test]
fn ids_beyond_the_table_never_reach_the_kernel() {
    let Some(gpu) = device(Element::F32) else { return };
    let table = gpu.table(2, vec![0.0; 16]).unwrap();
    let mut out = poisoned(&gpu, 2, 8);
    assert_refused("beyond the table", || gpu.embed(&table, &[0, 2], 1.0, &mut out));
}
