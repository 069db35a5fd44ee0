// scatter: rows added to chosen rows of a tensor, out[rows[r]] += g[r], or put in their place.
//
//   rows  [count] u32         none twice; checked on the host
//   g     [count, cols] of T  rows `stride` elements apart
//   out   [tokens, cols] of T the same stride
//
// Bytes  scatter: 3 R C s + 4 R, put_rows: 2 R C s + 4 R (s = 2 or 4 bytes)   Flops  R C
// Floor  scatter, R = 8192, C = 4096, bf16: 201 MB, 47 us at 4.3 TB/s -> bound by memory
// No row is listed twice, so an element has one thread that writes it, and no order to depend on.
// A warp has a part of a row: one number for all its lanes, and four packs of each lane under way.
#include "row.cuh"

struct ScatterArgs {
    const u32* rows;
    const void* g;
    void* out;
    u64 stride;
    u32 count;
    u32 cols;
};

constexpr u32 AHEAD = 4;  // packs of a lane; the host divides the columns by 32 of them
constexpr u32 WARPS = 8;  // rows of a block

template <class T, bool ADD, bool WIDE> DEVICE void scatter_row(const ScatterArgs& a) {
    constexpr u32 SIZE = Pack<T>::SIZE;
    const u32 row = blockIdx.x * WARPS + warp_id();
    if (row >= a.count) return;
    const T* g = static_cast<const T*>(a.g) + row * a.stride;
    T* out = static_cast<T*>(a.out) + a.rows[row] * a.stride;
    const u32 first = (blockIdx.y * AHEAD * WARP + lane_id()) * SIZE;
    Pack<T> old[AHEAD] = {}, more[AHEAD];
#pragma unroll
    for (u32 k = 0; k < AHEAD; ++k) {
        const u32 at = first + k * WARP * SIZE;
        const u32 left = at < a.cols ? a.cols - at : 0;
        if constexpr (ADD) old[k] = load_part<WIDE>(out + at, left);
        more[k] = load_part<WIDE>(g + at, left);
    }
#pragma unroll
    for (u32 k = 0; k < AHEAD; ++k) {
        const u32 at = first + k * WARP * SIZE;
        if (at >= a.cols) break;
        if constexpr (ADD) {
            float values[SIZE];
            for (u32 i = 0; i < SIZE; ++i) {
                values[i] = to_float(old[k].at[i]) + to_float(more[k].at[i]);
            }
            more[k] = pack_of<T>(values);
        }
        store_part<WIDE>(out + at, more[k], a.cols - at);
    }
}

template <class T, bool ADD> DEVICE void scatter(const ScatterArgs& a) {
    if (a.stride % Pack<T>::SIZE == 0) {
        scatter_row<T, ADD, true>(a);
    } else {
        scatter_row<T, ADD, false>(a);
    }
}

KERNEL(scatter_f32, ScatterArgs, 256) { scatter<float, true>(a); }
KERNEL(scatter_bf16, ScatterArgs, 256) { scatter<bf16, true>(a); }
KERNEL(put_rows_f32, ScatterArgs, 256) { scatter<float, false>(a); }
KERNEL(put_rows_bf16, ScatterArgs, 256) { scatter<bf16, false>(a); }
