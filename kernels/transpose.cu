// transpose: a weight [rows, cols] written as [cols, rows], so that the products of the forward pass
// also multiply gradients. Exact.
//
//   x    [rows, cols] of T   rows `x_stride` elements apart
//   out  [cols, rows] of T   rows `out_stride` elements apart; what lies between them becomes 0
//
// Bytes  2 R C s (s = 2 or 4 bytes)   Flops  0
// Floor  R = C = 4096, bf16: 67 MB, 16 us at 4.3 TB/s -> bound by memory
// Done once for each weight when a model is opened, so it is kept plain: a warp reads and writes runs
// of 32 elements, whole sectors of memory, one element a lane, through a square of shared memory.
#include "common.cuh"

struct TransposeArgs {
    const void* x;
    void* out;
    u64 x_stride;
    u64 out_stride;
    u32 rows;
    u32 cols;
};

constexpr u32 SIDE = WARP;  // of a square; the host divides rows (gaps included) and columns by it
constexpr u32 THREADS = 256;
constexpr u32 STEP = THREADS / SIDE;  // rows of a square at a time

// Grid (rows of `out` / SIDE, out_stride / SIDE).
template <class T> DEVICE void transpose(const TransposeArgs& a) {
    // One more element a row, so that the elements of a column lie on different banks.
    EL_SHARED(T, square, [SIDE * (SIDE + 1)]);
    const T* x = static_cast<const T*>(a.x);
    T* out = static_cast<T*>(a.out);
    const u32 top = blockIdx.y * SIDE, left = blockIdx.x * SIDE;  // in x
    const u32 lane = lane_id();
    for (u32 r = warp_id(); r < SIDE; r += STEP) {
        const u32 row = top + r, col = left + lane;
        const bool there = row < a.rows && col < a.cols;
        square[r * (SIDE + 1) + lane] = there ? x[row * a.x_stride + col] : T{};
    }
    __syncthreads();
    for (u32 r = warp_id(); r < SIDE; r += STEP) {
        const u32 row = left + r, col = top + lane;  // in out
        if (row < a.cols && col < a.out_stride) {
            out[row * a.out_stride + col] = square[lane * (SIDE + 1) + r];
        }
    }
}

KERNEL(transpose_f32, TransposeArgs, THREADS) { transpose<float>(a); }
KERNEL(transpose_bf16, TransposeArgs, THREADS) { transpose<bf16>(a); }
