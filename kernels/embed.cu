// embed: rows of a table, looked up by token and written or added.
//
//   table  [entries, cols] of T   rows `table_stride` elements apart
//   ids    [rows] u32             checked on the host
//   out    [rows, cols] of T      rows `stride` elements apart
//
// Bytes  embed: 2 T C s + 4 T, embed_add: 3 T C s + 4 T (s = 2 or 4 bytes)   Flops  T C
// Floor  embed, T = 8192, C = 4096, bf16: 134 MB, 31 us at 4.3 TB/s -> bound by memory
// A warp has a part of a row: one id for all its lanes, and four packs of each lane under way.
#include "row.cuh"

struct EmbedArgs {
    const void* table;
    const u32* ids;
    void* out;
    u64 table_stride;
    u32 rows;
    u32 cols;
    u32 stride;
    float scale;
};

constexpr u32 AHEAD = 4;  // packs of a lane; the host divides the columns by 32 of them
constexpr u32 WARPS = 8;  // rows of a block

template <class T, bool ADD> DEVICE float entered(const EmbedArgs& a, T old, T entry) {
    return ADD ? to_float(old) + to_float(entry) : a.scale * to_float(entry);
}

template <class T, bool ADD> DEVICE void embed_packs(const EmbedArgs& a, const T* from, T* out) {
    constexpr u32 SIZE = Pack<T>::SIZE;
    const u32 first = (blockIdx.y * AHEAD * WARP + lane_id()) * SIZE;
    Pack<T> entry[AHEAD], old[AHEAD] = {};
#pragma unroll
    for (u32 k = 0; k < AHEAD; ++k) {
        const u32 at = first + k * WARP * SIZE;
        const u32 left = at < a.cols ? a.cols - at : 0;
        entry[k] = load_part<true>(from + at, left);
        if constexpr (ADD) old[k] = load_part<true>(out + at, left);
    }
#pragma unroll
    for (u32 k = 0; k < AHEAD; ++k) {
        const u32 at = first + k * WARP * SIZE;
        if (at >= a.cols) break;
        float values[SIZE];
        for (u32 i = 0; i < SIZE; ++i) {
            values[i] = entered<T, ADD>(a, old[k].at[i], entry[k].at[i]);
        }
        store_part<true>(out + at, pack_of<T>(values), a.cols - at);
    }
}

template <class T, bool ADD> DEVICE void embed(const EmbedArgs& a) {
    const u32 row = blockIdx.x * WARPS + warp_id();
    if (row >= a.rows) return;
    const T* from = static_cast<const T*>(a.table) + a.ids[row] * a.table_stride;
    T* out = static_cast<T*>(a.out) + (u64)row * a.stride;
    if (a.cols > 1) {
        embed_packs<T, ADD>(a, from, out);
    } else if (lane_id() == 0) {
        out[0] = from_float<T>(entered<T, ADD>(a, out[0], from[0]));
    }
}

KERNEL(embed_f32, EmbedArgs, 256) { embed<float, false>(a); }
KERNEL(embed_bf16, EmbedArgs, 256) { embed<bf16, false>(a); }
KERNEL(embed_add_f32, EmbedArgs, 256) { embed<float, true>(a); }
KERNEL(embed_add_bf16, EmbedArgs, 256) { embed<bf16, true>(a); }
