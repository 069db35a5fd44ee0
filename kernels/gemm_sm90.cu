// gemm_sm90: the product of gemm.cu on Hopper: out = finish(x w^T + bias).
//
//   x     [rows, inner]     bf16   by x_map: boxes of 128 rows of 64 elements, 128-byte swizzle
//   w     [columns, inner]  bf16   by w_map: boxes of COLUMNS rows of 64 elements, 128-byte swizzle
//   bias  [columns]         float  or null
//   other [rows, columns]   bf16   the factor or the term; may be `out`
//   out   [rows, columns]   bf16   one column: rows may be 1 element apart
//
// Bytes  2 (T K + N K + T N)      Flops  2 T N K   -> bound by arithmetic
// Floor  T=8192 N=K=2048: 68.7 GFLOP = 87 us at 788 TFLOP/s
//
// One warp group keeps the ring full, two multiply, 64 rows of the tile each. A block stays and takes
// tile after tile: the ring fills for the next one while this one is written. Each element is summed
// over the inner dimension in steps of 16, whatever the number of rows. Ladder: docs/kernels/gemm.md.
#include "gemm_tile.cuh"
#include "device_sm90.cuh"

struct GemmSm90Args {
    TensorMap x_map;
    TensorMap w_map;
    const float* bias;
    const void* other;
    void* out;
    u64 other_stride;
    u64 out_stride;
    u32 rows;
    u32 columns;
    u32 inner;
    u32 epilogue;
};

constexpr u32 GROUP = 128;  // threads that multiply together: four warps
constexpr u32 THREADS = 3 * GROUP;

#if defined(EL_HOST) || defined(__CUDA_ARCH_FEAT_SM90_ALL)
constexpr u32 ROWS = 128, INNER = 64, STAGES = 4;
constexpr u32 ROW_BYTES = INNER * sizeof(bf16), X_BYTES = ROWS * ROW_BYTES;
// A warp's 16 rows leave in pieces of 64 columns, through 4 KB of shared memory of its own.
constexpr u32 WARP_ROWS = 16, PIECE = 64;
constexpr u32 PIECE_BYTES = WARP_ROWS * PIECE * sizeof(float), PIECES_BYTES = 8 * PIECE_BYTES;

// Where a thread stands in the ring of slots. `full` is waited for by the groups that multiply,
// `empty` by the one that copies; `parity` flips with each turn.
template <u32 COLUMNS> struct Ring {
    static constexpr u32 SLOT = X_BYTES + COLUMNS * ROW_BYTES;
    u8* slots;
    u64* full;
    u64* empty;
    u32 slot, parity;

    DEVICE void next() {
        slot = slot == STAGES - 1 ? 0 : slot + 1;
        if (slot == 0) parity ^= 1;
    }
    DEVICE u8* x() const { return slots + slot * SLOT; }
    DEVICE u8* w() const { return x() + X_BYTES; }
};

template <u32 COLUMNS> struct Tiles {
    u32 down, across, steps;
    DEVICE Tiles(const GemmSm90Args& a)
        : down(ceil_div(a.rows, ROWS)), across(ceil_div(a.columns, COLUMNS)),
          steps(ceil_div(a.inner, INNER)) {}
    DEVICE u32 count() const { return down * across; }
};

// One thread. Both boxes are whole in shared memory: what lies outside the matrix arrives as zeros.
template <u32 COLUMNS> DEVICE void produce(const GemmSm90Args& a, Ring<COLUMNS> ring) {
    const Tiles<COLUMNS> tiles(a);
    prefetch_map(&a.x_map);
    prefetch_map(&a.w_map);
    for (u32 tile = blockIdx.x; tile < tiles.count(); tile += gridDim.x) {
        const Place at = place_of(tile, tiles.down, tiles.across);
        const i32 row = (i32)(at.row * ROWS), column = (i32)(at.column * COLUMNS);
        for (u32 step = 0; step < tiles.steps; ++step) {
            u64* full = ring.full + ring.slot;
            // The parity of a turn that has not been: the first turn finds every slot empty.
            barrier_wait(ring.empty + ring.slot, ring.parity ^ 1);
            barrier_arrive_expect(full, Ring<COLUMNS>::SLOT);
            copy_box(ring.x(), &a.x_map, (i32)(step * INNER), row, full);
            copy_box(ring.w(), &a.w_map, (i32)(step * INNER), column, full);
            ring.next();
        }
    }
}

// How the matrix units find a tile that a copy left: rows of 128 bytes, 8 of them 1024 bytes apart
// from the next 8, 128-byte swizzle. 16 elements further along the rows is 2 more.
DEVICE u64 describe(const u8* tile) {
    return (u64)(shared_address(tile) >> 4) | (u64)1 << 16 | (u64)(1024 >> 4) << 32 | (u64)1 << 62;
}
DEVICE void group_multiply(float (&sum)[64], u64 x, u64 w, u32 keep) {
    group_multiply_64x128x16(sum, x, w, keep);
}
DEVICE void group_multiply(float (&sum)[128], u64 x, u64 w, u32 keep) {
    group_multiply_64x256x16(sum, x, w, keep);
}

// Sums one tile: 64 rows from `offset` bytes into x, all columns. The products of a step run while
// the next step's are started; its slot is given back one step later.
template <u32 COLUMNS>
DEVICE void multiply(float (&sum)[COLUMNS / 2], u32 steps, u32 offset, Ring<COLUMNS>& ring) {
    u64* done = nullptr;
    for (u32 step = 0; step < steps; ++step) {
        barrier_wait(ring.full + ring.slot, ring.parity);
        const u64 x = describe(ring.x() + offset), w = describe(ring.w());
        group_fence();
#pragma unroll
        for (u32 k = 0; k < INNER / 16; ++k) group_multiply(sum, x + 2 * k, w + 2 * k, step + k);
        group_commit();
        group_wait<1>();
        if (step > 0 && lane_id() == 0) barrier_arrive(done);
        done = ring.empty + ring.slot;
        ring.next();
    }
    group_wait<0>();
    if (lane_id() == 0) barrier_arrive(done);
}

// Writes a warp's 16 rows from (row, column) on.
template <u32 COLUMNS>
DEVICE void finish(const GemmSm90Args& a, const float (&sum)[COLUMNS / 2], float* tile, u32 row,
                   u32 column) {
    const u32 down = lane_id() / 4, along = lane_id() % 4 * 2;
    // A loop in the program, so that the epilogues are there once; registers have no index, so each
    // piece is found by comparing.
#pragma unroll 1
    for (u32 piece = 0; piece < COLUMNS / PIECE; ++piece) {
#pragma unroll
        for (u32 p = 0; p < COLUMNS / PIECE; ++p) {
            if (p != piece) continue;
#pragma unroll
            for (u32 j = 0; j < PIECE / 8; ++j) {
                const u32 s = p * PIECE / 2 + 4 * j;
                stage_pair<PIECE>(tile, down, along + 8 * j, sum[s], sum[s + 1]);
                stage_pair<PIECE>(tile, down + 8, along + 8 * j, sum[s + 2], sum[s + 3]);
            }
        }
        __syncwarp();
        finish_tile<bf16, WARP_ROWS, PIECE, WARP>(a, tile, row, column + piece * PIECE, lane_id());
        __syncwarp();
    }
}

// One of the two groups that multiply; `half` says which 64 rows are its own.
template <u32 COLUMNS> DEVICE void consume(const GemmSm90Args& a, Ring<COLUMNS> ring, u32 half) {
    const Tiles<COLUMNS> tiles(a);
    const u32 warp = warp_id() % 4;
    u8* pieces = ring.slots + STAGES * Ring<COLUMNS>::SLOT;
    float* tile = reinterpret_cast<float*>(pieces + (half * 4 + warp) * PIECE_BYTES);
    float sum[COLUMNS / 2] = {};
    for (u32 next = blockIdx.x; next < tiles.count(); next += gridDim.x) {
        const Place at = place_of(next, tiles.down, tiles.across);
        multiply<COLUMNS>(sum, tiles.steps, half * (X_BYTES / 2), ring);
        const u32 row = at.row * ROWS + half * (ROWS / 2) + warp * WARP_ROWS;
        finish<COLUMNS>(a, sum, tile, row, at.column * COLUMNS);
    }
}

template <u32 COLUMNS> DEVICE void gemm_sm90(const GemmSm90Args& a) {
    static_assert(STAGES * Ring<COLUMNS>::SLOT + PIECES_BYTES <= 226 * 1024, "one block's memory");
    EL_SMEM(slots);
    EL_SHARED(u64, full, [STAGES]);
    EL_SHARED(u64, empty, [STAGES]);
    if (threadIdx.x == 0) {
        for (u32 slot = 0; slot < STAGES; ++slot) {
            barrier_init(full + slot, 1);
            barrier_init(empty + slot, 2 * GROUP / WARP);
        }
        barrier_init_fence();
    }
    __syncthreads();
    const Ring<COLUMNS> ring = {slots, full, empty, 0, 0};
    const u32 group = threadIdx.x / GROUP;
    // 40 x 128 + 232 x 256 registers: what 384 threads of 168 were given.
    if (group == 2) {
        registers_lower<40>();
        if (threadIdx.x == 2 * GROUP) produce(a, ring);
    } else {
        registers_raise<232>();
        consume(a, ring, group);
    }
}
#else
// Never launched on anything but Hopper.
template <u32 COLUMNS> DEVICE void gemm_sm90(const GemmSm90Args&) {}
#endif

// The narrow tile wastes less where few columns are left for a second one.
KERNEL(gemm_sm90_bf16, GemmSm90Args, THREADS) { gemm_sm90<256>(a); }
KERNEL(gemm_sm90_narrow_bf16, GemmSm90Args, THREADS) { gemm_sm90<128>(a); }
