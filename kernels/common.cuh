// What every kernel includes: types, packs of 16 bytes, reductions, and the form of an entry point.
// No CUDA header is needed. The instructions come from device.cuh on a GPU, and from their twins in
// tests/fake-cuda when EL_HOST is defined: the same kernel text then runs as host C++.
#pragma once

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;
typedef int i32;

// Brain float: the upper half of a float32.
struct bf16 {
    u16 bits;
};

#ifdef EL_HOST
#include "twin.hpp"
#else
#include "device.cuh"
#endif

// An entry point NAME(const Args a) of THREADS threads a block. Its argument is one struct by
// value; the loader reads the struct's size and the number of threads from the image, and refuses a
// host struct of another size. BLOCKS is the least number of blocks that must fit on a processor.
#define KERNEL_OF(NAME, ARGS, THREADS, BLOCKS)                                                     \
    extern "C" {                                                                                   \
    __device__ u32 NAME##_published[2] = {(u32)sizeof(ARGS), THREADS};                             \
    }                                                                                              \
    extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS)                                  \
        NAME(const __grid_constant__ ARGS a)
#define KERNEL(NAME, ARGS, THREADS) KERNEL_OF(NAME, ARGS, THREADS, 1)

#define DEVICE __device__ __forceinline__
constexpr u32 FULL = 0xffffffffu;  // every lane of a warp
constexpr u32 WARP = 32;

template <class T> DEVICE T smaller(T a, T b) { return b < a ? b : a; }
template <class T> DEVICE T larger(T a, T b) { return a < b ? b : a; }
DEVICE u32 ceil_div(u32 a, u32 b) { return (a + b - 1) / b; }
DEVICE u32 lane_id() { return threadIdx.x % WARP; }
DEVICE u32 warp_id() { return threadIdx.x / WARP; }

// bf16 <-> float: round to nearest even, NaN stays NaN.
DEVICE float to_float(bf16 x) { return float_of_bits((u32)x.bits << 16); }
DEVICE float to_float(float x) { return x; }
template <class T> DEVICE T from_float(float x);
template <> DEVICE float from_float<float>(float x) { return x; }
template <> DEVICE bf16 from_float<bf16>(float x) { return bf16{(u16)(pack_bf16x2(x, 0.0f) & 0xffffu)}; }
// The two halves of a packed pair; the first element is the lower half.
DEVICE float low_bf16(u32 pair) { return float_of_bits(pair << 16); }
DEVICE float high_bf16(u32 pair) { return float_of_bits(pair & 0xffff0000u); }

// The bits of infinity; what has all of them is infinite or NaN.
constexpr u32 INFINITE = 0x7f800000u;
DEVICE bool is_finite(float x) { return (bits_of_float(x) & INFINITE) != INFINITE; }
// The logit of what never happens: minus infinity.
DEVICE float never() { return float_of_bits(INFINITE | 0x80000000u); }

// 16 bytes of neighbouring elements; the address must be a multiple of 16.
template <class T> struct alignas(16) Pack {
    static constexpr u32 SIZE = 16 / sizeof(T);
    T at[SIZE];
};
template <class T> DEVICE Pack<T> load_pack(const T* from) {
    return *reinterpret_cast<const Pack<T>*>(from);
}
template <class T> DEVICE void store_pack(T* to, const Pack<T>& pack) {
    *reinterpret_cast<Pack<T>*>(to) = pack;
}

// Over the lanes of a whole warp, in one fixed order; every lane gets the result.
DEVICE float warp_sum(float x) {
    for (u32 step = WARP / 2; step > 0; step /= 2) x += __shfl_xor_sync(FULL, x, step);
    return x;
}
DEVICE float warp_max(float x) {
    for (u32 step = WARP / 2; step > 0; step /= 2) x = larger(x, __shfl_xor_sync(FULL, x, step));
    return x;
}
// Over a block of whole warps (at most 32); `scratch` is 32 floats of shared memory, free again
// after the next barrier of the caller.
DEVICE float block_sum(float x, float* scratch) {
    x = warp_sum(x);
    if (lane_id() == 0) scratch[warp_id()] = x;
    __syncthreads();
    x = lane_id() < blockDim.x / WARP ? scratch[lane_id()] : 0.0f;
    return warp_sum(x);
}
