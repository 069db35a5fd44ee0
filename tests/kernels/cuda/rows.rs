//! What the tests of the forward pass's kernels share: rows on a device, made and read with its own
//! operations, between rows that nothing may touch.

use electrode::device::cuda::Element;
use electrode::device::ops::Ops;

use crate::laws::data::Random;

/// Rows and columns: one of each, less than a pack, a pack, one more, a warp's packs, odd, and more
/// than a warp holds.
pub(super) const SHAPES: [(usize, usize); 12] = [
    (1, 1),
    (70, 1),
    (5, 7),
    (9, 8),
    (33, 9),
    (2, 33),
    (70, 64),
    (11, 384),
    (3, 771),
    (2, 1003),
    (5, 1024),
    (2, 2064),
];

/// Rows after the last, and what stands in them.
const GUARDS: usize = 3;
const UNTOUCHED: f32 = 77.0;

/// Roughly normal values that the type can hold.
pub(super) fn random(seed: u64, n: usize, element: Element) -> Vec<f32> {
    let mut random = Random(seed);
    (0..n).map(|_| kept(element, random.normal())).collect()
}

/// Numbers below a bound.
pub(super) fn indices(seed: u64, n: usize, end: usize) -> Vec<u32> {
    let mut random = Random(seed);
    (0..n).map(|_| random.below(end as u64) as u32).collect()
}

/// What is left of a value in the type of the tensors.
pub(super) fn kept(element: Element, x: f32) -> f32 {
    match element {
        Element::F32 => x,
        Element::Bf16 => half::bf16::from_f32(x).to_f32(),
    }
}

/// A tensor of these rows, followed by the guards. They are looked up in a table, which writes no
/// gaps: whatever the memory held stays there (the fake driver fills it with NaN).
pub(super) fn tensor<O: Ops>(ops: &O, cols: usize, values: &[f32]) -> O::Tensor {
    let rows = values.len() / cols;
    let mut values = values.to_vec();
    values.resize((rows + GUARDS) * cols, UNTOUCHED);
    let table = ops.table(rows + GUARDS, values).expect("a table");
    let mut x = ops.tensor(rows + GUARDS, cols).expect("a tensor");
    ops.set_rows(&mut x, rows + GUARDS);
    let ids: Vec<u32> = (0..(rows + GUARDS) as u32).collect();
    ops.embed(&table, &ids, 1.0, &mut x);
    ops.check().expect("rows are made");
    ops.set_rows(&mut x, rows);
    x
}

/// Rows full of NaN, followed by the guards: what an operation leaves out is seen.
pub(super) fn poisoned<O: Ops>(ops: &O, rows: usize, cols: usize) -> O::Tensor {
    tensor(ops, cols, &vec![f32::NAN; rows * cols])
}

/// The same for values that lie end to end.
pub(super) fn poisoned_cells<O: Ops>(ops: &O, count: usize) -> O::Tensor {
    let mut x = ops.cells(count + GUARDS).expect("memory");
    ops.set_rows(&mut x, count + GUARDS);
    let mut values = vec![f32::NAN; count];
    values.extend([UNTOUCHED; GUARDS]);
    ops.write(&mut x, &values).expect("an upload");
    ops.set_rows(&mut x, count);
    x
}

/// The rows in use, once it is checked that the guards are as they were.
pub(super) fn read<O: Ops>(ops: &O, x: &mut O::Tensor, rows: usize) -> Vec<f32> {
    let mut values = Vec::new();
    ops.set_rows(x, rows + GUARDS);
    ops.read(x, &mut values).expect("rows can be read");
    ops.set_rows(x, rows);
    let guards = values.split_off(values.len() / (rows + GUARDS) * rows);
    assert!(guards.iter().all(|&x| x == UNTOUCHED), "rows not in use were written");
    values
}

/// The same bits; NaN is NaN.
pub(super) fn assert_bits(ours: &[f32], want: &[f32], what: &str) {
    assert_eq!(ours.len(), want.len(), "{what}");
    for (i, (ours, want)) in ours.iter().zip(want).enumerate() {
        let same = ours.to_bits() == want.to_bits() || (ours.is_nan() && want.is_nan());
        assert!(same, "{what}: value {i} is {ours:e}, not {want:e}");
    }
}

/// Within `bound` of the wanted value, and in bf16 twice the rounding of that value more.
pub(super) fn assert_near(
    ours: &[f32],
    want: impl Iterator<Item = (f64, f64)>,
    (element, what): (Element, &str),
) {
    let mut compared = 0;
    for (i, (&ours, (want, bound))) in ours.iter().zip(want).enumerate() {
        let rounding = if element == Element::Bf16 { want.abs() / 128.0 } else { 0.0 };
        let error = (f64::from(ours) - want).abs();
        assert!(error <= bound + rounding, "{what}: value {i} is {ours:e}, not {want:e}");
        compared += 1;
    }
    assert_eq!(compared, ours.len(), "{what}");
}

/// That this panics with a message in which `why` stands, before any kernel runs.
pub(super) fn assert_refused(why: &str, what: impl FnOnce()) {
    let answer = std::panic::catch_unwind(std::panic::AssertUnwindSafe(what));
    let panic = answer.expect_err("it was not refused");
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or(panic.downcast_ref::<&str>().copied()).unwrap_or_default();
    assert!(text.contains(why), "{text}");
}
