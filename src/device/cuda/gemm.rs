//! gemm: `out = x W^T + b` and what becomes of it. The only file that knows which kernel multiplies.
//!
//! On Hopper bf16 goes through wgmma, elsewhere through mma.sync. The two round differently, so the
//! number of rows must not choose between them: a site's values would depend on how the corpus is
//! cut into batches. The tiles of one kind sum in one order; among them rows may choose.
#![expect(unsafe_code, reason = "launches a kernel")]

use super::buffer::{Element, Matrix, Tensor, stride};
use super::context::{Context, args};
use super::driver::{Ptr, TensorMap};
use super::grid::count;
use crate::device::ops::Epilogue;

args! {
    /// See `kernels/gemm.cu`.
    struct GemmArgs {
        x: Ptr,
        w: Ptr,
        bias: Ptr,
        other: Ptr,
        out: Ptr,
        x_stride: u64,
        w_stride: u64,
        other_stride: u64,
        out_stride: u64,
        rows: u32,
        columns: u32,
        inner: u32,
        epilogue: u32,
    }
}

args! {
    /// See `kernels/gemm_sm90.cu`.
    struct GemmSm90Args {
        x_map: TensorMap,
        w_map: TensorMap,
        bias: Ptr,
        other: Ptr,
        out: Ptr,
        other_stride: u64,
        out_stride: u64,
        rows: u32,
        columns: u32,
        inner: u32,
        epilogue: u32,
        down: u32,
        across: u32,
    }
}

/// A kernel by the tile of `out` that one block makes.
struct Tile {
    /// `[f32, bf16]`.
    kernels: [&'static str; 2],
    /// Of each of the two.
    rows: [usize; 2],
    columns: [usize; 2],
}

/// Four slots of 64 bytes of each row of x and of W.
const LARGE: Tile = Tile { kernels: ["gemm_f32", "gemm_bf16"], rows: [128; 2], columns: [128; 2] };
const SMALL: Tile =
    Tile { kernels: ["gemm_small_f32", "gemm_small_bf16"], rows: [32; 2], columns: [32, 64] };
const SLOTS: usize = 4;
const SLOT_ROW: usize = 64;

/// The same on Hopper: two tiles of the same rows, slots of 128 bytes of each row, and beside them the
/// finished tile.
struct HopperTile {
    kernel: &'static str,
    columns: usize,
    slots: usize,
}
const HOPPER_ROWS: usize = 128;
const HOPPER_SLOT_ROW: usize = 128;
const WIDE: HopperTile = HopperTile { kernel: "gemm_sm90_bf16", columns: 256, slots: 3 };
const NARROW: HopperTile = HopperTile { kernel: "gemm_sm90_narrow_bf16", columns: 128, slots: 5 };

/// `out = then(x w^T + b)`.
pub(super) fn linear(
    context: &Context,
    weight: &Matrix,
    (x, then): (&Tensor, Epilogue<'_, Tensor>),
    out: &mut Tensor,
) {
    assert_eq!((out.rows(), out.cols()), (x.rows(), weight.out));
    assert_eq!((x.cols(), x.element()), (weight.inner, out.element()));
    assert!(x.stride() > 1, "rows start at multiples of 16 bytes");
    assert!(weight.weight.bytes() >= weight.out * stride(weight.inner) * x.element().size());
    if x.rows() == 0 {
        return;
    }
    let then = finish(&then, out);
    if x.element() == Element::Bf16 && context.arch() == (9, 0) {
        hopper(context, weight, (x, then), out);
    } else {
        any(context, weight, (x, then), out);
    }
}

/// What the kernels call an epilogue, and the tensor it needs.
fn finish(then: &Epilogue<'_, Tensor>, out: &Tensor) -> (u32, Ptr, usize) {
    match then {
        Epilogue::Store => (0, out.start(), out.stride()),
        Epilogue::Multiply(a) => {
            assert_eq!((a.rows(), a.cols(), a.element()), (out.rows(), out.cols(), out.element()));
            (1, a.start(), a.stride())
        }
        Epilogue::Add(_) => (2, out.start(), out.stride()),
        Epilogue::Activate(kind) => (3 + *kind as u32, out.start(), out.stride()),
    }
}

/// On every architecture.
fn any(
    context: &Context,
    weight: &Matrix,
    (x, (epilogue, other, other_stride)): (&Tensor, (u32, Ptr, usize)),
    out: &Tensor,
) {
    let element = usize::from(x.element() == Element::Bf16);
    let blocks = |tile: &Tile| {
        x.rows().div_ceil(tile.rows[element]) * weight.out.div_ceil(tile.columns[element])
    };
    // Less than a block for each processor: smaller tiles, with the same bits.
    let few = blocks(&LARGE) < context.processors() as usize;
    let tile = if few { &SMALL } else { &LARGE };
    let args = GemmArgs {
        x: x.start(),
        w: weight.weight.start(),
        bias: weight.bias.as_ref().map_or(Ptr::NULL, |bias| bias.start()),
        other,
        out: out.start(),
        x_stride: x.stride() as u64,
        w_stride: stride(weight.inner) as u64,
        other_stride: other_stride as u64,
        out_stride: out.stride() as u64,
        rows: count(x.rows()),
        columns: count(weight.out),
        inner: count(weight.inner),
        epilogue,
    };
    let shared = SLOTS * SLOT_ROW * (tile.rows[element] + tile.columns[element]);
    let grid = [count(blocks(tile)), 1, 1];
    // SAFETY: x, w, out and the other tensor hold the rows and columns asserted in `linear`, the
    // bias a value for each column.
    unsafe { context.launch(tile.kernels[element], (grid, count(shared)), &args) }
}

/// On Hopper, bf16.
fn hopper(
    context: &Context,
    weight: &Matrix,
    (x, (epilogue, other, other_stride)): (&Tensor, (u32, Ptr, usize)),
    out: &Tensor,
) {
    let tile = hopper_tile(weight.out);
    let (rows, inner) = (x.rows(), weight.inner);
    let (down, across) = (rows.div_ceil(HOPPER_ROWS), weight.out.div_ceil(tile.columns));
    let w_shape = (weight.out, inner, stride(inner));
    let args = GemmSm90Args {
        x_map: context.tensor_map(x.start(), (rows, inner, x.stride()), count(HOPPER_ROWS)),
        w_map: context.tensor_map(weight.weight.start(), w_shape, count(tile.columns)),
        bias: weight.bias.as_ref().map_or(Ptr::NULL, |bias| bias.start()),
        other,
        out: out.start(),
        other_stride: other_stride as u64,
        out_stride: out.stride() as u64,
        rows: count(rows),
        columns: count(weight.out),
        inner: count(inner),
        epilogue,
        down: count(down),
        across: count(across),
    };
    let slots = tile.slots * HOPPER_SLOT_ROW * (HOPPER_ROWS + tile.columns);
    let shared = slots + HOPPER_ROWS * tile.columns * Element::Bf16.size();
    let grid = [count(down * across).min(context.processors()), 1, 1];
    // SAFETY: as in `any`; the copies see the matrices through maps of their shapes.
    unsafe { context.launch(tile.kernel, (grid, count(shared)), &args) }
}

/// The wide tile is about a sixth faster where it is full; the narrow one multiplies fewer columns
/// that are not there.
fn hopper_tile(columns: usize) -> &'static HopperTile {
    let (wide, narrow) = (columns.next_multiple_of(256), columns.next_multiple_of(128));
    if wide * 6 > narrow * 7 { &NARROW } else { &WIDE }
}
