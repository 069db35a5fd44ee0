//! embed: rows of a table, looked up and added.
#![expect(unsafe_code, reason = "launches kernels")]

use super::buffer::{Table, Tensor, stride};
use super::context::{Context, args};
use super::driver::Ptr;
use super::grid::{by_rows, count, packs};

args! {
    /// See `kernels/embed.cu`.
    struct EmbedArgs {
        table: Ptr,
        ids: Ptr,
        out: Ptr,
        table_stride: u64,
        rows: u32,
        cols: u32,
        stride: u32,
        scale: f32,
    }
}

/// Packs of a lane.
const AHEAD: usize = 4;

/// `out[t] = scale * table[ids[t]]`.
pub(super) fn embed(
    context: &Context,
    table: &Table,
    (ids, scale): (&[u32], f32),
    out: &mut Tensor,
) {
    launch(context, ["embed_f32", "embed_bf16"], table, (ids, scale), out);
}

/// `x[t] += table[ids[t]]`.
pub(super) fn embed_add(context: &Context, table: &Table, ids: &[u32], x: &mut Tensor) {
    launch(context, ["embed_add_f32", "embed_add_bf16"], table, (ids, 1.0), x);
}

fn launch(
    context: &Context,
    names: [&'static str; 2],
    table: &Table,
    (ids, scale): (&[u32], f32),
    out: &Tensor,
) {
    assert_eq!((out.rows(), out.cols()), (ids.len(), table.cols));
    assert!(ids.iter().all(|id| (*id as usize) < table.rows), "an id beyond the table");
    let args = EmbedArgs {
        table: table.values.start(),
        ids: context.upload(ids),
        out: out.start(),
        table_stride: stride(table.cols) as u64,
        rows: count(out.rows()),
        cols: count(out.cols()),
        stride: count(out.stride()),
        scale,
    };
    let grid = by_rows(out.rows(), packs(out.element(), out.cols()), AHEAD);
    // SAFETY: the shapes and the ids are checked above; the tensors outlive the batch.
    unsafe { context.launch(out.element().pick(names), (grid, 0), &args) }
}
