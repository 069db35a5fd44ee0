// What norms and their gradients share: who sums over a run of columns, and loads of whole packs.
#pragma once
#include "row.cuh"

constexpr u32 HELD = 32;  // values of a run that a thread keeps in registers

// Who shares a run: some lanes of a warp, or the block. `sum` is called by whole warps.
struct Lanes {
    static constexpr bool LONG = false;
    u32 threads;
    u32 index;
    DEVICE float sum(float x, u32) const {
        for (u32 step = threads / 2; step > 0; step /= 2) x += __shfl_xor_sync(FULL, x, step);
        return x;
    }
};
struct Block {
    static constexpr bool LONG = true;  // Runs may be longer than what its threads hold.
    u32 threads;
    u32 index;
    float* scratch;  // 32 for each sum of a run
    DEVICE float sum(float x, u32 which) const { return block_sum(x, scratch + which * WARP); }
};

template <class T, u32 N> DEVICE void load(float (&v)[N], const T* from) {
    for (u32 k = 0; k < N; k += Pack<T>::SIZE) {
        const Pack<T> pack = load_pack(from + k);
        for (u32 i = 0; i < Pack<T>::SIZE; ++i) v[k + i] = to_float(pack.at[i]);
    }
}
