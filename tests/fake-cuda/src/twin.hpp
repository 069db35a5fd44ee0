// The host halves of kernels/device.cuh, name by name. Each is a claim about what the instruction
// does, held to its law and to saved outputs of GPUs by tests/kernels/cuda/conformance.rs.
//
// FAKE_SCAN asks for the words of entry points alone: the build then finds the kernels of a file in
// its preprocessed text.
#pragma once

#ifdef FAKE_SCAN
#define __global__ FAKE_KERNEL
#define __device__
#define __constant__
#define __forceinline__
#define __launch_bounds__(...)
#define __grid_constant__
#else
#include "shim.hpp"

#define EL_SHARED(TYPE, NAME, EXTENT) EL_SHARED_AT(alignof(TYPE), TYPE, NAME, EXTENT)
#define EL_SHARED_PACKS(TYPE, NAME, EXTENT) EL_SHARED_AT(16, TYPE, NAME, EXTENT)
#define EL_SHARED_AT(ALIGN, TYPE, NAME, EXTENT)                                                    \
    static char NAME##_key = 0;                                                                    \
    TYPE(&NAME)                                                                                    \
    EXTENT = *reinterpret_cast<TYPE(*) EXTENT>(                                                    \
        ::fake::shared_array(&NAME##_key, sizeof(TYPE EXTENT), ALIGN,                              \
                             ::fake::Site{__FILE__, __LINE__}))
#define EL_SMEM(NAME) u8* const NAME = static_cast<u8*>(::fake::shared_dynamic())

struct alignas(64) TensorMap {
    u64 words[16];
};

static inline u32 shared_address(const void* pointer, FAKE_SITE) {
    return fake::shared_offset(pointer, site);
}

// --- Numbers ---

static inline float float_of_bits(u32 bits) { return fake_bits<float>(bits); }
static inline u32 bits_of_float(float x) { return fake_bits<u32>(x); }
static inline u32 fake_round_bf16(float x) {
    u32 bits = fake_bits<u32>(x);
    if ((bits & 0x7fffffffu) > 0x7f800000u) return 0x7fff;  // NaN, as cvt.rn writes it
    return (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
}
static inline u32 pack_bf16x2(float low, float high) {
    return fake_round_bf16(low) | (fake_round_bf16(high) << 16);
}
// The hardware flushes subnormal arguments and results to zero, and is off by up to 2 units.
static inline float exp2_fast(float x) {
    float y = exp2f(x);
    return fabsf(y) < 1.17549435e-38f ? 0.0f : y;
}
static inline double add_exact(double a, double b) { return a + b; }
static inline double mul_exact(double a, double b) { return a * b; }
static inline double fma_exact(double a, double b, double c) { return fma(a, b, c); }
static inline double double_of_words(u32 low, u32 high) {
    return fake_bits<double>((u64)high << 32 | low);
}
static inline void count_positive(u32& count, float x) { count += x > 0.0f; }

// --- Barriers of part of a block ---

static inline void named_barrier(u32 id, u32 threads, FAKE_SITE) {
    fake::named_barrier(id, threads, site);
}

// --- Copies that run beside the threads ---

static inline void copy_async_16(void* to, const void* from, u32 bytes, FAKE_SITE) {
    fake::copy_async(to, from, bytes, site);
}
static inline void copy_async_commit() { fake::copy_async_commit(); }
template <u32 N> static inline void copy_async_wait() { fake::copy_async_wait(N); }

// --- Matrix units, a warp at a time ---

static inline void load_matrix_x4(u32 (&out)[4], const void* row, FAKE_SITE) {
    fake::load_matrix_x4(out, row, false, site);
}
static inline void load_matrix_x4_transposed(u32 (&out)[4], const void* row, FAKE_SITE) {
    fake::load_matrix_x4(out, row, true, site);
}
static inline void mma_16x8x16(float (&sum)[4], const u32 (&a)[4], u32 b0, u32 b1, FAKE_SITE) {
    fake::mma_16x8x16(sum, a, b0, b1, site);
}
#endif
