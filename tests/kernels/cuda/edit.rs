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
    let cpu = edited(&CpuDevice::F32, edit, cols, values);
    let want: Vec<f32> = cpu.iter().map(|&x| kept(element, x)).collect();
    let ours = edited(gpu, edit, cols, values);
    assert_bits(&ours, &want, &format!("{element:?}, {cols} columns, {edit:?}"));
}

/// Each way to write elements by themselves: one value, and one for each column.
fn writes(tokens: usize, columns: usize) -> [Write; 10] {
    let values = random(6, columns, Element::F32);
    let bounds = values.iter().map(|x| x.abs() - 0.25).collect();
    let gates = (0..columns).map(|i| [1.0, 0.0, 0.3, 0.999][i % 4]).collect();
    [
        Write::Set(vec![0.0]),
        Write::Set(values.clone()),
        Write::Scale(-1.3),
        Write::Add(vec![0.7]),
        Write::Blend { gates: vec![0.25], towards: values.clone() },
        Write::Blend { gates, towards: vec![-0.5] },
        Write::Clamp { low: vec![-0.25], high: bounds },
        Write::Clamp { low: values.iter().map(|x| x - 0.5).collect(), high: vec![f32::INFINITY] },
        Write::Add(values),
        Write::Rows(random(7, tokens * columns, Element::F32)),
    ]
}

fn third(n: usize) -> Vec<u32> {
    (0..n as u32).rev().step_by(3).collect()
}

/// All columns, every third from the last, and one.
fn column_lists(cols: usize) -> [Option<Vec<u32>>; 3] {
    [None, Some(third(cols)), Some(vec![cols as u32 - 1])]
}

#[test]
fn only_what_is_listed_is_written() {
    on_both(|gpu, element| {
        for (rows, cols) in SHAPES {
            let values = random(1, rows * cols, element);
            for columns in column_lists(cols) {
                let count = columns.as_ref().map_or(cols, Vec::len);
                for (i, write) in writes(third(rows).len(), count).into_iter().enumerate() {
                    let tokens = (i % 2 == 1).then(|| third(rows));
                    let edit = Edit { columns: columns.clone(), tokens, write };
                    check((gpu, element), &edit, (cols, &values));
                }
                let write = Write::Rows(random(7, rows * count, Element::F32));
                let edit = Edit { columns, tokens: None, write };
                check((gpu, element), &edit, (cols, &values));
            }
        }
    });
}

/// A gate of 1 is as if nothing were written, and 0 gives the other value whatever stood there.
#[test]
fn open_and_closed_gates_give_the_bits_of_either_side() {
    let values = [-0.0, f32::INFINITY, f32::NAN, 1e-40, -3.5, 0.1];
    on_both(|gpu, element| {
        let values = values.map(|x| kept(element, x));
        for (gate, want) in [(1.0, values), (0.0, [0.25; 6])] {
            let write = Write::Blend { gates: vec![gate], towards: vec![0.25] };
            let edit = Edit { columns: None, tokens: None, write };
            assert_bits(&edited(&CpuDevice::F32, &edit, 6, &values), &want, "the processor");
            assert_bits(&edited(gpu, &edit, 6, &values), &want, "the GPU");
        }
    });
}

/// Their sums have another order than the processor's, which moves a rounding of f64 and through it,
/// rarely, the last bit of what is stored.
#[test]
fn a_direction_is_projected_out() {
    on_both(|gpu, element| {
        for (rows, cols) in SHAPES {
            let values = random(1, rows * cols, element);
            for (i, columns) in column_lists(cols).into_iter().enumerate() {
                let count = columns.as_ref().map_or(cols, Vec::len);
                let write = Write::project(&random(8, count, Element::F32)).expect("a direction");
                let tokens = (i == 1).then(|| third(rows));
                let edit = Edit { columns, tokens, write };
                let cpu = edited(&CpuDevice::F32, &edit, cols, &values);
                let ours = edited(gpu, &edit, cols, &values);
                for (at, (&ours, &cpu)) in ours.iter().zip(&cpu).enumerate() {
                    let bound = match element {
                        Element::F32 => 2e-7 * cpu.abs() + 1e-13,
                        Element::Bf16 => kept(element, cpu).abs() / 128.0,
                    };
                    let error = (ours - kept(element, cpu)).abs();
                    let what = format!("{element:?} {rows}x{cols} {at}: {ours:e}, not {cpu:e}");
                    assert!(error <= bound, "{what}");
                }
            }
        }
    });
}

/// Values of which many are equal but for their sign, among them zeros.
fn with_ties(seed: u64, n: usize) -> Vec<f32> {
    random(seed, n, Element::F32).iter().map(|x| (x * 2.0).round() / 2.0).collect()
}

#[test]
fn only_the_largest_stay() {
    on_both(|gpu, element| {
        for (rows, cols) in SHAPES {
            for values in [random(1, rows * cols, element), with_ties(2, rows * cols)] {
                for (i, columns) in column_lists(cols).into_iter().enumerate() {
                    let count = columns.as_ref().map_or(cols, Vec::len);
                    for keep in [0, 1, 2, count / 2, count.saturating_sub(1), count, count + 1] {
                        let tokens = (i == 1).then(|| third(rows));
                        let write = Write::KeepTop(keep);
                        let edit = Edit { columns: columns.clone(), tokens, write };
                        check((gpu, element), &edit, (cols, &values));
                    }
                }
            }
        }
        let edit = Edit { columns: None, tokens: None, write: Write::KeepTop(2) };
        let values = [1.0, f32::NAN, -f32::INFINITY, 3e38, 0.0, -0.0];
        check((gpu, element), &edit, (6, &values.map(|x| kept(element, x))));
    });
}

/// Oracle: sorting.
#[test]
fn the_processor_keeps_the_largest_and_of_equals_the_first() {
    for (keep, cols, columns) in
        [(3, 40, None), (1, 7, Some(vec![6, 2, 4])), (2, 9, Some(vec![8, 1, 0, 5]))]
    {
        let values = with_ties(3, 5 * cols);
        let edit = Edit { columns: columns.clone(), tokens: None, write: Write::KeepTop(keep) };
        let ours = edited(&CpuDevice::F32, &edit, cols, &values);
        for (row, ours) in values.chunks(cols).zip(ours.chunks(cols)) {
            let mut listed = columns.clone().unwrap_or_else(|| (0..cols as u32).collect());
            listed.sort_unstable();
            listed.sort_by(|&a, &b| row[b as usize].abs().total_cmp(&row[a as usize].abs()));
            let mut want = row.to_vec();
            listed[keep..].iter().for_each(|&column| want[column as usize] = 0.0);
            assert_bits(ours, &want, &format!("{row:?}"));
        }
    }
}

#[test]
fn a_gradient_is_masked_where_the_edit_wrote_zero() {
    on_both(|gpu, element| {
        for (rows, cols) in [(5, 7), (9, 8), (2, 33), (11, 384)] {
            let (y, g) = (with_ties(4, rows * cols), random(5, rows * cols, element));
            for columns in column_lists(cols) {
                let tokens = columns.as_ref().map(|_| third(rows));
                let edit = Edit { columns, tokens, write: Write::KeepTop(1) };
                let listed = |list: &Option<Vec<u32>>, one: usize| {
                    list.as_ref().is_none_or(|list| list.contains(&(one as u32)))
                };
                let hit = |i: usize| {
                    y[i] == 0.0 && listed(&edit.tokens, i / cols) && listed(&edit.columns, i % cols)
                };
                let want: Vec<f32> =
                    g.iter().enumerate().map(|(i, &g)| if hit(i) { 0.0 } else { g }).collect();
                let (at_y, mut at_g) = (tensor(gpu, cols, &y), tensor(gpu, cols, &g));
                gpu.edit_mask(&edit, &at_y, &mut at_g);
                assert_bits(&read(gpu, &mut at_g, rows), &want, "the GPU");
                let (at_y, mut at_g) =
                    (tensor(&CpuDevice::F32, cols, &y), tensor(&CpuDevice::F32, cols, &g));
                CpuDevice::F32.edit_mask(&edit, &at_y, &mut at_g);
                assert_bits(&read(&CpuDevice::F32, &mut at_g, rows), &want, "the processor");
            }
        }
    });
}

/// What a clamp wrote has no slope, what it left has; each device by the bounds as its type keeps them.
#[test]
fn a_gradient_is_masked_where_a_clamp_wrote() {
    on_both(|gpu, element| {
        for (rows, cols) in [(5, 7), (9, 8), (2, 33), (11, 384)] {
            let (x, g) = (random(4, rows * cols, element), random(5, rows * cols, element));
            for (i, columns) in column_lists(cols).into_iter().enumerate() {
                let count = columns.as_ref().map_or(cols, Vec::len);
                let tokens = columns.as_ref().map(|_| third(rows));
                let high: Vec<f32> =
                    random(6, count, Element::F32).iter().map(|x| x.abs()).collect();
                let low = if i == 0 { vec![-0.3] } else { vec![f32::NEG_INFINITY; count] };
                let write = Write::Clamp { low: low.clone(), high: high.clone() };
                let edit = Edit { columns: columns.clone(), tokens: tokens.clone(), write };
                let place = |list: &Option<Vec<u32>>, one: usize| match list {
                    None => Some(one),
                    Some(list) => list.iter().position(|&at| at as usize == one),
                };
                let outside = |i: usize| {
                    let at =
                        place(&columns, i % cols).filter(|_| place(&tokens, i / cols).is_some());
                    at.is_some_and(|at| {
                        let [low, high] = [low[at % low.len()], high[at]].map(|x| kept(element, x));
                        x[i] <= low || x[i] >= high
                    })
                };
                let want: Vec<f32> =
                    (0..g.len()).map(|i| if outside(i) { 0.0 } else { g[i] }).collect();
                assert!(want.contains(&0.0) && want.iter().any(|g| *g != 0.0));
                let (mut y, mut at_g) = (tensor(gpu, cols, &x), tensor(gpu, cols, &g));
                gpu.edit(&edit, &mut y);
                gpu.edit_mask(&edit, &y, &mut at_g);
                assert_bits(&read(gpu, &mut at_g, rows), &want, "the GPU");
                if element == Element::F32 {
                    let (mut y, mut at_g) =
                        (tensor(&CpuDevice::F32, cols, &x), tensor(&CpuDevice::F32, cols, &g));
                    CpuDevice::F32.edit(&edit, &mut y);
                    CpuDevice::F32.edit_mask(&edit, &y, &mut at_g);
                    assert_bits(&read(&CpuDevice::F32, &mut at_g, rows), &want, "the processor");
                }
            }
        }
    });
}

/// Oracle: by hand. NaN is nowhere below or above; a missing bound bounds nothing.
#[test]
fn a_clamp_leaves_what_is_within() {
    let values = [-0.0, f32::INFINITY, f32::NAN, -7.5, f32::NEG_INFINITY, 0.5];
    on_both(|gpu, element| {
        for (low, high, want) in [
            (-1.0, 1.0, [-0.0, 1.0, f32::NAN, -1.0, -1.0, 0.5]),
            (f32::NEG_INFINITY, 0.25, [-0.0, 0.25, f32::NAN, -7.5, f32::NEG_INFINITY, 0.25]),
            (2.0, 2.0, [2.0, 2.0, f32::NAN, 2.0, 2.0, 2.0]),
        ] {
            let write = Write::Clamp { low: vec![low], high: vec![high] };
            let edit = Edit { columns: None, tokens: None, write };
            assert_bits(&edited(&CpuDevice::F32, &edit, 6, &values), &want, "the processor");
            assert_bits(&edited(gpu, &edit, 6, &values), &want, &format!("the GPU, {element:?}"));
        }
    });
}

#[test]
fn nothing_listed_is_nothing_written() {
    on_both(|gpu, element| {
        let values = random(1, 6 * 9, element);
        for (columns, tokens) in [(Some(vec![]), None), (None, Some(vec![]))] {
            let direction = if columns.is_some() { vec![] } else { vec![1.0 / 3.0; 9] };
            for write in [
                Write::Set(vec![1.0]),
                Write::Set(vec![]),
                Write::Rows(vec![]),
                Write::Project(direction),
                Write::KeepTop(1),
            ] {
                if tokens.is_some() && write == Write::Set(vec![]) {
                    continue;
                }
                let edit = Edit { columns: columns.clone(), tokens: tokens.clone(), write };
                check((gpu, element), &edit, (9, &values));
            }
        }
    });
}

#[test]
fn what_is_listed_twice_is_written_twice() {
    let Some(gpu) = device(Element::F32) else { return };
    let values = random(1, 6 * 9, Element::F32);
    for write in writes(3, 5) {
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
