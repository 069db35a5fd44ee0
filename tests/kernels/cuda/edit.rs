//! Writes into columns and tokens.
//! Oracle: the CPU device, whose f32 values rounded to the type of the tensors are met to the bit.

use electrode::device::cpu::CpuDevice;
use electrode::device::cuda::Element;
use electrode::device::ops::{Edit, Ops, Write};

use super::device;
use super::rows::{ELEMENTS, SHAPES, assert_bits, kept, random, read, tensor};

fn edited<O: Ops>(ops: &O, edit: &Edit, cols: usize, values: &[f32]) -> Vec<f32> {
    let mut x = tensor(ops, cols, values);
    ops.edit(edit, &mut x);
    read(ops, &mut x, values.len() / cols)
}

fn check(element: Element, edit: &Edit, cols: usize, values: &[f32]) {
    let cpu = edited(&CpuDevice, edit, cols, values);
    let want: Vec<f32> = cpu.iter().map(|&x| kept(element, x)).collect();
    let ours = edited(&device(element), edit, cols, values);
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
    for element in ELEMENTS {
        for (rows, cols) in SHAPES {
            let values = random(1, rows * cols, element);
            let third = |n: usize| (0..n as u32).rev().step_by(3).collect::<Vec<u32>>();
            for columns in [None, Some(third(cols)), Some(vec![cols as u32 - 1])] {
                let count = columns.as_ref().map_or(cols, Vec::len);
                for (i, write) in writes(count).into_iter().enumerate() {
                    let tokens = [None, Some(third(rows))][i % 2].clone();
                    check(element, &Edit { columns: columns.clone(), tokens, write }, cols, &values);
                }
            }
        }
    }
}

#[test]
fn nothing_listed_is_nothing_written() {
    let values = random(1, 6 * 9, Element::F32);
    for (columns, tokens) in [(Some(vec![]), None), (None, Some(vec![]))] {
        let edit = Edit { columns, tokens, write: Write::Set(vec![1.0]) };
        check(Element::F32, &edit, 9, &values);
    }
}

#[test]
fn what_is_listed_twice_is_written_twice() {
    let values = random(1, 6 * 9, Element::F32);
    let (columns, tokens) = (Some(vec![3, 5, 3, 8, 3]), Some(vec![2, 0, 2]));
    for write in writes(5) {
        let edit = Edit { columns: columns.clone(), tokens: tokens.clone(), write };
        check(Element::F32, &edit, 9, &values);
    }
}

#[test]
#[should_panic(expected = "an edit of 9, of 9")]
fn columns_beyond_the_row_never_reach_the_kernel() {
    let edit = Edit { columns: Some(vec![9]), tokens: None, write: Write::Scale(2.0) };
    edited(&device(Element::F32), &edit, 9, &[0.0; 9]);
}
