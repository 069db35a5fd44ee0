//! edit: writes into chosen columns of chosen tokens.
#![expect(unsafe_code, reason = "launches kernels")]

use std::collections::HashMap;

use super::buffer::Tensor;
use super::context::{Context, args};
use super::driver::Ptr;
use super::grid::{by_rows, count, packs};
use crate::device::ops::{Edit, Write};

args! {
    /// See `kernels/edit.cu`.
    struct EditArgs {
        tokens: Ptr,
        columns: Ptr,
        values: Ptr,
        x: Ptr,
        stride: u64,
        rows: u32,
        cols: u32,
        write: u32,
        value: f32,
    }
}

/// Columns or packs of a lane.
const AHEAD: usize = 4;

/// See [`Edit`]. What is listed twice is written twice, in order: each launch has what is listed
/// for the first time, the second time, and so on, so that no two of its threads meet.
pub(super) fn edit(context: &Context, edit: &Edit, x: &mut Tensor) {
    let listed = edit.columns.as_ref().map_or(x.cols(), Vec::len);
    let (write, values) = match &edit.write {
        Write::Set(values) => (0, &values[..]),
        Write::Scale(factor) => (1, std::slice::from_ref(factor)),
        Write::Add(values) => (2, &values[..]),
    };
    assert!(values.len() == 1 || values.len() == listed, "one value, or one per column");
    for tokens in rounds(edit.tokens.as_deref(), x.rows()) {
        let rows = tokens.as_ref().map_or(x.rows(), Vec::len);
        let tokens = tokens.map(|at| picked(edit.tokens.as_deref().unwrap_or_default(), &at));
        let tokens = tokens.map_or(Ptr::NULL, |tokens| context.upload(&tokens));
        for at in rounds(edit.columns.as_deref(), x.cols()) {
            let values = match &at {
                Some(at) if values.len() > 1 => &picked(values, at),
                _ => values,
            };
            let columns = at.map(|at| picked(edit.columns.as_deref().unwrap_or_default(), &at));
            launch(context, (tokens, rows), columns.as_deref(), (write, values), x);
        }
    }
}

/// Places in the list, so divided that none of it is in a part twice; none for all there is.
fn rounds(list: Option<&[u32]>, end: usize) -> Vec<Option<Vec<usize>>> {
    let Some(list) = list else { return vec![None] };
    let (mut seen, mut rounds) = (HashMap::<u32, usize>::new(), Vec::<Option<Vec<usize>>>::new());
    for (place, &one) in list.iter().enumerate() {
        assert!((one as usize) < end, "an edit of {one}, of {end}");
        let times = seen.entry(one).or_default();
        if rounds.len() == *times {
            rounds.push(Some(Vec::new()));
        }
        rounds[*times].get_or_insert_default().push(place);
        *times += 1;
    }
    rounds
}

fn picked<T: Copy>(list: &[T], places: &[usize]) -> Vec<T> {
    places.iter().map(|&place| list[place]).collect()
}

fn launch(
    context: &Context,
    (tokens, rows): (Ptr, usize),
    columns: Option<&[u32]>,
    (write, values): (u32, &[f32]),
    x: &Tensor,
) {
    let cols = columns.map_or(x.cols(), <[u32]>::len);
    let args = EditArgs {
        tokens,
        columns: columns.map_or(Ptr::NULL, |columns| context.upload(columns)),
        values: if values.len() > 1 { context.upload(values) } else { Ptr::NULL },
        x: x.start(),
        stride: x.stride() as u64,
        rows: count(rows),
        cols: count(cols),
        write,
        value: values[0],
    };
    let (names, units) = match columns {
        Some(_) => (["edit_listed_f32", "edit_listed_bf16"], cols),
        None => (["edit_all_f32", "edit_all_bf16"], packs(x.element(), cols)),
    };
    let grid = by_rows(rows, units, AHEAD);
    // SAFETY: tokens and columns lie within `x`, as `rounds` has checked, and none is there twice;
    // there are as many values as columns; `x` outlives the batch.
    unsafe { context.launch(x.element().pick(names), (grid, 0), &args) }
}
