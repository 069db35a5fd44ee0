//! Writes into columns and tokens.
//! Oracle: the CPU device, whose f32 values rounded to the type of the tensors are met to the bit.

use electrode::device::cpu::CpuDevice;
use electrode::device::cuda::{CudaDevice, Element};
use electrode::device::ops::{Edit, Ops, Write};

use super::rows::{SHAPES, assert_bits, assert_refused, kept, random, read, tensor};
use crate::cuda::{device, on_both};

fn edited<O: Ops>(ops: &O, edit: &Edit, cols: usize, values: &[f32]) -> Vec<f32> {
    let mut x = tensor(ops, cols, values);
    ops.edit(edit, &mut x);
    read(ops, &mut x, values.len() / cols)
}

fn check((gpu, element): (&CudaDevice, Element), edit: &Edit, (cols, values): (usize, &[f32])) {
    let cpu = edited(&CpuDevice, edit, cols, values);
    let want: Vec<f32> = cpu.iter().map(|&x| kept(element, x)).collect();
    let ours = edited(gpu, edit, cols, values);
    assert_bits(&ours, &want, &format!("{element:?}, {cols} columns, {edit:?}"));
}

/// Each way to write: one value, and one for each column.
fn writes(columns: usize) -> [Write; 5] {
    let values = random(6, columns, Element::F32);
    [
        Write::Set(vec![0.0]),
        Write::Set(values.clone()),
        Write::Scale(-1.3),
        Write::Add(vec![0.7]),
        Write::Add(values),
    ]
}

#[test]
fn only_what_is_listed_is_written() {
    let third = |n: usize| (0..n as u32).rev().step_by(3).collect::<Vec<u32>>();
    on_both(|gpu, element| {
        for (rows, cols) in SHAPES {
            let values = random(1, rows * cols, element);
            for columns in [None, Some(third(cols)), Some(vec![cols as u32 - 1])] {
                let count = columns.as_ref().map_or(cols, Vec::len);
                for (i, write) in writes(count).into_iter().enumerate() {
                    let tokens = (i % 2 == 1).then(|| third(rows));
                    let edit = Edit { columns: columns.clone(), tokens, write };
                    check((gpu, element), &edit, (cols, &values));
                }
            }
        }
    });
}

#[test]
fn nothing_listed_is_nothing_written() {
    on_both(|gpu, element| {
        let values = random(1, 6 * 9, element);
        for (columns, tokens) in [(Some(vec![]), None), (None, Some(vec![]))] {
            let edit = Edit { columns, tokens, write: Write::Set(vec![1.0]) };
            check((gpu, element), &edit, (9, &values));
        }
    });
}

#[test]
fn what_is_listed_twice_is_written_twice() {
    let Some(gpu) = device(Element::F32) else { return };
    let values = random(1, 6 * 9, Element::F32);
    for write in writes(5) {
        let (columns, tokens) = (Some(vec![3, 5, 3, 8, 3]), Some(vec![2, 0, 2]));
        check((&gpu, Element::F32), &Edit { columns, tokens, write }, (9, &values));
    }
}

#[test]
fn what_is_beyond_the_tensor_never_reaches_the_kernel() {
    let Some(gpu) = device(Element::F32) else { return };
    for (columns, tokens) in [(Some(vec![9]), None), (None, Some(vec![2]))] {
        let edit = Edit { columns, tokens, write: Write::Scale(2.0) };
        let mut x = tensor(&gpu, 9, &[0.0; 18]);
        assert_refused("an edit of", || gpu.edit(&edit, &mut x));
    }
}
