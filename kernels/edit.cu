// edit: writes into chosen columns of chosen tokens, each element by itself: x = v, x = v x,
// x = x + v, x = v x + (1 - v) w, x = v below v and w above w, x = 0 where y is, or x = 0 where y is
// not between v and w. What looks at a whole row is edit_rows.cu.
//
//   x, y     [tokens, ...] of T   rows `stride` elements apart; y is null but to mask 
//   tokens   [rows] u32           rows that are written, none twice; null: the first `rows`
//   columns  [cols] u32           columns that are written, none twice (edit_listed alone)
//   values   [cols] f32           one per column written, the same for all rows or `values_stride`
//                                 apart for each row written; null: `value` for all
//   towards  [cols] f32           w, one per column written; null: `toward` for all
//
// Bytes  listed columns: about 64 R C, a sector read and written for each; all: 2 R C s
// Flops  R C
// Floor  all, R = 8192, C = 4096, bf16: 134 MB, 31 us at 4.3 TB/s -> bound by memory
// The host takes care that nothing is listed twice: an element has one thread that writes it.
#include "row.cuh"

struct EditArgs {
    const u32* tokens;
    const u32* columns;
    const float* values;
    const float* towards;
    const void* y;
    void* x;
    u64 stride;
    u64 values_stride;
    u32 rows;
    u32 cols;
    u32 write;
    float value;
    float toward;
    u32 unused;  // no gap at the end
};

constexpr u32 SET = 0;
constexpr u32 SCALE = 1;
constexpr u32 ADD = 2;
constexpr u32 BLEND = 3;  // this and what follows: edit_listed and edit_all_with
constexpr u32 MASK = 4;
constexpr u32 CLAMP = 5;
constexpr u32 CLAMP_MASK = 6;

constexpr u32 AHEAD = 4;  // columns or packs of a lane; the host divides the columns by 32 of them
constexpr u32 WARPS = 8;  // rows of a block

// A gate that is open or closed gives the bits of x or b; any other what the processor gives.
DEVICE float blended(float z, float x, float b) {
    if (z == 1.0f) return x;
    if (z == 0.0f) return b;
    const double closed = add_exact(1.0, -(double)z);
    return (float)add_exact(mul_exact(z, x), mul_exact(closed, b));
}

DEVICE float written(u32 write, float x, float value) {
    if (write == SET) return value;
    return write == SCALE ? value * x : x + value;
}
// `other` is the value to blend towards, or the upper bound; `y` is read to mask alone. Bounds are
// compared with what T keeps of them: what was clamped is at one. NaN is nowhere clamped.
template <class T>
DEVICE float written_with(u32 write, float x, float value, float other, float y) {
    if (write == BLEND) return blended(value, x, other);
    if (write == MASK) return y == 0.0f ? 0.0f : x;
    if (write == CLAMP) return x < value ? value : x > other ? other : x;
    const float low = to_float(from_float<T>(value)), high = to_float(from_float<T>(other));
    return y <= low || y >= high ? 0.0f : x;
}
DEVICE bool masks(u32 write) { return write == MASK || write == CLAMP_MASK; }

DEVICE u64 row_start(const EditArgs& a, u32 row) {
    return (a.tokens != nullptr ? a.tokens[row] : row) * a.stride;
}

template <class T> DEVICE void edit_listed(const EditArgs& a) {
    const u32 row = blockIdx.x * WARPS + warp_id();
    if (row >= a.rows) return;
    const u64 start = row_start(a, row);
    T* x = static_cast<T*>(a.x) + start;
    const u32 first = blockIdx.y * AHEAD * WARP + lane_id();
#pragma unroll
    for (u32 k = 0; k < AHEAD; ++k) {
        const u32 i = first + k * WARP;
        if (i >= a.cols) break;
        const u32 column = a.columns[i];
        const float value = a.values != nullptr ? a.values[row * a.values_stride + i] : a.value;
        const float other = a.towards != nullptr ? a.towards[i] : a.toward;
        const float y = masks(a.write) ? to_float(static_cast<const T*>(a.y)[start + column]) : 0.0f;
        const float old = to_float(x[column]);
        const bool simple = a.write <= ADD;
        x[column] = from_float<T>(simple ? written(a.write, old, value)
                                         : written_with<T>(a.write, old, value, other, y));
    }
}

// The values of a pack's columns, or one for all.
template <bool WIDE, u32 SIZE>
DEVICE void load_values(float (&out)[SIZE], const float* from, float one, u32 left) {
    if (from != nullptr) {
        load_floats<WIDE>(out, from, left);
    } else {
        for (u32 i = 0; i < SIZE; ++i) out[i] = one;
    }
}

// OTHERS: each element is written from more than itself and a value; the registers for that would be
// idle otherwise.
template <class T, bool OTHERS, bool WIDE> DEVICE void edit_row(const EditArgs& a) {
    constexpr u32 SIZE = Pack<T>::SIZE;
    const u32 row = blockIdx.x * WARPS + warp_id();
    if (row >= a.rows) return;
    const u64 start = row_start(a, row);
    T* x = static_cast<T*>(a.x) + start;
    const float* row_values = a.values != nullptr ? a.values + row * a.values_stride : nullptr;
    const u32 first = (blockIdx.y * AHEAD * WARP + lane_id()) * SIZE;
    Pack<T> old[AHEAD];
#pragma unroll
    for (u32 k = 0; k < AHEAD; ++k) {
        const u32 at = first + k * WARP * SIZE;
        old[k] = load_part<WIDE>(x + at, at < a.cols ? a.cols - at : 0);
    }
#pragma unroll
    for (u32 k = 0; k < AHEAD; ++k) {
        const u32 at = first + k * WARP * SIZE;
        if (at >= a.cols) break;
        const u32 left = a.cols - at;
        float values[SIZE], others[SIZE] = {};
        Pack<T> y = {};
        load_values<WIDE>(values, row_values == nullptr ? nullptr : row_values + at, a.value, left);
        if constexpr (OTHERS) {
            const float* towards = a.towards == nullptr ? nullptr : a.towards + at;
            load_values<WIDE>(others, towards, a.toward, left);
            if (masks(a.write)) {
                y = load_part<WIDE>(static_cast<const T*>(a.y) + start + at, left);
            }
        }
        for (u32 i = 0; i < SIZE; ++i) {
            const float x = to_float(old[k].at[i]);
            values[i] = OTHERS ? written_with<T>(a.write, x, values[i], others[i], to_float(y.at[i]))
                               : written(a.write, x, values[i]);
        }
        store_part<WIDE>(x + at, pack_of<T>(values), left);
    }
}

template <class T, bool OTHERS> DEVICE void edit_all(const EditArgs& a) {
    if (a.stride % Pack<T>::SIZE == 0) {
        edit_row<T, OTHERS, true>(a);
    } else {
        edit_row<T, OTHERS, false>(a);
    }
}

KERNEL(edit_listed_f32, EditArgs, 256) { edit_listed<float>(a); }
KERNEL(edit_listed_bf16, EditArgs, 256) { edit_listed<bf16>(a); }
KERNEL(edit_all_f32, EditArgs, 256) { edit_all<float, false>(a); }
KERNEL(edit_all_bf16, EditArgs, 256) { edit_all<bf16, false>(a); }
KERNEL(edit_all_with_f32, EditArgs, 256) { edit_all<float, true>(a); }
KERNEL(edit_all_with_bf16, EditArgs, 256) { edit_all<bf16, true>(a); }
