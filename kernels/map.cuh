// Functions of whole tensors, element by element: a run of elements, the gaps between rows included.
//
// Each thread has AHEAD packs of each operand under way: at 2048 threads a processor that is more
// than the latency of memory can hide.
#pragma once
#include "row.cuh"

constexpr u32 AHEAD = 2;

template <class T, bool TWO, bool WIDE, class F>
DEVICE void map_packs(const T* x, const T* y, T* out, u64 first, u64 elements, const F& f) {
    constexpr u32 SIZE = Pack<T>::SIZE;
    Pack<T> xs[AHEAD], ys[AHEAD];
#pragma unroll
    for (u32 k = 0; k < AHEAD; ++k) {
        const u64 at = first + (u64)k * blockDim.x * SIZE;
        const u32 left = pack_left<WIDE, SIZE>(at, elements);
        xs[k] = load_part<WIDE>(x + at, left);
        if constexpr (TWO) ys[k] = load_part<WIDE>(y + at, left);
    }
#pragma unroll
    for (u32 k = 0; k < AHEAD; ++k) {
        const u64 at = first + (u64)k * blockDim.x * SIZE;
        float values[SIZE];
        for (u32 i = 0; i < SIZE; ++i) {
            values[i] = f(to_float(xs[k].at[i]), TWO ? to_float(ys[k].at[i]) : 0.0f);
        }
        store_part<WIDE>(out + at, pack_of<T>(values), pack_left<WIDE, SIZE>(at, elements));
    }
}

// This thread's part of out = f(x, y), or f(x, 0) without TWO; `out` may be x or y. Each block has
// blockDim.x * AHEAD packs; all but the last one's are known to be whole.
template <class T, bool TWO, class F>
DEVICE void map_elements(const T* x, const T* y, T* out, u64 elements, const F& f) {
    const u64 tile = (u64)AHEAD * blockDim.x * Pack<T>::SIZE;
    const u64 first = blockIdx.x * tile + threadIdx.x * Pack<T>::SIZE;
    if ((blockIdx.x + 1) * tile <= elements) {
        map_packs<T, TWO, true>(x, y, out, first, elements, f);
    } else {
        map_packs<T, TWO, false>(x, y, out, first, elements, f);
    }
}
