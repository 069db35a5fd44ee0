// pick_logits: the difference of two logits of each row, without the others:
//   out[r] = (w[ids[r]] - w[others[r]]) . x[r] + bias[ids[r]] - bias[others[r]]
//
//   w            [classes, cols] of T  rows `w_stride` elements apart
//   bias         [classes] f32         or null
//   ids, others  [rows] u32            checked on the host
//   x            [rows, cols] of T     rows `x_stride` elements apart
//   out          [rows] f32            `out_stride` elements apart
//
// Bytes  3 R C s (s = 2 or 4 bytes), less where rows share answers   Flops  3 R C
// Floor  R = 8192, C = 4096, bf16: 201 MB, 47 us at 4.3 TB/s -> bound by memory
// A warp has a row; which lane has which columns depends on their number alone, so a row's bits do too.
#include "row.cuh"

struct PickLogitsArgs {
    const void* w;
    const float* bias;
    const u32* ids;
    const u32* others;
    const void* x;
    float* out;
    u64 w_stride;
    u64 x_stride;
    u64 out_stride;
    u32 rows;
    u32 cols;
};

constexpr u32 WARPS = 8;  // rows of a block

template <class T, bool WIDE>
DEVICE float difference(const T* a, const T* b, const T* x, u32 cols) {
    constexpr u32 SIZE = Pack<T>::SIZE;
    float sum = 0.0f;
    for (u32 at = lane_id() * SIZE; at < cols; at += WARP * SIZE) {
        const u32 left = cols - at;
        const Pack<T> as = load_part<WIDE>(a + at, left);
        const Pack<T> bs = load_part<WIDE>(b + at, left);
        const Pack<T> xs = load_part<WIDE>(x + at, left);
        float some = 0.0f;
        for (u32 i = 0; i < SIZE; ++i) {
            // What stands in a gap is not used.
            const float term = (to_float(as.at[i]) - to_float(bs.at[i])) * to_float(xs.at[i]);
            some += i < left ? term : 0.0f;
        }
        sum += some;
    }
    return warp_sum(sum);
}

template <class T> DEVICE void pick_logits(const PickLogitsArgs& a) {
    const u32 row = blockIdx.x * WARPS + warp_id();
    if (row >= a.rows) return;
    const u32 id = a.ids[row], other = a.others[row];
    const T* w = static_cast<const T*>(a.w);
    const T* x = static_cast<const T*>(a.x) + row * a.x_stride;
    const bool wide = (a.w_stride | a.x_stride) % Pack<T>::SIZE == 0;
    float picked = wide ? difference<T, true>(w + id * a.w_stride, w + other * a.w_stride, x, a.cols)
                        : difference<T, false>(w + id * a.w_stride, w + other * a.w_stride, x, a.cols);
    if (a.bias != nullptr) picked += a.bias[id] - a.bias[other];
    if (lane_id() == 0) a.out[row * a.out_stride] = picked;
}

KERNEL(pick_logits_f32, PickLogitsArgs, 256) { pick_logits<float>(a); }
KERNEL(pick_logits_bf16, PickLogitsArgs, 256) { pick_logits<bf16>(a); }
