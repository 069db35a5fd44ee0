// gemm_outer: products over one inner column: out = finish(x w^T + bias), as gemm.cu has it, for the
// way back through a head of one class. One column is the one shape whose rows do not begin at
// multiples of 16 bytes.
//
//   x     [rows, 1]         T      one element after the other
//   w     [columns, 1]      T      the same
//   bias  [columns]         float  or null
//   other [rows, columns]   T      the factor or the term; may be `out`
//   out   [rows, columns]   T
//
// Bytes  s T N (with a factor or term 2 to 3 s T N)   Flops  2 T N
// Floor  T = 8192, N = 4096, bf16: 67 MB, 16 us at 4.3 TB/s -> bound by memory
#include "gemm_tile.cuh"

struct GemmOuterArgs {
    const void* x;
    const void* w;
    const float* bias;
    const void* other;
    void* out;
    u64 other_stride;
    u64 out_stride;
    u32 rows;
    u32 columns;
    u32 epilogue;
    u32 spare;  // keeps the size a multiple of 8
};

// Grid (rows, chunks of columns / threads): a thread has a chunk of 16 bytes of a row.
template <class T> DEVICE void outer(const GemmOuterArgs& a) {
    constexpr u32 N = CHUNK<T>;
    const u32 row = blockIdx.x;
    const u32 first = (blockIdx.y * blockDim.x + threadIdx.x) * N;
    if (first >= a.columns) return;
    const u32 valid = smaller(a.columns - first, N);
    const float x = to_float(static_cast<const T*>(a.x)[row]);
    float y[N] = {};
#pragma unroll
    for (u32 i = 0; i < N; ++i) {
        if (i >= valid) break;
        const float product = x * to_float(static_cast<const T*>(a.w)[first + i]);
        y[i] = product + (a.bias ? a.bias[first + i] : 0.0f);
    }
    // Rounded as if it were stored here; the epilogue starts from that.
    Chunk chunk = round_chunk<T>(y);
    if (a.epilogue != PLAIN) {
        widen_chunk(chunk, y);
        if (a.epilogue >= ACTIVATE) {
            activate_each(a.epilogue - ACTIVATE, y);
        } else {
            float more[N];
            widen_chunk(load_chunk(static_cast<const T*>(a.other) + row * a.other_stride + first, valid), more);
#pragma unroll
            for (u32 i = 0; i < N; ++i) y[i] = a.epilogue == ADD ? more[i] + y[i] : more[i] * y[i];
        }
        chunk = round_chunk<T>(y);
    }
    store_chunk(static_cast<T*>(a.out) + row * a.out_stride + first, chunk, valid);
}

KERNEL(gemm_outer_f32, GemmOuterArgs, 128) { outer<float>(a); }
KERNEL(gemm_outer_bf16, GemmOuterArgs, 128) { outer<bf16>(a); }
