// edit: writes into chosen columns of chosen tokens: x = v, x = v x or x = x + v.
//
//   x        [tokens, ...] of T   rows `stride` elements apart
//   tokens   [rows] u32           rows that are written, none twice; null: the first `rows`
//   columns  [cols] u32           columns that are written, none twice (edit_listed alone)
//   values   [cols] f32           one per column written; null: `value` for all
//
// Bytes  listed columns: about 64 R C, a sector read and written for each; all: 2 R C s
// Flops  R C
// Floor  all, R = 8192, C = 4096, bf16: 134 MB, 31 us at 4.3 TB/s -> bound by memory
// The host takes care that nothing is listed twice: an element has one thread that writes it.
#include "row.cuh"

struct EditArgs {
    const u32* tokens;
    const u32* columns;
    const float* values;
    void* x;
    u64 stride;
    u32 rows;
    u32 cols;
    u32 write;
    float value;
};

// Numbered in the order of the variants of crate::device::ops::Write; 2 is Add.
constexpr u32 SET = 0;
constexpr u32 SCALE = 1;

constexpr u32 AHEAD = 4;  // columns or packs of a lane; the host divides the columns by 32 of them
constexpr u32 WARPS = 8;  // rows of a block

DEVICE float written(u32 write, float x, float value) {
    if (write == SET) return value;
    return write == SCALE ? value * x : x + value;
}

DEVICE u64 row_start(const EditArgs& a, u32 row) {
    return (a.tokens != nullptr ? a.tokens[row] : row) * a.stride;
}

template <class T> DEVICE void edit_listed(const EditArgs& a) {
    const u32 row = blockIdx.x * WARPS + warp_id();
    if (row >= a.rows) return;
    T* x = static_cast<T*>(a.x) + row_start(a, row);
    const u32 first = blockIdx.y * AHEAD * WARP + lane_id();
#pragma unroll
    for (u32 k = 0; k < AHEAD; ++k) {
        const u32 i = first + k * WARP;
        if (i >= a.cols) break;
        T& element = x[a.columns[i]];
        const float value = a.values != nullptr ? a.values[i] : a.value;
        element = from_float<T>(written(a.write, to_float(element), value));
    }
}

template <class T, bool WIDE> DEVICE void edit_row(const EditArgs& a) {
    constexpr u32 SIZE = Pack<T>::SIZE;
    const u32 row = blockIdx.x * WARPS + warp_id();
    if (row >= a.rows) return;
    T* x = static_cast<T*>(a.x) + row_start(a, row);
    const u32 first = (blockIdx.y * AHEAD * WARP + lane_id()) * SIZE;
    Pack<T> old[AHEAD];
#pragma unroll
    for (u32 k = 0; k < AHEAD; ++k) {
        const u32 at = first + k * WARP * SIZE;
        old[k] = load_part<WIDE>(x + at, at < a.cols ? a.cols - at : 0);
    }
#pragma unroll
    for (u32 k = 0; k < AHEAD; ++k) {
        const u32 at = first + k * WARP * SIZE;
        if (at >= a.cols) break;
        float values[SIZE];
        if (a.values != nullptr) {
            load_floats<WIDE>(values, a.values + at, a.cols - at);
        } else {
            for (u32 i = 0; i < SIZE; ++i) values[i] = a.value;
        }
        for (u32 i = 0; i < SIZE; ++i) {
            values[i] = written(a.write, to_float(old[k].at[i]), values[i]);
        }
        store_part<WIDE>(x + at, pack_of<T>(values), a.cols - at);
    }
}

template <class T> DEVICE void edit_all(const EditArgs& a) {
    if (a.stride % Pack<T>::SIZE == 0) {
        edit_row<T, true>(a);
    } else {
        edit_row<T, false>(a);
    }
}

KERNEL(edit_listed_f32, EditArgs, 256) { edit_listed<float>(a); }
KERNEL(edit_listed_bf16, EditArgs, 256) { edit_listed<bf16>(a); }
KERNEL(edit_all_f32, EditArgs, 256) { edit_all<float>(a); }
KERNEL(edit_all_bf16, EditArgs, 256) { edit_all<bf16>(a); }
