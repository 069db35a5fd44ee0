// The words of CUDA C++ that kernels use, for a host compiler: qualifiers, thread indices, warp
// functions, atomics on integers, bit functions and fast maths. Only what our kernels need; a word
// missing here is a question whether a kernel should use it.
#pragma once
#include <math.h>

#include "world.hpp"

#define __global__
#define __device__
#define __host__
#define __constant__
#define __forceinline__ inline __attribute__((always_inline))
#define __noinline__ __attribute__((noinline))
#define __launch_bounds__(...)
#define __grid_constant__
#define __align__(N) alignas(N)

#define threadIdx (::fake::place->thread)
#define blockIdx (::fake::place->block)
#define blockDim (::fake::place->block_dim)
#define gridDim (::fake::place->grid_dim)
#define warpSize 32

struct alignas(8) float2 {
    float x, y;
};
struct alignas(16) float4 {
    float x, y, z, w;
};
struct alignas(8) uint2 {
    unsigned x, y;
};
struct alignas(16) uint4 {
    unsigned x, y, z, w;
};
static inline float2 make_float2(float x, float y) { return {x, y}; }
static inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }
static inline uint2 make_uint2(unsigned x, unsigned y) { return {x, y}; }
static inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) {
    return {x, y, z, w};
}

// --- Barriers and fences ---

static inline void __syncthreads(FAKE_SITE) { fake::block_barrier(fake::Vote::none, 0, site); }
static inline int __syncthreads_and(int x, FAKE_SITE) {
    return fake::block_barrier(fake::Vote::all, x, site);
}
static inline int __syncthreads_or(int x, FAKE_SITE) {
    return fake::block_barrier(fake::Vote::any, x, site);
}
static inline int __syncthreads_count(int x, FAKE_SITE) {
    return fake::block_barrier(fake::Vote::count, x, site);
}
static inline void __syncwarp(unsigned mask = 0xffffffffu, FAKE_SITE) {
    fake::warp_barrier(mask, site);
}
// Threads run one at a time and see each other's writes; the sanitizer wants to be told.
static inline void __threadfence() { __atomic_thread_fence(__ATOMIC_SEQ_CST); }
static inline void __threadfence_block() { __atomic_thread_fence(__ATOMIC_SEQ_CST); }
static inline void __trap(FAKE_SITE) { fake::trap("__trap()", site); }

// --- Shuffles and votes ---

template <class T> static inline T __shfl_sync(unsigned mask, T x, int from, int width = 32,
                                               FAKE_SITE) {
    T out;
    fake::shuffle(fake::Shuffle::index, mask, &x, &out, sizeof(T), (unsigned)from, width, site);
    return out;
}
template <class T> static inline T __shfl_up_sync(unsigned mask, T x, unsigned by, int width = 32,
                                                  FAKE_SITE) {
    T out;
    fake::shuffle(fake::Shuffle::up, mask, &x, &out, sizeof(T), by, width, site);
    return out;
}
template <class T> static inline T __shfl_down_sync(unsigned mask, T x, unsigned by,
                                                    int width = 32, FAKE_SITE) {
    T out;
    fake::shuffle(fake::Shuffle::down, mask, &x, &out, sizeof(T), by, width, site);
    return out;
}
template <class T> static inline T __shfl_xor_sync(unsigned mask, T x, int by, int width = 32,
                                                   FAKE_SITE) {
    T out;
    fake::shuffle(fake::Shuffle::exclusive_or, mask, &x, &out, sizeof(T), (unsigned)by, width,
                  site);
    return out;
}
static inline unsigned __ballot_sync(unsigned mask, int x, FAKE_SITE) {
    return fake::ballot(mask, x, site);
}
static inline int __any_sync(unsigned mask, int x, FAKE_SITE) {
    return fake::ballot(mask, x, site) != 0;
}
static inline int __all_sync(unsigned mask, int x, FAKE_SITE) {
    return fake::ballot(mask, x, site) == mask;
}
template <class T> static inline unsigned __match_any_sync(unsigned mask, T x, FAKE_SITE) {
    fake::u64 bits = 0;
    __builtin_memcpy(&bits, &x, sizeof(T));
    return fake::match_any(mask, bits, site);
}
static inline unsigned __reduce_add_sync(unsigned mask, unsigned x, FAKE_SITE) {
    return fake::reduce(fake::Reduce::add, mask, x, site);
}
static inline int __reduce_add_sync(unsigned mask, int x, FAKE_SITE) {
    return (int)fake::reduce(fake::Reduce::add, mask, (unsigned)x, site);
}
static inline unsigned __reduce_min_sync(unsigned mask, unsigned x, FAKE_SITE) {
    return fake::reduce(fake::Reduce::smallest, mask, x, site);
}
static inline int __reduce_min_sync(unsigned mask, int x, FAKE_SITE) {
    return (int)fake::reduce(fake::Reduce::smallest_signed, mask, (unsigned)x, site);
}
static inline unsigned __reduce_max_sync(unsigned mask, unsigned x, FAKE_SITE) {
    return fake::reduce(fake::Reduce::largest, mask, x, site);
}
static inline int __reduce_max_sync(unsigned mask, int x, FAKE_SITE) {
    return (int)fake::reduce(fake::Reduce::largest_signed, mask, (unsigned)x, site);
}
static inline unsigned __reduce_and_sync(unsigned mask, unsigned x, FAKE_SITE) {
    return fake::reduce(fake::Reduce::bits_and, mask, x, site);
}
static inline unsigned __reduce_or_sync(unsigned mask, unsigned x, FAKE_SITE) {
    return fake::reduce(fake::Reduce::bits_or, mask, x, site);
}

#include "shim_numbers.hpp"
