// The instructions of Hopper: barriers in shared memory, bulk copies (TMA), products by a group of
// four warps (wgmma). Included by *_sm90.cu alone; twins as for device.cuh.
#pragma once

#if defined(EL_HOST)
#include "twin_sm90.hpp"
#elif defined(__CUDA_ARCH_FEAT_SM90_ALL)

// --- Barriers in shared memory (mbarrier) ---

__device__ __forceinline__ void barrier_init(u64* barrier, u32 arrivals) {
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(shared_address(barrier)),
                 "r"(arrivals)
                 : "memory");
}
// Makes barriers just initialised visible to the copy engine; then a block barrier.
__device__ __forceinline__ void barrier_init_fence() {
    asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
}
__device__ __forceinline__ void barrier_arrive(u64* barrier) {
    asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(shared_address(barrier))
                 : "memory");
}
// One arrival, and `bytes` more that copies have to bring before the phase ends.
__device__ __forceinline__ void barrier_arrive_expect(u64* barrier, u32 bytes) {
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(
                     shared_address(barrier)),
                 "r"(bytes)
                 : "memory");
}
// Until the phase of this parity has ended.
__device__ __forceinline__ void barrier_wait(u64* barrier, u32 parity) {
    asm volatile(
        "{\n"
        ".reg .pred done;\n"
        "WAIT:\n"
        "mbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n"
        "@done bra DONE;\n"
        "bra WAIT;\n"
        "DONE:\n"
        "}" ::"r"(shared_address(barrier)),
        "r"(parity)
        : "memory");
}

// --- Bulk copies (TMA) ---

__device__ __forceinline__ void prefetch_map(const TensorMap* map) {
    asm volatile("prefetch.tensormap [%0];" ::"l"(map) : "memory");
}
// The box of `map` at (column, row) to shared memory; its bytes count on `barrier`.
__device__ __forceinline__ void copy_box(void* to, const TensorMap* map, i32 column, i32 row,
                                         u64* barrier) {
    asm volatile(
        "cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes "
        "[%0], [%1, {%2, %3}], [%4];" ::"r"(shared_address(to)),
        "l"(map), "r"(column), "r"(row), "r"(shared_address(barrier))
        : "memory");
}

// --- Products by a group of four warps (wgmma) ---

__device__ __forceinline__ void group_fence() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
__device__ __forceinline__ void group_commit() {
    asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}
// Until at most N committed groups of products are still under way.
template <u32 N> __device__ __forceinline__ void group_wait() {
    asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(N) : "memory");
}
// Registers a thread of the group may use from here on.
template <u32 N> __device__ __forceinline__ void registers_raise() {
    asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(N));
}
template <u32 N> __device__ __forceinline__ void registers_lower() {
    asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(N));
}

// Sums in registers as operands, and their names in the text of an instruction, 64 at a time.
#define EL_SUMS_8(I)                                                                               \
    "+f"(sum[I]), "+f"(sum[I + 1]), "+f"(sum[I + 2]), "+f"(sum[I + 3]), "+f"(sum[I + 4]),          \
        "+f"(sum[I + 5]), "+f"(sum[I + 6]), "+f"(sum[I + 7])
#define EL_SUMS_64(I)                                                                              \
    EL_SUMS_8(I), EL_SUMS_8(I + 8), EL_SUMS_8(I + 16), EL_SUMS_8(I + 24), EL_SUMS_8(I + 32),       \
        EL_SUMS_8(I + 40), EL_SUMS_8(I + 48), EL_SUMS_8(I + 56)
#define EL_FIRST_64                                                                                \
    "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "                       \
    "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, "             \
    "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, "             \
    "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63"
#define EL_NEXT_64                                                                                   \
    "%64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, %78, %79, "               \
    "%80, %81, %82, %83, %84, %85, %86, %87, %88, %89, %90, %91, %92, %93, %94, %95, "               \
    "%96, %97, %98, %99, %100, %101, %102, %103, %104, %105, %106, %107, %108, %109, %110, %111, "   \
    "%112, %113, %114, %115, %116, %117, %118, %119, %120, %121, %122, %123, %124, %125, %126, %127"

// sum[64, N] = a[64, 16] b[N, 16]^T, added to sum where `keep` is not 0; a and b are descriptors of
// bf16 tiles in shared memory. Thread i of the group holds of row i / 32 * 16 + i % 32 / 4 the
// columns 8 j + i % 4 * 2 + {0, 1} in sum[4 j + {0, 1}], and of the eighth row below it the same in
// sum[4 j + {2, 3}]. The sums may be used after group_wait.
__device__ __forceinline__ void group_multiply_64x128x16(float (&sum)[64], u64 a, u64 b,
                                                         u32 keep) {
    asm volatile(
        "{\n"
        ".reg .pred keep;\n"
        "setp.ne.b32 keep, %66, 0;\n"
        "wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 "
        "{" EL_FIRST_64 "}, %64, %65, keep, 1, 1, 0, 0;\n"
        "}"
        : EL_SUMS_64(0)
        : "l"(a), "l"(b), "r"(keep));
}
__device__ __forceinline__ void group_multiply_64x256x16(float (&sum)[128], u64 a, u64 b,
                                                         u32 keep) {
    asm volatile(
        "{\n"
        ".reg .pred keep;\n"
        "setp.ne.b32 keep, %130, 0;\n"
        "wgmma.mma_async.sync.aligned.m64n256k16.f32.bf16.bf16 "
        "{" EL_FIRST_64 ", " EL_NEXT_64 "}, %128, %129, keep, 1, 1, 0, 0;\n"
        "}"
        : EL_SUMS_64(0), EL_SUMS_64(64)
        : "l"(a), "l"(b), "r"(keep));
}
#undef EL_SUMS_8
#undef EL_SUMS_64
#undef EL_FIRST_64
#undef EL_NEXT_64
#endif

#if defined(EL_HOST) || defined(__CUDA_ARCH_FEAT_SM90_ALL)
// How group_multiply finds a tile that a copy left in shared memory: rows of 64 bf16 (128 bytes), 8
// of them 1024 bytes before the next 8, 128-byte swizzle. 16 elements further along is 2 more. The
// same for device and twin.
DEVICE u64 group_tile(const u8* tile) {
    return (u64)(shared_address(tile) >> 4) | (u64)1 << 16 | (u64)(1024 >> 4) << 32 | (u64)1 << 62;
}
#endif
