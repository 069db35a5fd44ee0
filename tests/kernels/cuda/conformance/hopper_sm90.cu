// Barriers in shared memory, bulk copies, products by a group of four warps, and registers handed
// from group to group.
#include "conformance.cuh"
#include "device_sm90.cuh"

struct BoxesArgs {
    TensorMap map;  // boxes of BOX_ROWS rows of 64 elements
    const u32* in;  // column and row of each box
    u32* out;
    u32 count;
    u32 unused;  // no gap at the end
};
struct ProductArgs {
    TensorMap a_map;  // [64, 64]
    TensorMap b_map;  // [N, 64]
    const u32* in;    // what each thread's sums are before
    u32* out;
    u32 keep;
    u32 unused;  // no gap at the end
};

constexpr u32 GROUP = 128;
constexpr u32 BOX_ROWS = 64, BOX_WORDS = BOX_ROWS * 32;

#if defined(EL_HOST) || defined(__CUDA_ARCH_FEAT_SM90_ALL)
// 96 threads hand words to 32, `count` times, over one barrier for each direction.
DEVICE void hand_over(const ConformanceArgs& a) {
    EL_SHARED(u32, words, [96]);
    EL_SHARED(u64, full, [1]);
    EL_SHARED(u64, empty, [1]);
    if (threadIdx.x == 0) {
        barrier_init(full, 96);
        barrier_init(empty, 32);
        barrier_init_fence();
    }
    __syncthreads();
    for (u32 i = 0; i < a.count; ++i) {
        if (threadIdx.x < 32) {
            barrier_wait(full, i % 2);
            for (u32 k = 0; k < 3; ++k) {
                a.out[i * 96 + k * 32 + threadIdx.x] = words[k * 32 + threadIdx.x];
            }
            barrier_arrive(empty);
        } else {
            barrier_wait(empty, (i + 1) % 2);
            words[threadIdx.x - 32] = a.in[i * 96 + threadIdx.x - 32];
            barrier_arrive(full);
        }
    }
}

// Boxes one after the other to the same place.
DEVICE void copy_boxes(const BoxesArgs& a) {
    EL_SMEM(box);
    EL_SHARED(u64, full, [1]);
    if (threadIdx.x == 0) {
        prefetch_map(&a.map);
        barrier_init(full, 1);
        barrier_init_fence();
    }
    __syncthreads();
    for (u32 i = 0; i < a.count; ++i) {
        if (threadIdx.x == 0) {
            barrier_arrive_expect(full, BOX_WORDS * (u32)sizeof(u32));
            copy_box(box, &a.map, (i32)a.in[2 * i], (i32)a.in[2 * i + 1], full);
        }
        barrier_wait(full, i % 2);
        const u32* words = reinterpret_cast<const u32*>(box);
        for (u32 k = threadIdx.x; k < BOX_WORDS; k += GROUP) a.out[i * BOX_WORDS + k] = words[k];
        __syncthreads();
    }
}

DEVICE void multiply(float (&sum)[64], u64 a, u64 b, u32 keep) {
    group_multiply_64x128x16(sum, a, b, keep);
}
DEVICE void multiply(float (&sum)[128], u64 a, u64 b, u32 keep) {
    group_multiply_64x256x16(sum, a, b, keep);
}
// [64, N] = [64, 64] [N, 64]^T, in two committed groups of two products.
template <u32 N> DEVICE void product(const ProductArgs& a) {
    constexpr u32 A_BYTES = 64 * 128, B_BYTES = N * 128, EACH = N / 2;
    EL_SMEM(tiles);
    EL_SHARED(u64, full, [1]);
    if (threadIdx.x == 0) {
        barrier_init(full, 1);
        barrier_init_fence();
    }
    __syncthreads();
    if (threadIdx.x == 0) {
        barrier_arrive_expect(full, A_BYTES + B_BYTES);
        copy_box(tiles, &a.a_map, 0, 0, full);
        copy_box(tiles + A_BYTES, &a.b_map, 0, 0, full);
    }
    float sum[EACH];
#pragma unroll
    for (u32 i = 0; i < EACH; ++i) sum[i] = float_of_bits(a.in[threadIdx.x * EACH + i]);
    barrier_wait(full, 0);
    const u64 left = group_tile(tiles), right = group_tile(tiles + A_BYTES);
    group_fence();
#pragma unroll
    for (u32 k = 0; k < 4; ++k) {
        multiply(sum, left + 2 * k, right + 2 * k, a.keep + k);
        if (k % 2 == 1) group_commit();
    }
    group_wait<1>();
    group_wait<0>();
#pragma unroll
    for (u32 i = 0; i < EACH; ++i) a.out[threadIdx.x * EACH + i] = bits_of_float(sum[i]);
}

// Each thread's words, held while registers change hands.
DEVICE void hand_registers(const ConformanceArgs& a) {
    u32 held[4];
    for (u32 k = 0; k < 4; ++k) held[k] = a.in[k * 3 * GROUP + threadIdx.x];
    if (threadIdx.x < 2 * GROUP) {
        registers_raise<208>();
    } else {
        registers_lower<88>();
    }
    for (u32 k = 0; k < 4; ++k) a.out[k * 3 * GROUP + threadIdx.x] = held[k];
}
#else
// Never launched on anything but Hopper.
DEVICE void hand_over(const ConformanceArgs&) {}
DEVICE void copy_boxes(const BoxesArgs&) {}
template <u32 N> DEVICE void product(const ProductArgs&) {}
DEVICE void hand_registers(const ConformanceArgs&) {}
#endif

KERNEL(hopper_barriers, ConformanceArgs, GROUP) { hand_over(a); }
KERNEL(hopper_boxes, BoxesArgs, GROUP) { copy_boxes(a); }
KERNEL(hopper_product_128, ProductArgs, GROUP) { product<128>(a); }
KERNEL(hopper_product_256, ProductArgs, GROUP) { product<256>(a); }
KERNEL(hopper_registers, ConformanceArgs, 3 * GROUP) { hand_registers(a); }
