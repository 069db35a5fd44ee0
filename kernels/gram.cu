// gram: second moments of columns, sums[class] += x^T z over the rows of a class, or x^T x; in f32 over tiles
// of 512 rows, in f64 across them.
//
//   x       [rows, left]   T    rows x_stride elements apart (a multiple of 16 bytes)
//   z       [rows, right]  T    rows z_stride elements apart; x itself where `alone`
//   held_x, held_z  [classes * 512, ..] T   rows of calls before that did not fill a tile, as wide
//   names   [..]  u32           rows in the order in which they are added: HELD + row of held_x, or row of x
//   items   [items, 4] u32      {class, first of names, rows, 0}, no class twice
//   sums    [classes, left, sums_stride] f64; where `alone`, tiles below the diagonal are left out
//
// A block has a square of one item's sums and walks its rows in order: f32 sums in registers, which every 512th
// row adds to the f64 sums in global memory. Nobody else has them, so there is one order and no atomic.
//
// With A = left, B = right, and half of it where `alone`:
// Bytes  A B T / 32 of sums, s A B T / 64 of x and z from L2 (s = 2 or 4)   Flops  2 T A B
// Floor  T = 8192, A = B = 4096, alone, bf16: 137 GFLOP = 0.31 ms at 450 TFLOP/s, and 2.1 GB of f64 sums =
//        0.5 ms at 4.3 TB/s -> bound by the sums; float: 2.3 ms at 60 TFLOP/s -> bound by arithmetic
// Each element is summed in one order, whatever the tile. Ladder: docs/kernels/gram.md.
#include "gemm_tile.cuh"

struct GramArgs {
    const void* x;
    const void* z;
    const void* held_x;
    const void* held_z;
    const u32* names;
    const u32* items;
    double* sums;
    u64 x_stride;
    u64 z_stride;
    u32 sums_stride;
    u32 left;
    u32 right;
    u32 alone;
    u32 squares;  // of an item
    u32 unused;   // no gap at the end
};

struct GramHoldArgs {
    const void* x;
    void* held;
    const u32* moves;  // [count, 2]: from, to
    u64 stride;        // of both, in bytes
    u32 count;
    u32 unused;  // no gap at the end
};

constexpr u32 THREADS = 256, STAGES = 4, CHUNK_BYTES = 16;
constexpr u32 TILE = 512;           // rows; as in src/device/moment_ops.rs
constexpr u32 HELD = 0x80000000u;   // as in src/device/cuda/gram.rs

// What a step brings of one operand: SIDE columns of STEP rows, row after row in shared memory. With bf16 the
// chunks of a row are permuted, so that ldmatrix finds 8 neighbouring rows of a chunk on different banks; plain
// loads of floats run along a row.
template <class T, u32 SIDE> struct Slot {
    static constexpr u32 STEP = 64 / sizeof(T), ROW_BYTES = SIDE * sizeof(T);
    static constexpr u32 CHUNKS = ROW_BYTES / CHUNK_BYTES, BYTES = STEP * ROW_BYTES;
    static constexpr u32 DOWN = THREADS / CHUNKS;  // rows that the threads bring at a time
    DEVICE static u32 at(u32 row, u32 chunk) {
        return row * ROW_BYTES + (sizeof(T) == 2 ? chunk ^ row % 8 : chunk) * CHUNK_BYTES;
    }
};

// Brings this thread's chunk of a row, zeros past the last column and for a row that is not there.
template <class T>
DEVICE void bring_chunk(u8* to, const T* row, bool there, u32 column, u32 columns) {
    const u32 left = there && column < columns ? smaller(columns - column, CHUNK<T>) : 0;
    copy_async_16(to, row + (left ? column : 0), left * (u32)sizeof(T));
}

// Two sums side by side; rows of sums begin at multiples of 16 bytes.
struct alignas(16) Two {
    double at[2];
};
DEVICE void add_two(double* to, float& a, float& b) {
    Two two = *reinterpret_cast<Two*>(to);
    two.at[0] = add_exact(two.at[0], (double)a);
    two.at[1] = add_exact(two.at[1], (double)b);
    *reinterpret_cast<Two*>(to) = two;
    a = b = 0.0f;
}

// A block's square of the sums, from its first row and column on.
struct Target {
    double* sums;
    u32 stride, rows, columns;  // that there are
    DEVICE void add(u32 row, u32 column, float& a, float& b) const {
        if (row < rows && column < columns) add_two(sums + row * stride + column, a, b);
    }
};

// 16 x 16 threads of R x R sums as plain float arithmetic: fours of neighbours, 64 apart.
template <u32 R> struct Lanes {
    typedef float Element;
    static constexpr u32 SIDE = 16 * R;
    typedef Slot<float, SIDE> At;
    float sum[R][R];
    u32 row, column;

    // A warp is 4 rows of 8 threads.
    DEVICE Lanes() : sum{} {
        row = (warp_id() / 2 * 4 + lane_id() / 8) * 4;
        column = (warp_id() % 2 * 8 + lane_id() % 8) * 4;
    }
    DEVICE void step(const u8* x, const u8* z) {
#pragma unroll 1
        for (u32 k = 0; k < At::STEP; ++k) {
            Pack<float> right[R / 4];
#pragma unroll
            for (u32 h = 0; h < R / 4; ++h) right[h] = load_four(z, k, 64 * h + column);
#pragma unroll
            for (u32 h = 0; h < R / 4; ++h) {
                const Pack<float> left = load_four(x, k, 64 * h + row);
#pragma unroll
                for (u32 i = 0; i < 4; ++i) {
#pragma unroll
                    for (u32 j = 0; j < R; ++j) {
                        sum[4 * h + i][j] += left.at[i] * right[j / 4].at[j % 4];
                    }
                }
            }
        }
    }
    DEVICE static Pack<float> load_four(const u8* slot, u32 row, u32 column) {
        return load_pack(reinterpret_cast<const float*>(slot) + row * SIDE + column);
    }
    DEVICE void flush(const Target& to) {
#pragma unroll
        for (u32 j = 0; j < R; j += 2) {
#pragma unroll
            for (u32 i = 0; i < R; ++i) {
                to.add(64 * (i / 4) + row + i % 4, 64 * (j / 4) + column + j % 4, sum[i][j],
                       sum[i][j + 1]);
            }
        }
    }
};

// 2 x 4 warps of 16 M rows and 8 M columns each, on the matrix units.
template <u32 M> struct Warps {
    typedef bf16 Element;
    static constexpr u32 SIDE = 32 * M, N = M / 2;
    typedef Slot<bf16, SIDE> At;
    float sum[M][2 * N][4];
    u32 row, column;

    DEVICE Warps() : sum{} {
        row = warp_id() / 4 * 16 * M;
        column = warp_id() % 4 * 16 * N;
    }
    // Both operands lie with the rows of the tensors, which are summed over, down: both are turned.
    DEVICE void step(const u8* x, const u8* z) {
        const u32 lane = lane_id(), low = lane % 8, middle = lane / 8 % 2, high = lane / 16;
#pragma unroll
        for (u32 k = 0; k < At::STEP; k += 16) {
            u32 right[N][4];
#pragma unroll
            for (u32 j = 0; j < N; ++j) {
                const u32 chunk = (column + 16 * j) / 8 + high;
                load_matrix_x4_transposed(right[j], z + At::at(k + middle * 8 + low, chunk));
            }
#pragma unroll
            for (u32 i = 0; i < M; ++i) {
                u32 left[4];
                const u32 chunk = (row + 16 * i) / 8 + middle;
                load_matrix_x4_transposed(left, x + At::at(k + high * 8 + low, chunk));
#pragma unroll
                for (u32 j = 0; j < N; ++j) {
                    mma_16x8x16(sum[i][2 * j], left, right[j][0], right[j][1]);
                    mma_16x8x16(sum[i][2 * j + 1], left, right[j][2], right[j][3]);
                }
            }
        }
    }
    DEVICE void flush(const Target& to) {
        const u32 down = row + lane_id() / 4, along = column + lane_id() % 4 * 2;
#pragma unroll
        for (u32 i = 0; i < M; ++i) {
#pragma unroll
            for (u32 j = 0; j < 2 * N; ++j) {
                float(&s)[4] = sum[i][j];
                to.add(down + 16 * i, along + 8 * j, s[0], s[1]);
                to.add(down + 16 * i + 8, along + 8 * j, s[2], s[3]);
            }
        }
    }
};

// Square number t of those on and above the diagonal, column by column.
DEVICE Place above_diagonal(u32 t) {
    u32 column = 0;
    while ((column + 1) * (column + 2) / 2 <= t) ++column;
    return {t - column * (column + 1) / 2, column};
}

template <class CORE> DEVICE void gram(const GramArgs& a) {
    typedef typename CORE::Element T;
    typedef typename CORE::At At;
    constexpr u32 SIDE = CORE::SIDE, EACH = At::STEP / At::DOWN, SLOT = 2 * At::BYTES;
    EL_SMEM(slots);
    const Pack<u32> item = load_pack(a.items + blockIdx.x / a.squares * 4);
    const u32 square = blockIdx.x % a.squares;
    const Place at = a.alone ? above_diagonal(square)
                             : place_of(square, ceil_div(a.left, SIDE), ceil_div(a.right, SIDE));
    const u32 row = at.row * SIDE, column = at.column * SIDE, rows = item.at[2];
    const u32 chunk = threadIdx.x % At::CHUNKS, top = threadIdx.x / At::CHUNKS;
    const u32* names = a.names + item.at[1];
    const auto bring = [&](u32 slot, u32 step) {
#pragma unroll
        for (u32 i = 0; i < EACH; ++i) {
            const u32 down = top + i * At::DOWN, r = step * At::STEP + down;
            const bool there = r < rows;
            const u32 name = names[there ? r : 0], from = name & ~HELD;
            const bool held = name & HELD;
            u8* to = slots + slot * SLOT + At::at(down, chunk);
            const T* x = static_cast<const T*>(held ? a.held_x : a.x) + from * a.x_stride;
            const T* z = static_cast<const T*>(held ? a.held_z : a.z) + from * a.z_stride;
            bring_chunk(to, x, there, row + chunk * CHUNK<T>, a.left);
            bring_chunk(to + At::BYTES, z, there, column + chunk * CHUNK<T>, a.right);
        }
        copy_async_commit();
    };
    for (u32 slot = 0; slot < STAGES - 1; ++slot) bring(slot, slot);
    CORE core;
    const u64 first = ((u64)item.at[0] * a.left + row) * a.sums_stride + column;
    const Target to = {a.sums + first, a.sums_stride, a.left - row, a.right - column};
    const u32 steps = ceil_div(rows, At::STEP);
    u32 slot = 0;
#pragma unroll 1
    for (u32 step = 0; step < steps; ++step) {
        copy_async_wait<STAGES - 2>();
        // The slot of this step has come for every thread, and nobody reads the one before it.
        __syncthreads();
        bring(slot == 0 ? STAGES - 1 : slot - 1, step + STAGES - 1);
        core.step(slots + slot * SLOT, slots + slot * SLOT + At::BYTES);
        slot = slot == STAGES - 1 ? 0 : slot + 1;
        if ((step + 1) % (TILE / At::STEP) == 0 || step + 1 == steps) core.flush(to);
    }
    copy_async_wait<0>();
}

// The smaller squares are for few columns: more blocks, the same bits.
KERNEL_OF(gram_f32, GramArgs, THREADS, 2) { gram<Lanes<8>>(a); }
KERNEL_OF(gram_small_f32, GramArgs, THREADS, 2) { gram<Lanes<4>>(a); }
KERNEL_OF(gram_bf16, GramArgs, THREADS, 2) { gram<Warps<4>>(a); }
KERNEL_OF(gram_small_bf16, GramArgs, THREADS, 2) { gram<Warps<2>>(a); }

// Rows that fill no tile are kept, gaps included, a warp each.
KERNEL(gram_hold, GramHoldArgs, THREADS) {
    const u32 row = blockIdx.x * (THREADS / WARP) + warp_id();
    if (row >= a.count) return;
    const u8* from = static_cast<const u8*>(a.x) + a.moves[2 * row] * a.stride;
    u8* to = static_cast<u8*>(a.held) + a.moves[2 * row + 1] * a.stride;
#pragma unroll 4
    for (u32 at = lane_id() * CHUNK_BYTES; at < a.stride; at += WARP * CHUNK_BYTES) {
        store_pack(to + at, load_pack(from + at));
    }
}
