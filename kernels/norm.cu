// norm: layer norm and root-mean-square norm of runs of columns: whole rows, or heads in place.
//
//   x, y, out     [rows, ...] of T   rows `stride` elements apart; y is added first, or null
//   weight, bias  [cols] f32         bias may be null
//   A row has `heads` runs of `cols` columns from column `first` on.
//
// Bytes  2 T C s (with y: 3 T C s) + 8 C, s = 2 or 4 bytes   Flops  about 8 T C
// Floor  T = 8192, C = 4096, bf16: 134 MB, 31 us at 4.3 TB/s -> bound by memory
// Each element is read once: it waits in a register, as a float, while its run is summed, first for
// the mean and then for the squares of what differs from it. E[x^2] - E[x]^2 would be one sum less,
// and cancels where the mean is large.
// A run of up to 1024 columns has 8, 16 or 32 lanes of a warp (norm_narrow), a longer one a block
// (norm_wide); which thread holds which column depends on the width alone, so a row's bits do too.
#include "row.cuh"

struct NormArgs {
    const void* x;
    const void* y;
    const float* weight;
    const float* bias;
    void* out;
    u64 stride;
    u32 rows;
    u32 heads;
    u32 first;
    u32 cols;
    u32 lanes;    // of a run, norm_narrow alone
    u32 layer;    // 1: the mean is subtracted; 0: root mean square
    float eps;
    float offset;  // added to the weight
};

constexpr u32 HELD = 32;  // values a thread keeps in registers

// Who shares a run: some lanes of a warp, or the block. `sum` is called by whole warps.
struct Lanes {
    static constexpr bool LONG = false;
    u32 threads;
    u32 index;
    DEVICE float sum(float x, u32) const {
        for (u32 step = threads / 2; step > 0; step /= 2) x += __shfl_xor_sync(FULL, x, step);
        return x;
    }
};
struct Block {
    static constexpr bool LONG = true;  // Runs may be longer than what its threads hold.
    u32 threads;
    u32 index;
    float* scratch;  // two of 32, one for each sum
    DEVICE float sum(float x, u32 which) const { return block_sum(x, scratch + which * WARP); }
};

// The pack of values at column `at` of the run that begins at element `start`.
template <class T, bool WIDE>
DEVICE void load_values(float (&v)[Pack<T>::SIZE], const NormArgs& a, u64 start, u32 at, u32 cols) {
    const u32 left = at < cols ? cols - at : 0;
    const Pack<T> x = load_part<WIDE>(static_cast<const T*>(a.x) + start + at, left);
    for (u32 i = 0; i < Pack<T>::SIZE; ++i) v[i] = to_float(x.at[i]);
    if (a.y != nullptr) {
        const Pack<T> y = load_part<WIDE>(static_cast<const T*>(a.y) + start + at, left);
        for (u32 i = 0; i < Pack<T>::SIZE; ++i) v[i] += to_float(y.at[i]);
    }
}

// Sums over the elements before the end of the run.
template <u32 SIZE> DEVICE float sum_of(const float (&v)[SIZE], u32 at, u32 cols) {
    float sum = 0.0f;
    for (u32 i = 0; i < SIZE; ++i) sum += at + i < cols ? v[i] : 0.0f;
    return sum;
}
template <u32 SIZE> DEVICE float squares_of(const float (&v)[SIZE], float mean, u32 at, u32 cols) {
    float sum = 0.0f;
    for (u32 i = 0; i < SIZE; ++i) {
        const float d = v[i] - mean;
        sum += at + i < cols ? d * d : 0.0f;
    }
    return sum;
}

template <class T, bool WIDE>
DEVICE void store_normed(const float (&v)[Pack<T>::SIZE], const NormArgs& a, float mean,
                         float inverse, u64 start, u32 at, u32 cols) {
    constexpr u32 SIZE = Pack<T>::SIZE;
    if (at >= cols) return;
    float weight[SIZE], normed[SIZE];
    load_floats<WIDE>(weight, a.weight + at, cols - at);
    for (u32 i = 0; i < SIZE; ++i) normed[i] = (v[i] - mean) * inverse * (weight[i] + a.offset);
    if (a.bias != nullptr) {
        float bias[SIZE];
        load_floats<WIDE>(bias, a.bias + at, cols - at);
        for (u32 i = 0; i < SIZE; ++i) normed[i] += bias[i];
    }
    store_part<WIDE>(static_cast<T*>(a.out) + start + at, pack_of<T>(normed), cols - at);
}

// Norms the run at element `start`; `cols` is 0 for threads that have none and only keep the sums
// of their warp company.
template <class T, bool WIDE, class Group>
DEVICE void norm_values(const NormArgs& a, u64 start, u32 cols, const Group& group) {
    constexpr u32 SIZE = Pack<T>::SIZE;
    constexpr u32 PACKS = HELD / SIZE;
    const u32 first = group.index * SIZE;
    const u32 step = group.threads * SIZE;
    float held[PACKS][SIZE];
    float sum = 0.0f;
#pragma unroll
    for (u32 k = 0; k < PACKS; ++k) load_values<T, WIDE>(held[k], a, start, first + k * step, cols);
#pragma unroll
    for (u32 k = 0; k < PACKS; ++k) sum += sum_of(held[k], first + k * step, cols);
    if constexpr (Group::LONG) {
        for (u32 at = first + PACKS * step; at < cols; at += step) {
            float v[SIZE];
            load_values<T, WIDE>(v, a, start, at, cols);
            sum += sum_of(v, at, cols);
        }
    }
    const float count = (float)a.cols;
    const float mean = a.layer ? group.sum(sum, 0) / count : 0.0f;
    float squares = 0.0f;
#pragma unroll
    for (u32 k = 0; k < PACKS; ++k) squares += squares_of(held[k], mean, first + k * step, cols);
    if constexpr (Group::LONG) {
        for (u32 at = first + PACKS * step; at < cols; at += step) {
            float v[SIZE];
            load_values<T, WIDE>(v, a, start, at, cols);
            squares += squares_of(v, mean, at, cols);
        }
    }
    const float inverse = 1.0f / sqrtf(group.sum(squares, 1) / count + a.eps);
#pragma unroll
    for (u32 k = 0; k < PACKS; ++k) {
        store_normed<T, WIDE>(held[k], a, mean, inverse, start, first + k * step, cols);
    }
    if constexpr (Group::LONG) {
        for (u32 at = first + PACKS * step; at < cols; at += step) {
            float v[SIZE];
            load_values<T, WIDE>(v, a, start, at, cols);
            store_normed<T, WIDE>(v, a, mean, inverse, start, at, cols);
        }
    }
}

template <class T, class Group>
DEVICE void norm_run(const NormArgs& a, u64 start, u32 cols, const Group& group) {
    // Heads that follow each other have to begin at packs too.
    const u64 steps = a.stride | a.first | (a.heads > 1 ? a.cols : 0);
    if (steps % Pack<T>::SIZE == 0) {
        norm_values<T, true>(a, start, cols, group);
    } else {
        norm_values<T, false>(a, start, cols, group);
    }
}

DEVICE u64 run_start(const NormArgs& a, u32 run) {
    return (u64)(run / a.heads) * a.stride + a.first + (u64)(run % a.heads) * a.cols;
}

template <class T> DEVICE void norm_narrow(const NormArgs& a) {
    const u32 run = blockIdx.x * (blockDim.x / a.lanes) + threadIdx.x / a.lanes;
    const u32 cols = run < a.rows * a.heads ? a.cols : 0;
    norm_run<T>(a, run_start(a, run), cols, Lanes{a.lanes, threadIdx.x % a.lanes});
}
template <class T> DEVICE void norm_wide(const NormArgs& a) {
    EL_SHARED(float, scratch, [2 * WARP]);
    norm_run<T>(a, run_start(a, blockIdx.x), a.cols, Block{blockDim.x, threadIdx.x, scratch});
}

KERNEL(norm_narrow_f32, NormArgs, 256) { norm_narrow<float>(a); }
KERNEL(norm_narrow_bf16, NormArgs, 256) { norm_narrow<bf16>(a); }
KERNEL(norm_wide_f32, NormArgs, 256) { norm_wide<float>(a); }
KERNEL(norm_wide_bf16, NormArgs, 256) { norm_wide<bf16>(a); }
