// out[64, 128] = x[64, K] w[128, K]^T by one warp that copies boxes and four that multiply, over a
// ring of two slots; right once, and wrong in the ways that such rings are.
#include "common.cuh"
#include "device_sm90.cuh"

struct RingArgs {
    TensorMap x_map;
    TensorMap w_map;
    float* out;
    u32 steps;  // of 64 elements
    u32 swizzle;  // of the maps, as a descriptor says it: 0 none, 1 128 bytes, 2 64, 3 32
};

enum Bug {
    NONE,
    NO_EMPTY_WAIT,
    WRONG_PARITY,
    FEW_BYTES,
    EXTRA_ARRIVAL,
    NO_GROUP_WAIT,
    EARLY_RELEASE,   // the slot is given back before the products are done
    NO_FENCE,
    WRONG_SWIZZLE,   // the descriptor's
    WRONG_STRIDE,
    ONE_LANE,        // a descriptor that differs between lanes
    NO_INIT,         // barriers are never made
};

#if defined(EL_HOST) || defined(__CUDA_ARCH_FEAT_SM90_ALL)
// A slot holds a tile for each span of the swizzle: rows of `span` bytes, x before w.
constexpr u32 ROW_BYTES = 128, X_BYTES = 64 * ROW_BYTES, SLOT = 192 * ROW_BYTES, SLOTS = 2;
DEVICE u32 span_of(u32 swizzle) { return swizzle == 0 ? 16 : 256 >> swizzle; }

template <Bug BUG> DEVICE void copy(const RingArgs& a, u8* slots, u64* full, u64* empty) {
    const u32 span = span_of(a.swizzle), columns = span / 2;
    for (u32 step = 0; step < a.steps; ++step) {
        const u32 slot = step % SLOTS, turn = step / SLOTS;
        u8* to = slots + slot * SLOT;
        if (BUG != NO_EMPTY_WAIT) {
            barrier_wait(empty + slot, BUG == WRONG_PARITY ? turn % 2 : (turn + 1) % 2);
        }
        barrier_arrive_expect(full + slot, BUG == FEW_BYTES ? X_BYTES : SLOT);
        if (BUG == EXTRA_ARRIVAL) barrier_arrive(full + slot);
        for (u32 part = 0; part * span < ROW_BYTES; ++part) {
            const i32 column = (i32)(step * 64 + part * columns);
            copy_box(to + part * 64 * span, &a.x_map, column, 0, full + slot);
            copy_box(to + X_BYTES + part * 128 * span, &a.w_map, column, 0, full + slot);
        }
    }
}

// Descriptor of the 16 elements from 16 k on in a tile of `rows` rows.
template <Bug BUG> DEVICE u64 describe(const RingArgs& a, const u8* tile, u32 rows, u32 k) {
    const u32 span = span_of(a.swizzle), at = 32 * k;
    const u64 start = shared_address(tile) + at / span * rows * span + at % span;
    const u64 stride = BUG == WRONG_STRIDE ? 4 * span : 8 * span;
    const u64 mode = BUG == WRONG_SWIZZLE ? a.swizzle % 3 + 1 : a.swizzle;
    const u64 leading = rows * span;  // to the next 16 bytes along k, where a span is no more
    return start >> 4 | leading >> 4 << 16 | stride >> 4 << 32 | mode << 62;
}

template <Bug BUG> DEVICE void multiply(const RingArgs& a, u8* slots, u64* full, u64* empty) {
    float sum[64] = {};
    for (u32 step = 0; step < a.steps; ++step) {
        const u32 slot = step % SLOTS, turn = step / SLOTS;
        barrier_wait(full + slot, turn % 2);
        const u8* tile = slots + slot * SLOT;
        if (BUG != NO_FENCE) group_fence();
        for (u32 k = 0; k < 4; ++k) {
            u64 x = describe<BUG>(a, tile, 64, k);
            if (BUG == ONE_LANE && lane_id() == 7) x += 2;
            group_multiply_64x128x16(sum, x, describe<BUG>(a, tile + X_BYTES, 128, k), step + k);
        }
        group_commit();
        if (BUG == EARLY_RELEASE && lane_id() == 0) barrier_arrive(empty + slot);
        if (BUG != NO_GROUP_WAIT) group_wait<0>();
        __syncwarp();
        if (BUG != EARLY_RELEASE && lane_id() == 0) barrier_arrive(empty + slot);
    }
    const u32 row = warp_id() * 16 + lane_id() / 4, column = lane_id() % 4 * 2;
    for (u32 i = 0; i < 64; ++i) {
        a.out[(row + i / 2 % 2 * 8) * 128 + i / 4 * 8 + column + i % 2] = sum[i];
    }
}

template <Bug BUG> DEVICE void ring(const RingArgs& a) {
    EL_SMEM(slots);
    EL_SHARED(u64, full, [SLOTS]);
    EL_SHARED(u64, empty, [SLOTS]);
    if (threadIdx.x == 0 && BUG != NO_INIT) {
        for (u32 slot = 0; slot < SLOTS; ++slot) {
            barrier_init(full + slot, 1);
            barrier_init(empty + slot, 4);
        }
        barrier_init_fence();
    }
    __syncthreads();
    if (warp_id() < 4) multiply<BUG>(a, slots, full, empty);
    else if (lane_id() == 0) copy<BUG>(a, slots, full, empty);
}
#else
template <Bug BUG> DEVICE void ring(const RingArgs&) {}
#endif

KERNEL(ring_right, RingArgs, 160) { ring<NONE>(a); }
KERNEL(ring_no_empty_wait, RingArgs, 160) { ring<NO_EMPTY_WAIT>(a); }
KERNEL(ring_wrong_parity, RingArgs, 160) { ring<WRONG_PARITY>(a); }
KERNEL(ring_few_bytes, RingArgs, 160) { ring<FEW_BYTES>(a); }
KERNEL(ring_extra_arrival, RingArgs, 160) { ring<EXTRA_ARRIVAL>(a); }
KERNEL(ring_no_group_wait, RingArgs, 160) { ring<NO_GROUP_WAIT>(a); }
KERNEL(ring_early_release, RingArgs, 160) { ring<EARLY_RELEASE>(a); }
KERNEL(ring_no_fence, RingArgs, 160) { ring<NO_FENCE>(a); }
KERNEL(ring_wrong_swizzle, RingArgs, 160) { ring<WRONG_SWIZZLE>(a); }
KERNEL(ring_wrong_stride, RingArgs, 160) { ring<WRONG_STRIDE>(a); }
KERNEL(ring_one_lane, RingArgs, 160) { ring<ONE_LANE>(a); }
KERNEL(ring_no_init, RingArgs, 160) { ring<NO_INIT>(a); }
