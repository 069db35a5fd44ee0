//! edit: writes into chosen columns of chosen tokens.
#![expect(unsafe_code, reason = "launches kernels")]

use std::borrow::Cow;
use std::collections::HashMap;

use super::buffer::Tensor;
use super::context::{Context, args};
use super::driver::Ptr;
use super::grid::{by_rows, count, packs};
use crate::device::edit::{Edit, Write};

args! {
    /// See `kernels/edit.cu`.
    struct EditArgs {
        tokens: Ptr,
        columns: Ptr,
        values: Ptr,
        towards: Ptr,
        y: Ptr,
        x: Ptr,
        stride: u64,
        values_stride: u64,
        rows: u32,
        cols: u32,
        write: u32,
        value: f32,
        toward: f32,
        unused: u32,
    }
}

args! {
    /// See `kernels/edit_rows.cu`.
    struct EditRowsArgs {
        tokens: Ptr,
        columns: Ptr,
        direction: Ptr,
        x: Ptr,
        stride: u64,
        rows: u32,
        cols: u32,
        keep: u32,
        unused: u32,
    }
}

// How the kernels number what they write.
const SET: u32 = 0;
const SCALE: u32 = 1;
const ADD: u32 = 2;
const BLEND: u32 = 3;
const MASK: u32 = 4;
const CLAMP: u32 = 5;
const CLAMP_MASK: u32 = 6;

/// Columns or packs of a lane.
const AHEAD: usize = 4;
/// Rows of values begin at multiples of 16 bytes.
const PACK: usize = 4;

/// What is written into each element, as the kernel numbers it.
#[derive(Clone, Copy)]
struct Elements<'a> {
    write: u32,
    values: &'a [f32],
    towards: &'a [f32],
    /// Each row has its own values.
    by_row: bool,
    /// What is masked with.
    y: Ptr,
}

impl<'a> Elements<'a> {
    fn new(write: u32, values: &'a [f32]) -> Self {
        Self { write, values, towards: &[0.0], by_row: false, y: Ptr::NULL }
    }
}

/// See [`Edit`].
pub(super) fn edit(context: &Context, edit: &Edit, x: &mut Tensor) {
    let elements = match &edit.write {
        Write::Set(values) => Elements::new(SET, values),
        Write::Scale(factor) => Elements::new(SCALE, std::slice::from_ref(factor)),
        Write::Add(values) => Elements::new(ADD, values),
        Write::Rows(values) => Elements { by_row: true, ..Elements::new(SET, values) },
        Write::Blend { gates, towards } => Elements { towards, ..Elements::new(BLEND, gates) },
        Write::Clamp { low, high } => Elements { towards: high, ..Elements::new(CLAMP, low) },
        Write::Project(direction) => return project(context, edit, direction, x),
        Write::KeepTop(keep) => return keep_top(context, edit, *keep, x),
    };
    each_element(context, edit, elements, x);
}

/// `g = 0` where the edit writes and `y` is 0, or at a bound.
pub(super) fn edit_mask(context: &Context, edit: &Edit, (y, g): (&Tensor, &mut Tensor)) {
    assert_eq!((y.rows(), y.cols(), y.stride()), (g.rows(), g.cols(), g.stride()));
    assert!(y.element() == g.element());
    let elements = match &edit.write {
        Write::Clamp { low, high } => Elements { towards: high, ..Elements::new(CLAMP_MASK, low) },
        _ => Elements::new(MASK, &[0.0]),
    };
    each_element(context, edit, Elements { y: y.start(), ..elements }, g);
}

/// What is listed twice is written twice, in order: each launch has what is listed for the first
/// time, the second time, and so on, so that no two of its threads meet.
fn each_element(context: &Context, edit: &Edit, elements: Elements<'_>, x: &mut Tensor) {
    let listed = edit.columns.as_ref().map_or(x.cols(), Vec::len);
    let fits = |values: &[f32]| values.len() == 1 || values.len() == listed;
    let rows = edit.tokens.as_ref().map_or(x.rows(), Vec::len);
    let (values, towards) = (elements.values, elements.towards);
    assert!(elements.by_row || fits(values), "one value, or one per column");
    assert!(!elements.by_row || values.len() == rows * listed, "one value per token and column");
    assert!(fits(towards), "one value, or one per column");
    for tokens in rounds(edit.tokens.as_deref(), x.rows()) {
        for columns in rounds(edit.columns.as_deref(), x.cols()) {
            let values = if elements.by_row {
                table(values, (rows, tokens.as_deref()), (listed, columns.as_deref()))
            } else {
                of_columns(values, columns.as_deref())
            };
            let towards = of_columns(towards, columns.as_deref());
            let elements = Elements { values: &values, towards: &towards, ..elements };
            let at = |list: &Option<Vec<u32>>, places: &Option<Vec<usize>>| {
                Some(picked(list.as_ref()?, places.as_ref()?))
            };
            let places = (at(&edit.tokens, &tokens), at(&edit.columns, &columns));
            launch(context, places, elements, x);
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

/// The values of these columns, or the one for all.
fn of_columns<'a>(values: &'a [f32], columns: Option<&[usize]>) -> Cow<'a, [f32]> {
    match columns {
        Some(columns) if values.len() > 1 => picked(values, columns).into(),
        _ => values.into(),
    }
}

/// The values of these rows and columns, each row filled up to whole packs.
fn table<'a>(
    values: &'a [f32],
    (rows, row_places): (usize, Option<&[usize]>),
    (listed, columns): (usize, Option<&[usize]>),
) -> Cow<'a, [f32]> {
    let all = |places: Option<&[usize]>, end: usize| places.is_none_or(|at| at.len() == end);
    if all(row_places, rows) && all(columns, listed) && listed.is_multiple_of(PACK) {
        return values.into();
    }
    let mut table = Vec::new();
    for place in 0..row_places.map_or(rows, <[usize]>::len) {
        let row = &values[row_places.map_or(place, |at| at[place]) * listed..][..listed];
        table.extend_from_slice(&of_columns(row, columns));
        table.resize(table.len().next_multiple_of(PACK), 0.0);
    }
    table.into()
}

fn launch(
    context: &Context,
    (tokens, columns): (Option<Vec<u32>>, Option<Vec<u32>>),
    elements: Elements<'_>,
    x: &Tensor,
) {
    let rows = tokens.as_ref().map_or(x.rows(), Vec::len);
    let cols = columns.as_ref().map_or(x.cols(), Vec::len);
    if rows == 0 || cols == 0 {
        return;
    }
    let Elements { write, values, towards, by_row, y } = elements;
    let list = |list: &Option<Vec<u32>>| list.as_ref().map_or(Ptr::NULL, |all| context.upload(all));
    let floats = |values: &[f32], one: bool| match one {
        true => Ptr::NULL,
        false => context.upload(values),
    };
    let args = EditArgs {
        tokens: list(&tokens),
        columns: list(&columns),
        values: floats(values, !by_row && values.len() == 1),
        towards: floats(towards, towards.len() == 1),
        y,
        x: x.start(),
        stride: x.stride() as u64,
        values_stride: if by_row { cols.next_multiple_of(PACK) as u64 } else { 0 },
        rows: count(rows),
        cols: count(cols),
        write,
        value: values[0],
        toward: towards[0],
        unused: 0,
    };
    let (names, units) = match columns {
        Some(_) => (["edit_listed_f32", "edit_listed_bf16"], cols),
        None if write < BLEND => (["edit_all_f32", "edit_all_bf16"], packs(x.element(), cols)),
        None => (["edit_all_with_f32", "edit_all_with_bf16"], packs(x.element(), cols)),
    };
    let grid = by_rows(rows, units, AHEAD);
    // SAFETY: tokens and columns lie within `x`, as `rounds` has checked, and none is there twice;
    // there are as many values as columns, or a padded row of them for each token; `y` has the shape
    // of `x`; both outlive the batch.
    unsafe { context.launch(x.element().pick(names), (grid, 0), &args) }
}

/// Whole rows are written; a column that is not listed has a 0 in the direction.
fn project(context: &Context, edit: &Edit, direction: &[f32], x: &mut Tensor) {
    let listed = ascending(edit.columns.as_deref(), x.cols()).map_or(x.cols(), |all| all.len());
    assert_eq!(direction.len(), listed, "one value per column");
    let whole: Cow<'_, [f32]> = match &edit.columns {
        None => direction.into(),
        Some(columns) => {
            let mut whole = vec![0.0; x.cols()];
            for (&column, &u) in columns.iter().zip(direction) {
                whole[column as usize] = u;
            }
            whole.into()
        }
    };
    for_rows(context, edit, x, (context.upload(&whole), None, 0));
}

fn keep_top(context: &Context, edit: &Edit, keep: usize, x: &mut Tensor) {
    let columns = ascending(edit.columns.as_deref(), x.cols());
    let listed = columns.as_ref().map_or(x.cols(), Vec::len);
    if keep >= listed {
        return;
    }
    if keep == 0 {
        return each_element(context, edit, Elements::new(SET, &[0.0]), x);
    }
    for_rows(context, edit, x, (Ptr::NULL, columns.as_deref(), keep));
}

/// The columns in order, checked; none for all.
fn ascending(columns: Option<&[u32]>, end: usize) -> Option<Vec<u32>> {
    let mut sorted = columns?.to_vec();
    sorted.sort_unstable();
    assert!(sorted.windows(2).all(|pair| pair[0] < pair[1]), "a column twice");
    assert!(sorted.last().is_none_or(|&last| (last as usize) < end), "an edit beyond {end}");
    Some(sorted)
}

/// Launches the kernel of whole rows: to project, where no entries are to be kept.
fn for_rows(
    context: &Context,
    edit: &Edit,
    x: &Tensor,
    (direction, columns, keep): (Ptr, Option<&[u32]>, usize),
) {
    for places in rounds(edit.tokens.as_deref(), x.rows()) {
        let tokens = edit.tokens.as_ref().zip(places).map(|(all, at)| picked(all, &at));
        let rows = tokens.as_ref().map_or(x.rows(), Vec::len);
        let args = EditRowsArgs {
            tokens: tokens.map_or(Ptr::NULL, |tokens| context.upload(&tokens)),
            columns: columns.map_or(Ptr::NULL, |columns| context.upload(columns)),
            direction,
            x: x.start(),
            stride: x.stride() as u64,
            rows: count(rows),
            cols: count(columns.map_or(x.cols(), <[u32]>::len)),
            keep: count(keep),
            unused: 0,
        };
        let (names, grid) = match keep {
            0 => (["edit_project_f32", "edit_project_bf16"], by_rows(rows, 1, 1)),
            _ => (["edit_keep_f32", "edit_keep_bf16"], [count(rows), 1, 1]),
        };
        // SAFETY: tokens and columns lie within `x`, none is there twice; a direction has a value
        // for each column of `x`, which outlives the batch.
        unsafe { context.launch(x.element().pick(names), (grid, 0), &args) }
    }
}
