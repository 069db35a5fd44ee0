// edit_rows: writes into chosen tokens that look at the whole row.
//
//   x          [tokens, ...] of T   rows `stride` elements apart
//   tokens     [rows] u32           rows that are written, none twice; null: the first `rows`
//   direction  [cols] f32           edit_project: x -= (x . u) u; columns where u is 0 are left out
//   columns    [cols] u32           edit_keep: ascending; null: the first `cols`
//   keep       1 to cols - 1        edit_keep: entries of largest |x| that stay, the others become 0
//
// Bytes  edit_project: 2 R C s and one read from a cache; edit_keep: 2 R C s, and 4 (bf16: 2) reads
//        from a cache to find the threshold, a byte of |x| at a time
// Floor  R = 8192, C = 4096, bf16: 134 MB, 31 us at 4.3 TB/s
// A row has one warp (edit_project) or one block (edit_keep), so its bits do not depend on its batch.
// Sums are f64: what is left along u is the rounding of x alone.
#include "row.cuh"

struct EditRowsArgs {
    const u32* tokens;
    const u32* columns;
    const float* direction;
    void* x;
    u64 stride;
    u32 rows;
    u32 cols;
    u32 keep;
    u32 unused;  // no gap at the end
};

constexpr u32 THREADS = 256;
constexpr u32 WARPS = THREADS / WARP;

template <class T> DEVICE T* row_of(const EditRowsArgs& a, u32 row) {
    return static_cast<T*>(a.x) + (a.tokens != nullptr ? a.tokens[row] : row) * a.stride;
}

template <class T, bool WIDE> DEVICE void project_row(const EditRowsArgs& a, T* x) {
    constexpr u32 SIZE = Pack<T>::SIZE;
    double dot = 0.0;
    for (u32 at = lane_id() * SIZE; at < a.cols; at += WARP * SIZE) {
        const Pack<T> old = load_part<WIDE>(x + at, a.cols - at);
        float u[SIZE];
        load_floats<WIDE>(u, a.direction + at, a.cols - at);
        for (u32 i = 0; i < SIZE; ++i) {
            if (u[i] != 0.0f) dot = fma_exact(to_float(old.at[i]), u[i], dot);
        }
    }
    for (u32 step = WARP / 2; step > 0; step /= 2) {
        dot = add_exact(dot, __shfl_xor_sync(FULL, dot, step));
    }
    for (u32 at = lane_id() * SIZE; at < a.cols; at += WARP * SIZE) {
        Pack<T> pack = load_part<WIDE>(x + at, a.cols - at);
        float u[SIZE];
        load_floats<WIDE>(u, a.direction + at, a.cols - at);
        for (u32 i = 0; i < SIZE; ++i) {
            const double left = add_exact(to_float(pack.at[i]), -mul_exact(dot, u[i]));
            if (u[i] != 0.0f) pack.at[i] = from_float<T>((float)left);
        }
        store_part<WIDE>(x + at, pack, a.cols - at);
    }
}

template <class T> DEVICE void project(const EditRowsArgs& a) {
    const u32 row = blockIdx.x * WARPS + warp_id();
    if (row >= a.rows) return;
    if (a.stride % Pack<T>::SIZE == 0) {
        project_row<T, true>(a, row_of<T>(a, row));
    } else {
        project_row<T, false>(a, row_of<T>(a, row));
    }
}

// The bits of |x|, which are ordered as |x| is; NaN stands above all.
template <class T> DEVICE u32 magnitude(T x) { return bits_of_float(to_float(x)) & 0x7fffffffu; }

DEVICE u32 column_of(const EditRowsArgs& a, u32 i) {
    return a.columns != nullptr ? a.columns[i] : i;
}

// Sum of `count` over the threads before this one. `totals` is free again after the next barrier.
DEVICE u32 count_before(u32 count, u32* totals) {
    u32 sum = count;
    for (u32 step = 1; step < WARP; step *= 2) {
        const u32 other = __shfl_up_sync(FULL, sum, step);
        if (lane_id() >= step) sum += other;
    }
    if (lane_id() == WARP - 1) totals[warp_id()] = sum;
    __syncthreads();
    for (u32 warp = 0; warp < warp_id(); ++warp) sum += totals[warp];
    return sum - count;
}

// What is above `key` stays, and the first `equal` of those that have it.
struct Threshold {
    u32 key;
    u32 equal;
};

// Found a byte at a time from the highest: each thread counts the entries that have one value of it,
// thread 0 the largest, among those whose higher bytes are the threshold's.
template <class T> DEVICE Threshold threshold(const EditRowsArgs& a, const T* x) {
    EL_SHARED(u32, counts, [THREADS]);
    EL_SHARED(u32, totals, [WARPS]);
    EL_SHARED(Threshold, found, [1]);
    constexpr u32 LAST = 32 - 8 * (u32)sizeof(T);  // the lower half of a bf16 as a float is 0
    Threshold best = {0, a.keep};
    for (u32 shift = 24;; shift -= 8) {
        counts[threadIdx.x] = 0;
        __syncthreads();
        for (u32 i = threadIdx.x; i < a.cols; i += THREADS) {
            const u32 key = magnitude(x[column_of(a, i)]);
            const u32 byte = (key >> shift) & 255;
            if (((key ^ best.key) >> shift) >> 8 == 0) atomicAdd(&counts[255 - byte], 1u);
        }
        __syncthreads();
        const u32 count = counts[threadIdx.x], before = count_before(count, totals);
        if (before < best.equal && before + count >= best.equal) {
            found[0] = {best.key | (255 - threadIdx.x) << shift, best.equal - before};
        }
        __syncthreads();
        best = found[0];
        if (shift == LAST) return best;
    }
}

template <class T> DEVICE void keep_top(const EditRowsArgs& a) {
    EL_SHARED(u32, totals, [WARPS]);
    T* x = row_of<T>(a, blockIdx.x);
    const Threshold best = threshold(a, x);
    u32 taken = 0;  // of those that equal the threshold
    for (u32 first = 0; first < a.cols; first += THREADS) {
        const u32 i = first + threadIdx.x;
        const bool there = i < a.cols;
        const u32 column = there ? column_of(a, i) : 0;
        const u32 key = there ? magnitude(x[column]) : 0;
        const bool equal = there && key == best.key;
        const u32 lanes = __ballot_sync(FULL, equal);
        if (lane_id() == 0) totals[warp_id()] = (u32)__popc(lanes);
        __syncthreads();
        u32 before = taken + (u32)__popc(lanes & ((1u << lane_id()) - 1));
        for (u32 warp = 0; warp < WARPS; ++warp) {
            if (warp < warp_id()) before += totals[warp];
            taken += totals[warp];
        }
        const bool stays = key > best.key || (equal && before < best.equal);
        if (there && !stays) x[column] = from_float<T>(0.0f);
        __syncthreads();
    }
}

KERNEL(edit_project_f32, EditRowsArgs, THREADS) { project<float>(a); }
KERNEL(edit_project_bf16, EditRowsArgs, THREADS) { project<bf16>(a); }
KERNEL(edit_keep_f32, EditRowsArgs, THREADS) { keep_top<float>(a); }
KERNEL(edit_keep_bf16, EditRowsArgs, THREADS) { keep_top<bf16>(a); }
