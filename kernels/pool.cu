// pool: runs of consecutive tokens put together into one row each.
//
//   x            [tokens, cols] of T   rows `stride` elements apart
//   first, len   [runs] u32            run r is the rows first[r] .. first[r] + len[r], at least one
//   out          [runs, cols] of T     the same stride
//
// Bytes  (tokens of runs + R) C s + 8 R (first, last: 2 R C s)   Flops  tokens of runs * C
// Floor  mean, 8192 tokens in runs, R = 4096, C = 4096, bf16: 101 MB, 23 us at 4.3 TB/s
//        -> bound by memory
// A lane has one pack of columns and walks down the run, four rows under way: sums are taken in
// row order, so they do not depend on what else is in the batch.
#include "row.cuh"

struct PoolArgs {
    const void* x;
    const u32* first;
    const u32* len;
    void* out;
    u32 runs;
    u32 cols;
    u32 stride;
    u32 how;
};

// Numbered in the order of the variants of crate::device::ops::Pooling; 0 is First.
constexpr u32 LAST = 1;
constexpr u32 MEAN = 2;
constexpr u32 MAX = 3;

constexpr u32 AHEAD = 4;
constexpr u32 WARPS = 8;  // runs of a block

DEVICE float pool_two(u32 how, float sum, float x) {
    if (how == MEAN) return sum + x;
    // A NaN must stay visible to the statistics.
    return x > sum || x != x ? x : sum;
}

template <class T, bool WIDE> DEVICE void pool_run(const PoolArgs& a) {
    constexpr u32 SIZE = Pack<T>::SIZE;
    const u32 run = blockIdx.x * WARPS + warp_id();
    const u32 at = (blockIdx.y * WARP + lane_id()) * SIZE;
    if (run >= a.runs || at >= a.cols) return;
    const u32 left = a.cols - at;
    const u32 len = a.len[run];
    const u32 begin = a.first[run] + (a.how == LAST ? len - 1 : 0);
    const u32 count = a.how == MEAN || a.how == MAX ? len : 1;
    const T* x = static_cast<const T*>(a.x) + (u64)begin * a.stride + at;
    float pooled[SIZE];
    const Pack<T> top = load_part<WIDE>(x, left);
    for (u32 i = 0; i < SIZE; ++i) pooled[i] = to_float(top.at[i]);
    for (u32 t = 1; t < count; t += AHEAD) {
        Pack<T> rows[AHEAD];
#pragma unroll
        for (u32 k = 0; k < AHEAD; ++k) {
            rows[k] = load_part<WIDE>(x + (u64)(t + k) * a.stride, t + k < count ? left : 0);
        }
#pragma unroll
        for (u32 k = 0; k < AHEAD; ++k) {
            if (t + k >= count) break;
            for (u32 i = 0; i < SIZE; ++i) {
                pooled[i] = pool_two(a.how, pooled[i], to_float(rows[k].at[i]));
            }
        }
    }
    if (a.how == MEAN) {
        for (u32 i = 0; i < SIZE; ++i) pooled[i] /= (float)len;
    }
    store_part<WIDE>(static_cast<T*>(a.out) + (u64)run * a.stride + at, pack_of<T>(pooled), left);
}

template <class T> DEVICE void pool(const PoolArgs& a) {
    if (a.stride % Pack<T>::SIZE == 0) {
        pool_run<T, true>(a);
    } else {
        pool_run<T, false>(a);
    }
}

KERNEL(pool_f32, PoolArgs, 256) { pool<float>(a); }
KERNEL(pool_bf16, PoolArgs, 256) { pool<bf16>(a); }
