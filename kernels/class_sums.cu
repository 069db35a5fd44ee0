// class_sums: sums, sums of squares, range and firing counts of every neuron in every group (A1 to
// A4 of the accumulators), bit for bit those of the CPU device: one row after the other, in f64.
//
//   x        [tokens, N] of T, rows `stride` apart      source [R] token of each row
//   shift    [N]                                        items  [items, 4], see ItemKind
//   sum, square f64, min, max f32, firing u64, non_finite u32: [G1, N], running
//
// A block owns 32 neurons (lanes) and walks tiles of 64 KB, 1024 rows of bf16. A tile is copied to
// shared memory once; warps then take items (a group of the tile, longest first) from a counter.
// Which warp takes an item changes no bit: the running values of a group are its own, loaded and
// stored around the item. Group 0 is as long as all others together: its moments and its range are
// two items.
//
// With g groups a row, beside group 0:
// Bytes  T N s (s = 2 or 4), and 64 N G1 a tile from L2   Flops  4 (1 + g) T N in f64
// Floor  T = 16384, N = 8192, bf16, g = 1: 62 us of memory; 64 us of f64 (16.7 T instructions/s); a
//        chain of R sums, whatever N, at 8 cycles each: 70 us; 32 issue slots a value: 138 us
#include "common.cuh"

struct ClassSumsArgs {
    const void* x;
    const float* shift;
    const u32* source;
    const u32* item_starts;  // [tiles + 1]
    const u32* items;
    const u32* members;
    double* sum;
    double* square;
    float* min;
    float* max;
    u64* firing;
    u32* non_finite;
    u32 stride;
    u32 neurons;
    u32 rows;
    u32 tiles;
    u32 stages;  // tiles in shared memory: 1, or 2 where the next one arrives during the work
    u32 unused;  // no gap at the end
};

constexpr u32 THREADS = 256;
constexpr u32 NEURONS = WARP;
// Rows of a tile; as in src/device/cuda/class_sums.rs.
template <class T> constexpr u32 TILE = 2048 / sizeof(T);
constexpr u32 CHUNK = 8;  // rows read ahead
// What an item is about; it is {group * 4 + kind, first in members, rows, 0}. Members of an item
// are rows of the tile in order, filled up with row 0 to a multiple of CHUNK; group 0 has no list.
enum ItemKind : u32 { MOMENTS = 1, RANGE = 2, BOTH = 3 };

// A value as it is loaded: its bits, those of a bf16 with the sign spread over the upper half. (As
// 16-bit values, the compiler would keep two in a register and take them apart again.)
template <class T> struct Raw;
template <> struct Raw<float> {
    i32 bits;
    DEVICE static Raw of(float x) { return Raw{(i32)bits_of_float(x)}; }
    DEVICE float value() const { return float_of_bits((u32)bits); }
    DEVICE u32 low() const { return (u32)bits << 29; }
    DEVICE u32 high() const { return (u32)(bits >> 3) & 0x8fffffffu; }
};
template <> struct Raw<bf16> {
    i32 bits;
    DEVICE static Raw of(bf16 x) { return Raw{(short)x.bits}; }
    DEVICE float value() const { return float_of_bits((u32)bits << 16); }
    DEVICE u32 low() const { return 0; }
    DEVICE u32 high() const { return (u32)bits << 13 & 0x8fffffffu; }
};
// low() and high() are the words of x * 2^-896 for a finite x, exactly: the exponent of a float put
// where a double has it. A conversion would cost as much as four sums. What is not finite becomes
// 2^128 * 2^-896 or more.
constexpr double SCALE = 0x1p896;
// From here on a sum of squares may hold a value that was not finite.
constexpr double SUSPECT = 0x1p240;
constexpr float LARGE_SHIFT = 0x1p100f;

// Sum and sum of squares of one neuron in one group.
struct Moments {
    double sum, square, shift;

    // The difference is rounded once, as a subtraction of the converted value is.
    template <class T> DEVICE void add(Raw<T> x) {
        const double scaled = double_of_words(x.low(), x.high());
        const double difference = fma_exact(scaled, SCALE, -shift);
        sum = add_exact(sum, difference);
        square = add_exact(square, mul_exact(difference, difference));
    }
};

// Smallest and largest value, and rows with x > 0.
struct Range {
    float low, high;
    u32 firing;

    template <class T> DEVICE void add(Raw<T> x) {
        low = fminf(low, x.value());
        high = fmaxf(high, x.value());
        count_positive(firing, x.value());
    }
};

// The rows of an item in shared memory, for one neuron.
template <class T> struct Rows {
    const T* column;
    const u32* members;  // none: row i is the i-th
    u32 count;

    DEVICE Raw<T> at(u32 i) const {
        return Raw<T>::of(column[(members ? members[i] : i) * NEURONS]);
    }

    // Calls add(x) for each row in order. Values are read a chunk ahead, and the list of members
    // another chunk before, so that no load is waited for.
    template <bool LISTED, class Add> DEVICE void each(Add add) const {
        u32 next[CHUNK];
        Raw<T> even[CHUNK], odd[CHUNK];
        name_rows<LISTED>(0, next);
        read(next, even);
        name_rows<LISTED>(CHUNK, next);
        for (u32 start = 0; start < count; start += 2 * CHUNK) {
            read(next, odd);
            name_rows<LISTED>(start + 2 * CHUNK, next);
            add_chunk(count - start, even, add);
            if (start + CHUNK >= count) break;
            read(next, even);
            name_rows<LISTED>(start + 3 * CHUNK, next);
            add_chunk(count - start - CHUNK, odd, add);
        }
    }

    template <class Add>
    DEVICE void add_chunk(u32 left, const Raw<T> (&x)[CHUNK], Add add) const {
        if (left >= CHUNK) {
#pragma unroll
            for (u32 k = 0; k < CHUNK; ++k) add(x[k]);
        } else {
#pragma unroll
            for (u32 k = 0; k < CHUNK; ++k) {
                if (k < left) add(x[k]);
            }
        }
    }
    // Rows of the chunk from `start` on; beyond the last chunk, those of the first.
    template <bool LISTED> DEVICE void name_rows(u32 start, u32 (&rows)[CHUNK]) const {
        const u32 from = start < count ? start : 0;
        if constexpr (LISTED) {
            const Pack<u32> low = load_pack(members + from), high = load_pack(members + from + 4);
#pragma unroll
            for (u32 k = 0; k < 4; ++k) {
                rows[k] = low.at[k];
                rows[k + 4] = high.at[k];
            }
        } else {
#pragma unroll
            for (u32 k = 0; k < CHUNK; ++k) rows[k] = from + k;
        }
    }
    DEVICE void read(const u32 (&rows)[CHUNK], Raw<T> (&x)[CHUNK]) const {
#pragma unroll
        for (u32 k = 0; k < CHUNK; ++k) x[k] = Raw<T>::of(column[rows[k] * NEURONS]);
    }
};

// Where the running values of a group and a neuron stand; `inside` where there is the neuron.
struct Cell {
    u64 at;
    bool inside;
};

DEVICE Moments load_moments(const ClassSumsArgs& a, Cell cell, float shift) {
    if (!cell.inside) return Moments{0.0, 0.0, (double)shift};
    return Moments{a.sum[cell.at], a.square[cell.at], (double)shift};
}

// Stores what an item made of the moments, unless a value may not have been finite: then the rows
// are added again one by one, passing over those.
template <class T>
DEVICE void store_moments(const ClassSumsArgs& a, Cell cell, const Rows<T>& rows,
                          Moments moments) {
    if (!cell.inside) return;
    const float shift = (float)moments.shift;
    if (!(moments.square < SUSPECT) || fabsf(shift) > LARGE_SHIFT) {
        u32 bad = 0;
        moments = load_moments(a, cell, shift);
        for (u32 i = 0; i < rows.count; ++i) {
            const Raw<T> x = rows.at(i);
            if (is_finite(x.value())) moments.add(x);
            else ++bad;
        }
        a.non_finite[cell.at] += bad;
    }
    a.sum[cell.at] = moments.sum;
    a.square[cell.at] = moments.square;
}

DEVICE Range load_range(const ClassSumsArgs& a, Cell cell) {
    if (!cell.inside) return Range{0.0f, 0.0f, 0};
    return Range{a.min[cell.at], a.max[cell.at], 0};
}

// The bound of a range after an item. Of zeros of both signs the first counts, which fminf and
// fmaxf do not promise: it is looked up when a bound becomes 0, at most once for each cell.
template <class T> DEVICE float bound(const Rows<T>& rows, float before, float after) {
    if (after != 0.0f) return after;
    if (before == 0.0f) return before;
    for (u32 i = 0; i < rows.count; ++i) {
        const float x = rows.at(i).value();
        if (x == 0.0f) return x;
    }
    return after;
}

// As store_moments. NaN never entered a range; an infinity shows in its bounds.
template <class T>
DEVICE void store_range(const ClassSumsArgs& a, Cell cell, const Rows<T>& rows, Range range) {
    if (!cell.inside) return;
    const Range before = load_range(a, cell);
    if (range.high == float_of_bits(INFINITE) || range.low == -float_of_bits(INFINITE)) {
        range = before;
        for (u32 i = 0; i < rows.count; ++i) {
            const Raw<T> x = rows.at(i);
            if (is_finite(x.value())) range.add(x);
        }
    }
    a.min[cell.at] = bound(rows, before.low, range.low);
    a.max[cell.at] = bound(rows, before.high, range.high);
    a.firing[cell.at] += range.firing;
}

// One item; all lanes of a warp, one neuron each.
template <class T, bool LISTED>
DEVICE void run_item(const ClassSumsArgs& a, u32 kind, Cell cell, const Rows<T>& rows,
                     float shift) {
    if (kind == MOMENTS) {
        Moments moments = load_moments(a, cell, shift);
        rows.template each<LISTED>([&](Raw<T> x) { moments.add(x); });
        store_moments(a, cell, rows, moments);
    } else if (kind == RANGE || !LISTED) {
        Range range = load_range(a, cell);
        rows.template each<LISTED>([&](Raw<T> x) { range.add(x); });
        store_range(a, cell, rows, range);
    } else {
        Moments moments = load_moments(a, cell, shift);
        Range range = load_range(a, cell);
        rows.template each<LISTED>([&](Raw<T> x) {
            moments.add(x);
            range.add(x);
        });
        store_moments(a, cell, rows, moments);
        store_range(a, cell, rows, range);
    }
}

// Starts to copy a tile: the block's columns of its rows, zero beyond the last neuron.
template <class T> DEVICE void fetch_tile(const ClassSumsArgs& a, u32 tile, T* to) {
    constexpr u32 PACKS = NEURONS / Pack<T>::SIZE;
    const T* x = static_cast<const T*>(a.x);
    const u32 column = blockIdx.x * NEURONS;
    const u32 rows = smaller(a.rows - tile * TILE<T>, TILE<T>);
    const bool aligned = ((u64)x | (u64)a.stride * sizeof(T)) % 16 == 0;
    for (u32 i = threadIdx.x; i < rows * PACKS; i += THREADS) {
        const u32 first = column + i % PACKS * Pack<T>::SIZE;
        const u32 here = first < a.neurons ? smaller(a.neurons - first, Pack<T>::SIZE) : 0;
        const u32 token = a.source[tile * TILE<T> + i / PACKS];
        const T* from = x + (u64)token * a.stride + (here ? first : 0);
        T* pack = to + i * Pack<T>::SIZE;
        if (aligned) {
            copy_async_16(pack, from, here * (u32)sizeof(T));
        } else {
            for (u32 k = 0; k < Pack<T>::SIZE; ++k) pack[k] = k < here ? from[k] : T{};
        }
    }
    copy_async_commit();
}

template <class T> DEVICE void class_sums(const ClassSumsArgs& a) {
    EL_SMEM(memory);
    EL_SHARED(u32, taken, [2]);  // items of this tile that warps have taken; the other is next
    T* tiles = reinterpret_cast<T*>(memory);
    const u32 neuron = blockIdx.x * NEURONS + lane_id();
    const bool inside = neuron < a.neurons;
    const float shift = inside ? a.shift[neuron] : 0.0f;
    const u32 count = a.tiles;
    if (threadIdx.x == 0) taken[0] = 0;
    fetch_tile(a, 0, tiles);
    for (u32 tile = 0; tile < count; ++tile) {
        T* here = tiles + tile % a.stages * (TILE<T> * NEURONS);
        if (a.stages == 2 && tile + 1 < count) {
            fetch_tile(a, tile + 1, tiles + (tile + 1) % 2 * (TILE<T> * NEURONS));
            copy_async_wait<1>();
        } else {
            copy_async_wait<0>();
        }
        __syncthreads();
        if (threadIdx.x == 0) taken[(tile + 1) % 2] = 0;
        const u32 items = a.item_starts[tile + 1] - a.item_starts[tile];
        for (;;) {
            u32 item = 0;
            if (lane_id() == 0) item = atomicAdd(&taken[tile % 2], 1u);
            item = __shfl_sync(FULL, item, 0);
            if (item >= items) break;
            const Pack<u32> what = load_pack(a.items + (u64)(a.item_starts[tile] + item) * 4);
            const u32 group = what.at[0] / 4;
            const Cell cell = {(u64)group * a.neurons + neuron, inside};
            const u32* members = group == 0 ? nullptr : a.members + what.at[1];
            const Rows<T> rows = {here + lane_id(), members, what.at[2]};
            if (group == 0) run_item<T, false>(a, what.at[0] % 4, cell, rows, shift);
            else run_item<T, true>(a, what.at[0] % 4, cell, rows, shift);
        }
        __syncthreads();
        if (a.stages == 1 && tile + 1 < count) fetch_tile(a, tile + 1, tiles);
    }
}

KERNEL(class_sums_f32, ClassSumsArgs, THREADS) { class_sums<float>(a); }
KERNEL_OF(class_sums_bf16, ClassSumsArgs, THREADS, 3) { class_sums<bf16>(a); }
