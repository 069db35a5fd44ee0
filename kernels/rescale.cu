// rescale: columns shifted and scaled in place, x[r][c] = (x[r][c] - shift[c]) * scale[c].
//
//   x             [rows, cols] of T   rows `stride` elements apart
//   shift, scale  [cols] f32
//
// Bytes  2 R C s (s = 2 or 4 bytes) + 8 C for every 32 rows   Flops  2 R C
// Floor  R = 8192, C = 4096, bf16: 134 + 8 MB, 33 us at 4.3 TB/s -> bound by memory
// A thread has a pack of columns, whose shift and scale it keeps, and walks down some rows. Four rows are
// under way at a time.
#include "row.cuh"

struct RescaleArgs {
    const float* shift;
    const float* scale;
    void* x;
    u64 stride;
    u32 rows;
    u32 cols;
};

constexpr u32 THREADS = 128;
constexpr u32 ROWS = 32;  // of a block; the host divides the rows by it
constexpr u32 AHEAD = 4;

template <class T, bool WIDE> DEVICE void rescale_rows(const RescaleArgs& a) {
    constexpr u32 SIZE = Pack<T>::SIZE;
    const u32 at = (blockIdx.y * THREADS + threadIdx.x) * SIZE;
    if (at >= a.cols) return;
    const u32 left = a.cols - at;
    float shift[SIZE], scale[SIZE];
    load_floats<WIDE>(shift, a.shift + at, left);
    load_floats<WIDE>(scale, a.scale + at, left);
    T* x = static_cast<T*>(a.x) + at;
    const u32 end = smaller((blockIdx.x + 1) * ROWS, a.rows);
#pragma unroll 1
    for (u32 row = blockIdx.x * ROWS; row < end; row += AHEAD) {
        Pack<T> packs[AHEAD];
#pragma unroll
        for (u32 k = 0; k < AHEAD; ++k) {
            packs[k] = load_part<WIDE>(x + (u64)(row + k) * a.stride, row + k < end ? left : 0);
        }
#pragma unroll
        for (u32 k = 0; k < AHEAD; ++k) {
            if (row + k >= end) break;
            float values[SIZE];
            for (u32 i = 0; i < SIZE; ++i) {
                values[i] = (to_float(packs[k].at[i]) - shift[i]) * scale[i];
            }
            store_part<WIDE>(x + (u64)(row + k) * a.stride, pack_of<T>(values), left);
        }
    }
}

template <class T> DEVICE void rescale(const RescaleArgs& a) {
    if (a.stride % Pack<T>::SIZE == 0) {
        rescale_rows<T, true>(a);
    } else {
        rescale_rows<T, false>(a);
    }
}

KERNEL(rescale_f32, RescaleArgs, THREADS) { rescale<float>(a); }
KERNEL(rescale_bf16, RescaleArgs, THREADS) { rescale<bf16>(a); }
