// out[16, 8] = x[16, K] w[8, K]^T by one warp: cp.async into three slots, ldmatrix, mma; right once,
// and wrong in the ways that such pipelines are. A slot holds 16 rows of x and 8 of w, 64 bytes each,
// its 16-byte chunks swizzled.
#include "common.cuh"

struct TilesArgs {
    const bf16* x;
    const bf16* w;
    float* out;
    u32 inner;  // a multiple of 32
};

enum Bug {
    NONE,
    NO_WAIT,       // for the copies
    SHORT_WAIT,    // allows one group too many
    FEW_SLOTS,     // a copy goes into the slot that is being read
    WRONG_CHUNK,   // one side does not swizzle
    NO_WARP_SYNC,  // lanes read what others copied
};

constexpr u32 ROWS = 24, ROW = 32;  // of a slot; elements of a row

DEVICE u32 swizzle(u32 row, u32 chunk) { return row * ROW + (chunk ^ (row / 2 % 4)) * 8; }

template <Bug BUG> DEVICE void fetch(bf16* slot, const TilesArgs& a, u32 step) {
    for (u32 i = lane_id(); i < ROWS * 4; i += WARP) {
        const u32 row = i / 4, chunk = i % 4;
        const bf16* from = row < 16 ? a.x + (u64)row * a.inner : a.w + (u64)(row - 16) * a.inner;
        bf16* to = slot + (BUG == WRONG_CHUNK ? row * ROW + chunk * 8 : swizzle(row, chunk));
        copy_async_16(to, from + step * ROW + chunk * 8, 16);
    }
}

template <Bug BUG> DEVICE void product(const TilesArgs& a) {
    constexpr u32 SLOTS = BUG == FEW_SLOTS ? 2 : 3;
    EL_SHARED(Pack<bf16>, room, [SLOTS * ROWS * ROW / 8]);  // for its alignment
    bf16(*slots)[ROWS * ROW] = reinterpret_cast<bf16(*)[ROWS * ROW]>(room);
    const u32 lane = lane_id(), steps = a.inner / ROW;
    float sum[4] = {};
    for (u32 s = 0; s < 2; ++s) {
        if (s < steps) fetch<BUG>(slots[s], a, s);
        copy_async_commit();
    }
    for (u32 step = 0; step < steps; ++step) {
        if (BUG == SHORT_WAIT) copy_async_wait<2>();
        else if (BUG != NO_WAIT) copy_async_wait<1>();
        if (BUG != NO_WARP_SYNC) __syncwarp();
        // Two steps ahead: into the slot that was read in the step before.
        if (step + 2 < steps) fetch<BUG>(slots[(step + 2) % SLOTS], a, step + 2);
        copy_async_commit();
        const bf16* slot = slots[step % SLOTS];
        u32 w[4];
        load_matrix_x4(w, slot + swizzle(16 + lane % 8, lane / 8));
        for (u32 k = 0; k < 2; ++k) {
            u32 x[4];
            load_matrix_x4(x, slot + swizzle(lane % 16, 2 * k + lane / 16));
            mma_16x8x16(sum, x, w[2 * k], w[2 * k + 1]);
        }
    }
    for (u32 i = 0; i < 4; ++i) {
        a.out[(lane / 4 + i / 2 * 8) * 8 + lane % 4 * 2 + i % 2] = sum[i];
    }
}

KERNEL(tiles_right, TilesArgs, 32) { product<NONE>(a); }
KERNEL(tiles_no_wait, TilesArgs, 32) { product<NO_WAIT>(a); }
KERNEL(tiles_short_wait, TilesArgs, 32) { product<SHORT_WAIT>(a); }
KERNEL(tiles_few_slots, TilesArgs, 32) { product<FEW_SLOTS>(a); }
KERNEL(tiles_wrong_chunk, TilesArgs, 32) { product<WRONG_CHUNK>(a); }
KERNEL(tiles_no_warp_sync, TilesArgs, 32) { product<NO_WARP_SYNC>(a); }
