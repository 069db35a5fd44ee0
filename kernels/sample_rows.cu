// sample_rows: copies whole rows of a batch into a sample (A10 of the accumulators). Which rows,
// and where they go, the host knows from their hashes.
//
//   x      [tokens, N] of T, rows `stride` apart
//   picks  [picks, 2]: the token of a row and its place in the sample
//   out    [capacity, N] f32
//
// Bytes  R N (s + 4) for R rows (s = 2 or 4): few, as k (1 + ln(T / k)) rows ever enter a sample
#include "common.cuh"

struct SampleRowsArgs {
    const void* x;
    const u32* picks;
    float* out;
    u32 stride;
    u32 neurons;
};

template <class T> DEVICE void sample_rows(const SampleRowsArgs& a) {
    const T* row = static_cast<const T*>(a.x) + (u64)a.picks[2 * blockIdx.x] * a.stride;
    float* out = a.out + (u64)a.picks[2 * blockIdx.x + 1] * a.neurons;
    const u32 step = gridDim.y * blockDim.x;
    for (u32 i = blockIdx.y * blockDim.x + threadIdx.x; i < a.neurons; i += step) {
        out[i] = to_float(row[i]);
    }
}

KERNEL(sample_rows_f32, SampleRowsArgs, 256) { sample_rows<float>(a); }
KERNEL(sample_rows_bf16, SampleRowsArgs, 256) { sample_rows<bf16>(a); }
