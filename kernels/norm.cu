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
// and cancels where the mean is large. A block's run of more than 8192 columns is read again.
// A run of up to 1024 columns has 8, 16 or 32 lanes of a warp (norm_narrow), a longer one a block
// (norm_wide); which thread holds which column depends on the width alone, so a row's bits do too.
// Runs that are not made of whole packs of 16 bytes go element by element, and are read three times:
// a test for the end of the run at each element costs as much as the sums, and no model has them.
#include "norm.cuh"

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
    u32 lane_bits;  // a run has 2^lane_bits lanes (norm_narrow alone)
    u32 layer;      // 1: the mean is subtracted; 0: root mean square
    float eps;
    float offset;  // added to the weight
};

// x, or x + y, at element `at`.
template <class T, u32 N> DEVICE void load_sum(float (&v)[N], const NormArgs& a, u64 at) {
    load(v, static_cast<const T*>(a.x) + at);
    if (a.y == nullptr) return;
    float y[N];
    load(y, static_cast<const T*>(a.y) + at);
    for (u32 i = 0; i < N; ++i) v[i] += y[i];
}
// The packs at `at`, `at` + `step`, ... that begin before `end`. All loads are under way before the
// first is waited for.
template <class T, u32 PACKS, u32 N>
DEVICE void load_held(float (&held)[PACKS][N], const NormArgs& a, u64 at, u32 step, u64 end) {
    const T* x = static_cast<const T*>(a.x);
    const T* y = static_cast<const T*>(a.y);
    Pack<T> xs[PACKS], ys[PACKS];
#pragma unroll
    for (u32 k = 0; k < PACKS; ++k) xs[k] = load_part<true>(x + at + k * step, at + k * step < end);
    if (y != nullptr) {
#pragma unroll
        for (u32 k = 0; k < PACKS; ++k) {
            ys[k] = load_part<true>(y + at + k * step, at + k * step < end);
        }
    }
#pragma unroll
    for (u32 k = 0; k < PACKS; ++k) {
        for (u32 i = 0; i < N; ++i) held[k][i] = to_float(xs[k].at[i]);
        if (y == nullptr) continue;
        for (u32 i = 0; i < N; ++i) held[k][i] += to_float(ys[k].at[i]);
    }
}

template <u32 N> DEVICE float sum_of(const float (&v)[N]) {
    float sum = 0.0f;
    for (u32 i = 0; i < N; ++i) sum += v[i];
    return sum;
}
// Takes the mean off, and gives the sum of the squares.
template <u32 N> DEVICE float center(float (&v)[N], float mean) {
    float sum = 0.0f;
    for (u32 i = 0; i < N; ++i) {
        v[i] -= mean;
        sum += v[i] * v[i];
    }
    return sum;
}

// From values without their mean.
template <class T, u32 N>
DEVICE void store_normed(const float (&v)[N], const NormArgs& a, float inverse, u64 start, u32 at) {
    float factor[N], normed[N];
    load(factor, a.weight + at);
    for (u32 i = 0; i < N; ++i) normed[i] = v[i] * inverse * (factor[i] + a.offset);
    if (a.bias != nullptr) {
        float bias[N];
        load(bias, a.bias + at);
        for (u32 i = 0; i < N; ++i) normed[i] += bias[i];
    }
    store_pack(static_cast<T*>(a.out) + start + at, pack_of<T>(normed));
}

// Norms the run at element `start`; `cols` is 0 for threads that have none and only keep the sums
// of their warp company.
template <class T, class Group>
DEVICE void norm_packs(const NormArgs& a, u64 start, u32 cols, const Group& group) {
    constexpr u32 N = Pack<T>::SIZE;
    constexpr u32 PACKS = HELD / N;
    const u32 first = group.index * N;
    const u32 step = group.threads * N;
    const u32 beyond = first + PACKS * step;  // what is not held, where runs are LONG
    float held[PACKS][N];
    float sum = 0.0f;
    load_held<T>(held, a, start + first, step, start + cols);
#pragma unroll
    for (u32 k = 0; k < PACKS; ++k) sum += sum_of(held[k]);  // 0 beyond the end
    for (u32 at = beyond; Group::LONG && at < cols; at += step) {
        float v[N];
        load_sum<T>(v, a, start + at);
        sum += sum_of(v);
    }
    const float count = (float)a.cols;
    const float mean = a.layer ? group.sum(sum, 0) / count : 0.0f;
    float squares = 0.0f;
#pragma unroll
    for (u32 k = 0; k < PACKS; ++k) {
        if (first + k * step < cols) squares += center(held[k], mean);
    }
    for (u32 at = beyond; Group::LONG && at < cols; at += step) {
        float v[N];
        load_sum<T>(v, a, start + at);
        squares += center(v, mean);
    }
    const float inverse = 1.0f / sqrtf(group.sum(squares, 1) / count + a.eps);
#pragma unroll
    for (u32 k = 0; k < PACKS; ++k) {
        const u32 at = first + k * step;
        if (at < cols) store_normed<T>(held[k], a, inverse, start, at);
    }
    for (u32 at = beyond; Group::LONG && at < cols; at += step) {
        float v[N];
        load_sum<T>(v, a, start + at);
        center(v, mean);
        store_normed<T>(v, a, inverse, start, at);
    }
}

// The same, element by element.
template <class T, class Group>
DEVICE void norm_each(const NormArgs& a, u64 start, u32 cols, const Group& group) {
    const T* x = static_cast<const T*>(a.x) + start;
    const T* y = a.y != nullptr ? static_cast<const T*>(a.y) + start : nullptr;
    T* out = static_cast<T*>(a.out) + start;
    const auto value = [&](u32 i) {
        return y != nullptr ? to_float(x[i]) + to_float(y[i]) : to_float(x[i]);
    };
    const float count = (float)a.cols;
    float sum = 0.0f, squares = 0.0f;
    for (u32 i = group.index; i < cols; i += group.threads) sum += value(i);
    const float mean = a.layer ? group.sum(sum, 0) / count : 0.0f;
    for (u32 i = group.index; i < cols; i += group.threads) {
        squares += (value(i) - mean) * (value(i) - mean);
    }
    const float inverse = 1.0f / sqrtf(group.sum(squares, 1) / count + a.eps);
    for (u32 i = group.index; i < cols; i += group.threads) {
        const float normed = (value(i) - mean) * inverse * (a.weight[i] + a.offset);
        out[i] = from_float<T>(a.bias != nullptr ? normed + a.bias[i] : normed);
    }
}

// Run `run`, if `there` is one.
template <class T, class Group>
DEVICE void norm_run(const NormArgs& a, u32 run, bool there, const Group& group) {
    const u32 head = run % a.heads;
    const u64 start = run / a.heads * a.stride + a.first + (u64)head * a.cols;
    const u32 cols = there ? a.cols : 0;
    if ((a.stride | a.first | a.cols) % Pack<T>::SIZE == 0) {
        norm_packs<T>(a, start, cols, group);
    } else {
        norm_each<T>(a, start, cols, group);
    }
}

template <class T> DEVICE void norm_narrow(const NormArgs& a) {
    const u32 lanes = 1u << a.lane_bits;
    const u32 run = blockIdx.x * (blockDim.x >> a.lane_bits) + (threadIdx.x >> a.lane_bits);
    norm_run<T>(a, run, run < a.rows * a.heads, Lanes{lanes, threadIdx.x & (lanes - 1)});
}
template <class T> DEVICE void norm_wide(const NormArgs& a) {
    EL_SHARED(float, scratch, [2 * WARP]);
    norm_run<T>(a, blockIdx.x, true, Block{blockDim.x, threadIdx.x, scratch});
}

KERNEL(norm_narrow_f32, NormArgs, 256) { norm_narrow<float>(a); }
KERNEL(norm_narrow_bf16, NormArgs, 256) { norm_narrow<bf16>(a); }
KERNEL(norm_wide_f32, NormArgs, 256) { norm_wide<float>(a); }
KERNEL(norm_wide_bf16, NormArgs, 256) { norm_wide<bf16>(a); }
