// The instructions that kernels use beyond the language, as PTX. Each has a twin of the same name in
// tests/fake-cuda/src/twin.hpp; a twin is a claim about the hardware, and has its law in
// tests/kernels/cuda/conformance/. Inline assembly stands here and in device_sm90.cuh alone.
#pragma once

// An array in shared memory; one that is read in packs and begins at a multiple of 16 bytes; and the
// block's dynamic shared memory (1024-byte aligned, for swizzled tiles).
#define EL_SHARED(TYPE, NAME, EXTENT) __shared__ TYPE NAME EXTENT
#define EL_SHARED_PACKS(TYPE, NAME, EXTENT) __shared__ __align__(16) TYPE NAME EXTENT
#define EL_SMEM(NAME) extern __shared__ __align__(1024) u8 NAME[]

// A descriptor of a matrix in global memory (CUtensorMap), passed by value inside the arguments.
struct alignas(64) TensorMap {
    u64 words[16];
};

__device__ __forceinline__ u32 shared_address(const void* pointer) {
    return (u32)__cvta_generic_to_shared(pointer);
}

// --- Numbers ---

__device__ __forceinline__ float float_of_bits(u32 bits) { return __uint_as_float(bits); }
__device__ __forceinline__ u32 bits_of_float(float x) { return __float_as_uint(x); }
// Two floats rounded to the nearest bf16; `low` is the lower half.
__device__ __forceinline__ u32 pack_bf16x2(float low, float high) {
    u32 out;
#if __CUDA_ARCH__ >= 800
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(out) : "f"(high), "f"(low));
#else
    out = 0;
#endif
    return out;
}
// 2^x, to 2 units in the last place.
__device__ __forceinline__ float exp2_fast(float x) {
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}
// Sums and products that are never contracted, as the host computes them.
__device__ __forceinline__ double add_exact(double a, double b) { return __dadd_rn(a, b); }
__device__ __forceinline__ double mul_exact(double a, double b) { return __dmul_rn(a, b); }
// a * b + c, rounded once.
__device__ __forceinline__ double fma_exact(double a, double b, double c) { return __fma_rn(a, b, c); }
__device__ __forceinline__ double double_of_words(u32 low, u32 high) {
    return __hiloint2double((i32)high, (i32)low);
}
// Adds 1 to `count` if x > 0. Written in C, a copy of the count comes with it.
__device__ __forceinline__ void count_positive(u32& count, float x) {
    asm("{\n"
        ".reg .pred positive;\n"
        "setp.gt.f32 positive, %1, 0f00000000;\n"
        "@positive add.u32 %0, %0, 1;\n"
        "}"
        : "+r"(count)
        : "f"(x));
}

// --- Barriers of part of a block ---

// Waits until `threads` threads (whole warps) have come to barrier `id` (1 to 15).
__device__ __forceinline__ void named_barrier(u32 id, u32 threads) {
    asm volatile("bar.sync %0, %1;" ::"r"(id), "r"(threads) : "memory");
}

// --- Copies that run beside the threads (sm_80) ---

// 16 bytes to shared memory, of which the first `bytes` come from `from` and the rest are zero.
__device__ __forceinline__ void copy_async_16(void* to, const void* from, u32 bytes) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(to)),
                 "l"(from), "r"(bytes)
                 : "memory");
}
__device__ __forceinline__ void copy_async_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }
// Until at most N of this thread's groups are still under way.
template <u32 N> __device__ __forceinline__ void copy_async_wait() {
    asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory");
}

// --- Matrix units, a warp at a time (sm_80) ---

// Four 8x8 matrices of 16-bit elements; lane i gives the address of row i % 8 of matrix i / 8.
__device__ __forceinline__ void load_matrix_x4(u32 (&out)[4], const void* row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(out[0]), "=r"(out[1]), "=r"(out[2]), "=r"(out[3])
                 : "r"(shared_address(row))
                 : "memory");
}
// The same, each matrix transposed.
__device__ __forceinline__ void load_matrix_x4_transposed(u32 (&out)[4], const void* row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(out[0]), "=r"(out[1]), "=r"(out[2]), "=r"(out[3])
                 : "r"(shared_address(row))
                 : "memory");
}
// sum[16, 8] += a[16, 16] b[16, 8] in bf16 with float sums, in the layout of mma.m16n8k16.
__device__ __forceinline__ void mma_16x8x16(float (&sum)[4], const u32 (&a)[4], u32 b0, u32 b1) {
#if __CUDA_ARCH__ >= 800
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
        "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
#endif
}
