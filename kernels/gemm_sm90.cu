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
// Two warp groups multiply, 64 rows of the tile each, from a ring of slots that one warp keeps full.
// Three more warps write finished tiles while the next is multiplied: activations and residuals cost
// no time of the matrix units, save that of handing over the tile. A block stays and takes tile after
// tile. Each element is summed over the inner dimension in steps of 16, whatever the number of rows.
// Ladder: docs/kernels/gemm.md.
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
    u32 down;  // tiles of rows, and of columns
    u32 across;
};

constexpr u32 GROUP = 128;  // threads that multiply together: four warps
constexpr u32 THREADS = 3 * GROUP;

#if defined(EL_HOST) || defined(__CUDA_ARCH_FEAT_SM90_ALL)
constexpr u32 ROWS = 128, INNER = 64;
constexpr u32 ROW_BYTES = INNER * sizeof(bf16), X_BYTES = ROWS * ROW_BYTES;
constexpr u32 MULTIPLIERS = 2 * GROUP / WARP, WRITERS = 3;  // warps

// Where a thread stands in the ring of slots. `full` is waited for by the groups that multiply,
// `empty` by the one that copies; `parity` flips with each turn.
template <u32 COLUMNS> struct Ring {
    static constexpr u32 SLOT = X_BYTES + COLUMNS * ROW_BYTES, STAGES = COLUMNS == 256 ? 3 : 5;
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

// One thread. Both boxes are whole in shared memory: what lies outside the matrix arrives as zeros.
template <u32 COLUMNS> DEVICE void produce(const GemmSm90Args& a, Ring<COLUMNS> ring) {
    const u32 steps = ceil_div(a.inner, INNER);
    prefetch_map(&a.x_map);
    prefetch_map(&a.w_map);
    for (u32 tile = blockIdx.x; tile < a.down * a.across; tile += gridDim.x) {
        const Place at = place_of(tile, a.down, a.across);
        const i32 row = (i32)(at.row * ROWS), column = (i32)(at.column * COLUMNS);
        for (u32 step = 0; step < steps; ++step) {
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
        const u64 x = group_tile(ring.x() + offset), w = group_tile(ring.w());
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

// The finished tile, between those who multiply and those who write. `free` says that it may be
// overwritten, and that the bias of the next tile is in it; `ready` that the next tile is.
template <u32 COLUMNS> struct Finished {
    bf16* tile;
    float* bias;
    u64* free;
    u64* ready;
    u32 parity;
};

// A warp's 16 rows of sums from row `top` of the tile on.
template <u32 COLUMNS>
DEVICE void stage(const float (&sum)[COLUMNS / 2], u32 top, const Finished<COLUMNS>& finished) {
    const u32 row = top + lane_id() / 4, along = lane_id() % 4 * 2;
#pragma unroll
    for (u32 j = 0; j < COLUMNS / 8; ++j) {
        const float(&s)[4] = reinterpret_cast<const float(&)[4]>(sum[4 * j]);
        const u32 c = along + 8 * j;
        const float left = finished.bias[c], right = finished.bias[c + 1];
        stage_pair<COLUMNS>(finished.tile, row, c, s[0] + left, s[1] + right);
        stage_pair<COLUMNS>(finished.tile, row + 8, c, s[2] + left, s[3] + right);
    }
}

// One of the two groups that multiply; `half` says which 64 rows are its own.
template <u32 COLUMNS>
DEVICE void consume(const GemmSm90Args& a, Ring<COLUMNS> ring, Finished<COLUMNS> finished,
                    u32 half) {
    const u32 steps = ceil_div(a.inner, INNER);
    float sum[COLUMNS / 2] = {};
    for (u32 tile = blockIdx.x; tile < a.down * a.across; tile += gridDim.x) {
        multiply<COLUMNS>(sum, steps, half * (X_BYTES / 2), ring);
        barrier_wait(finished.free, finished.parity);
        stage<COLUMNS>(sum, half * (ROWS / 2) + warp_id() % 4 * 16, finished);
        __syncwarp();
        if (lane_id() == 0) barrier_arrive(finished.ready);
        finished.parity ^= 1;
    }
}

// One of the warps that write.
template <u32 COLUMNS>
DEVICE void write_tiles(const GemmSm90Args& a, Finished<COLUMNS> finished, u32 thread) {
    for (u32 tile = blockIdx.x; tile < a.down * a.across; tile += gridDim.x) {
        const Place at = place_of(tile, a.down, a.across);
        const u32 column = at.column * COLUMNS;
        for (u32 c = thread; c < COLUMNS; c += WRITERS * WARP) {
            finished.bias[c] = a.bias && column + c < a.columns ? a.bias[column + c] : 0.0f;
        }
        __syncwarp();
        if (lane_id() == 0) barrier_arrive(finished.free);
        barrier_wait(finished.ready, finished.parity);
        finish_tile<bf16, ROWS, COLUMNS, WRITERS * WARP>(a, finished.tile, at.row * ROWS, column,
                                                         thread);
        __syncwarp();
        finished.parity ^= 1;
    }
}

template <u32 COLUMNS> DEVICE void gemm_sm90(const GemmSm90Args& a) {
    constexpr u32 STAGES = Ring<COLUMNS>::STAGES, SLOTS = STAGES * Ring<COLUMNS>::SLOT;
    static_assert(SLOTS + ROWS * COLUMNS * sizeof(bf16) <= 224 * 1024, "one block's shared memory");
    EL_SMEM(slots);
    EL_SHARED(float, bias, [COLUMNS]);
    EL_SHARED(u64, full, [STAGES]);
    EL_SHARED(u64, empty, [STAGES]);
    EL_SHARED(u64, handed, [2]);
    if (threadIdx.x == 0) {
        for (u32 slot = 0; slot < STAGES; ++slot) {
            barrier_init(full + slot, 1);
            barrier_init(empty + slot, MULTIPLIERS);
        }
        barrier_init(handed, WRITERS);
        barrier_init(handed + 1, MULTIPLIERS);
        barrier_init_fence();
    }
    __syncthreads();
    const Ring<COLUMNS> ring = {slots, full, empty, 0, 0};
    const Finished<COLUMNS> finished = {reinterpret_cast<bf16*>(slots + SLOTS), bias, handed,
                                        handed + 1, 0};
    const u32 group = threadIdx.x / GROUP;
    // 88 x 128 + 208 x 256 registers: what 384 threads of 168 were given.
    if (group < 2) {
        registers_raise<208>();
        consume(a, ring, finished, group);
    } else {
        registers_lower<88>();
        if (threadIdx.x >= 2 * GROUP + WARP) {
            write_tiles(a, finished, threadIdx.x - 2 * GROUP - WARP);
        } else if (threadIdx.x == 2 * GROUP) {
            produce(a, ring);
        }
    }
}
#else
// Never launched on anything but Hopper.
template <u32 COLUMNS> DEVICE void gemm_sm90(const GemmSm90Args&) {}
#endif

// The narrow tile wastes less where few columns are left for a second one.
KERNEL(gemm_sm90_bf16, GemmSm90Args, THREADS) { gemm_sm90<256>(a); }
KERNEL(gemm_sm90_narrow_bf16, GemmSm90Args, THREADS) { gemm_sm90<128>(a); }
