// gemm: out = finish(x w^T + bias), where `finish` activates, multiplies by a tensor, or adds one.
//
//   x     [rows, inner]     T      rows x_stride elements apart (a multiple of 16 bytes)
//   w     [columns, inner]  T      rows w_stride elements apart
//   bias  [columns]         float  or null
//   other [rows, columns]   T      the factor or the term; may be `out`
//   out   [rows, columns]   T      one column: rows may be 1 element apart
//
// Bytes  s (T K + N K + T N)      Flops  2 T N K   -> bound by arithmetic
// Floor  float: T=8192 N=K=2048: 68.7 GFLOP = 1.1 ms at 60 TFLOP/s; bf16: 0.15 ms at 450 TFLOP/s
//
// Each element is summed over the inner dimension in one order, whatever the tile and the number of
// rows: the bits of a row do not depend on the batch it came in. Ladder: docs/kernels/gemm.md.
#include "gemm_tile.cuh"

struct GemmArgs {
    const void* x;
    const void* w;
    const float* bias;
    const void* other;
    void* out;
    u64 x_stride;
    u64 w_stride;
    u64 other_stride;
    u64 out_stride;
    u32 rows;
    u32 columns;
    u32 inner;
    u32 epilogue;
};

constexpr u32 THREADS = 256;
// A step takes 64 bytes of each row of x and of w: 4 chunks of 16 bytes. Its rows lie one after
// the other in shared memory, their chunks permuted: 8 neighbouring rows have a chunk on 8
// different groups of banks, for ldmatrix and for the 8 lanes that load 16 bytes together.
constexpr u32 ROW_BYTES = 64, CHUNK_BYTES = 16, STAGES = 4;
DEVICE u32 chunk_at(u32 row, u32 chunk) {
    return row * ROW_BYTES + (chunk ^ (row / 2 % 4)) * CHUNK_BYTES;
}

// One operand's ROWS rows on their way to shared memory: thread i brings chunk i % 4 of every 64th
// row.
template <class T, u32 ROWS> struct Feed {
    static constexpr u32 EACH = (ROWS + 63) / 64;
    const u8* from[EACH];

    // Rows past the last one repeat it: what they give is never written.
    DEVICE Feed(const void* base, u64 stride, u32 first, u32 rows) {
#pragma unroll
        for (u32 i = 0; i < EACH; ++i) {
            const u64 row = smaller(first + threadIdx.x / 4 + i * 64, rows - 1);
            from[i] = static_cast<const u8*>(base) + row * stride * sizeof(T) +
                      threadIdx.x % 4 * CHUNK_BYTES;
        }
    }
    // Brings `bytes` bytes of a chunk and zeros after them. `at` is where the chunk of the first of
    // the rows belongs.
    DEVICE void next(u8* at, u32 bytes) {
#pragma unroll
        for (u32 i = 0; i < EACH; ++i) {
            if (ROWS >= 64 || threadIdx.x / 4 < ROWS) {
                copy_async_16(at + i * 64 * ROW_BYTES, from[i], bytes);
            }
            from[i] += ROW_BYTES;
        }
    }
};

// The biases of a tile's columns; zero past the last one, or where there are none.
struct Bias {
    const float* values;
    u32 first, columns;
    DEVICE float at(u32 column) const {
        return values && first + column < columns ? values[first + column] : 0.0f;
    }
};

// 16 x 16 threads, R x C sums each, 16 rows and columns apart, as plain float arithmetic.
template <u32 R, u32 C> struct Lanes {
    typedef float Element;
    static constexpr u32 ROWS = 16 * R, COLUMNS = 16 * C;
    float sum[R][C];
    u32 row, column;

    // A warp is 4 rows of 8 threads: of w its lanes read 8 rows, of x each 8 lanes read the same.
    DEVICE Lanes() : sum{} {
        row = warp_id() / 2 * 4 + lane_id() / 8;
        column = warp_id() % 2 * 8 + lane_id() % 8;
    }
    DEVICE void step(const u8* x, const u8* w) {
#pragma unroll 1
        for (u32 chunk = 0; chunk < 4; ++chunk) {
            Pack<float> left[R];
#pragma unroll
            for (u32 i = 0; i < R; ++i) {
                left[i] = load_pack(reinterpret_cast<const float*>(x + chunk_at(row + 16 * i, chunk)));
            }
#pragma unroll
            for (u32 j = 0; j < C; ++j) {
                const Pack<float> right =
                    load_pack(reinterpret_cast<const float*>(w + chunk_at(column + 16 * j, chunk)));
#pragma unroll
                for (u32 k = 0; k < 4; ++k) {
#pragma unroll
                    for (u32 i = 0; i < R; ++i) sum[i][j] += left[i].at[k] * right.at[k];
                }
            }
        }
    }
    DEVICE void stage(float* tile, const Bias& bias) const {
#pragma unroll
        for (u32 j = 0; j < C; ++j) {
            const float more = bias.at(column + 16 * j);
#pragma unroll
            for (u32 i = 0; i < R; ++i) {
                tile[staged<float, COLUMNS>(row + 16 * i, column + 16 * j)] = sum[i][j] + more;
            }
        }
    }
};

// 2 x 4 warps of 16 M rows and 16 N columns each, on the matrix units.
template <u32 M, u32 N> struct Warps {
    typedef bf16 Element;
    static constexpr u32 ROWS = 32 * M, COLUMNS = 64 * N;
    float sum[M][2 * N][4];
    u32 row, column;

    DEVICE Warps() : sum{} {
        row = warp_id() / 4 * 16 * M;
        column = warp_id() % 4 * 16 * N;
    }
    DEVICE void step(const u8* x, const u8* w) {
        const u32 lane = lane_id();
#pragma unroll
        for (u32 k = 0; k < 4; k += 2) {
            u32 right[N][4];
#pragma unroll
            for (u32 j = 0; j < N; ++j) {
                const u32 at = column + 16 * j + lane % 8 + lane / 16 * 8;
                load_matrix_x4(right[j], w + chunk_at(at, k + lane / 8 % 2));
            }
#pragma unroll
            for (u32 i = 0; i < M; ++i) {
                u32 left[4];
                load_matrix_x4(left, x + chunk_at(row + 16 * i + lane % 16, k + lane / 16));
#pragma unroll
                for (u32 j = 0; j < N; ++j) {
                    mma_16x8x16(sum[i][2 * j], left, right[j][0], right[j][1]);
                    mma_16x8x16(sum[i][2 * j + 1], left, right[j][2], right[j][3]);
                }
            }
        }
    }
    DEVICE void stage(bf16* tile, const Bias& bias) const {
        const u32 down = row + lane_id() / 4, along = column + lane_id() % 4 * 2;
#pragma unroll
        for (u32 j = 0; j < 2 * N; ++j) {
            const u32 c = along + 8 * j;
            const float left = bias.at(c), right = bias.at(c + 1);
#pragma unroll
            for (u32 i = 0; i < M; ++i) {
                const float(&s)[4] = sum[i][j];
                stage_pair<COLUMNS>(tile, down + 16 * i, c, s[0] + left, s[1] + right);
                stage_pair<COLUMNS>(tile, down + 16 * i + 8, c, s[2] + left, s[3] + right);
            }
        }
    }
};

// One tile of `out` a block. The dynamic shared memory is STAGES slots of a step of x and of w each;
// the finished tile lies in the same place.
template <class CORE> DEVICE void gemm(const GemmArgs& a) {
    typedef typename CORE::Element T;
    constexpr u32 ROWS = CORE::ROWS, COLUMNS = CORE::COLUMNS;
    constexpr u32 SLOT = (ROWS + COLUMNS) * ROW_BYTES;
    static_assert(ROWS * COLUMNS * sizeof(T) <= STAGES * SLOT, "the finished tile lies in the slots");
    EL_SMEM(slots);
    const Place at =
        place_of(blockIdx.x, ceil_div(a.rows, ROWS), ceil_div(a.columns, COLUMNS));
    const u32 row = at.row * ROWS, column = at.column * COLUMNS;
    Feed<T, ROWS> x(a.x, a.x_stride, row, a.rows);
    Feed<T, COLUMNS> w(a.w, a.w_stride, column, a.columns);
    u8* const mine = slots + chunk_at(threadIdx.x / 4, threadIdx.x % 4);
    // What is left of a row, from this thread's chunk on. What lies after its end is zero in shared
    // memory, whatever is there in global memory.
    const i32 all = (i32)(a.inner * (u32)sizeof(T));
    i32 left = all - (i32)(threadIdx.x % 4 * CHUNK_BYTES);
    const auto bring = [&](u32 slot) {
        const u32 bytes = (u32)larger(smaller(left, (i32)CHUNK_BYTES), 0);
        x.next(mine + slot * SLOT, bytes);
        w.next(mine + slot * SLOT + ROWS * ROW_BYTES, bytes);
        copy_async_commit();
        left -= ROW_BYTES;
    };
    for (u32 slot = 0; slot < STAGES - 1; ++slot) bring(slot);
    CORE core;
    const u32 steps = ceil_div(all, ROW_BYTES);
    u32 slot = 0;
#pragma unroll 1
    for (u32 step = 0; step < steps; ++step) {
        copy_async_wait<STAGES - 2>();
        // The slot of this step has come for every thread, and nobody reads the one before it.
        __syncthreads();
        bring(slot == 0 ? STAGES - 1 : slot - 1);
        core.step(slots + slot * SLOT, slots + slot * SLOT + ROWS * ROW_BYTES);
        slot = slot == STAGES - 1 ? 0 : slot + 1;
    }
    copy_async_wait<0>();
    __syncthreads();
    T* tile = reinterpret_cast<T*>(slots);
    core.stage(tile, {a.bias, column, a.columns});
    __syncthreads();
    finish_tile<T, ROWS, COLUMNS, THREADS>(a, tile, row, column, threadIdx.x);
}

// The smaller tiles are for few rows or columns: more blocks, the same bits.
KERNEL_OF(gemm_f32, GemmArgs, THREADS, 2) { gemm<Lanes<8, 8>>(a); }
KERNEL_OF(gemm_small_f32, GemmArgs, THREADS, 2) { gemm<Lanes<2, 2>>(a); }
KERNEL_OF(gemm_bf16, GemmArgs, THREADS, 2) { gemm<Warps<4, 2>>(a); }
KERNEL_OF(gemm_small_bf16, GemmArgs, THREADS, 2) { gemm<Warps<1, 1>>(a); }
