// residual: sums of whole tensors, element by element. (A copy is the driver's.)
//
//   x, y  [rows, cols] of T, rows `stride` elements apart; gaps are summed like the rest
//
// Bytes  3 T C s (s = 2 or 4 bytes)   Flops  T C
// Floor  T = 8192, C = 4096, bf16: 201 MB, 47 us at 4.3 TB/s -> bound by memory
#include "row.cuh"

struct ResidualArgs {
    const void* y;
    void* x;
    u64 elements;  // gaps between rows included
};

constexpr u32 AHEAD = 2;  // packs of a thread

template <class T, bool WIDE> DEVICE void add_packs(const ResidualArgs& a, u64 first) {
    constexpr u32 SIZE = Pack<T>::SIZE;
    const T* y = static_cast<const T*>(a.y);
    T* x = static_cast<T*>(a.x);
    Pack<T> sums[AHEAD], more[AHEAD];
#pragma unroll
    for (u32 k = 0; k < AHEAD; ++k) {
        const u64 at = first + (u64)k * blockDim.x * SIZE;
        const u32 left = pack_left<WIDE, SIZE>(at, a.elements);
        sums[k] = load_part<WIDE>(x + at, left);
        more[k] = load_part<WIDE>(y + at, left);
    }
#pragma unroll
    for (u32 k = 0; k < AHEAD; ++k) {
        const u64 at = first + (u64)k * blockDim.x * SIZE;
        float values[SIZE];
        for (u32 i = 0; i < SIZE; ++i) {
            values[i] = to_float(sums[k].at[i]) + to_float(more[k].at[i]);
        }
        store_part<WIDE>(x + at, pack_of<T>(values), pack_left<WIDE, SIZE>(at, a.elements));
    }
}

template <class T> DEVICE void add(const ResidualArgs& a) {
    const u64 tile = (u64)AHEAD * blockDim.x * Pack<T>::SIZE;
    const u64 first = blockIdx.x * tile + threadIdx.x * Pack<T>::SIZE;
    if ((blockIdx.x + 1) * tile <= a.elements) {
        add_packs<T, true>(a, first);
    } else {
        add_packs<T, false>(a, first);
    }
}

KERNEL(add_f32, ResidualArgs, 256) { add<float>(a); }
KERNEL(add_bf16, ResidualArgs, 256) { add<bf16>(a); }
