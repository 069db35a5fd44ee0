// What the matrix products share: the order of the tiles, the layout of a finished tile in shared
// memory, and what is done to it on its way out.
#pragma once
#include "activation.cuh"

// What happens to x w^T + bias before it is rounded. Above: ACTIVATE + the kind of activation.
constexpr u32 PLAIN = 0, MULTIPLY = 1, ADD = 2, ACTIVATE = 3;

// Four neighbours of a row. Of bf16 as two words: stored one by one, they would stay four stores.
template <class T> struct Quad;
template <> struct alignas(16) Quad<float> {
    float at[4];
};
template <> struct alignas(8) Quad<bf16> {
    u32 at[2];
};
struct alignas(8) Pair {
    float at[2];
};

// Tiles run down BAND tiles of rows before they step to the next tile of columns: the blocks that
// run at one time then share few tiles of x and of w, and find them in the L2 cache.
constexpr u32 BAND = 16;
struct Place {
    u32 row, column;  // in tiles
};
DEVICE Place place_of(u32 tile, u32 down, u32 across) {
    const u32 band = tile / (BAND * across) * BAND;
    const u32 within = tile - band * across;
    const u32 height = smaller(BAND, down - band);
    return {band + within % height, within / height};
}

// Where element (row, column) of a finished tile lies. The groups of 8 floats of a row are permuted,
// so that the fragments of the matrix units (4 rows, 8 columns) and the quads read back both fall
// on different banks.
template <u32 COLUMNS> DEVICE u32 staged(u32 row, u32 column) {
    return row * COLUMNS + (column ^ (row % 4 * 8));
}
template <u32 COLUMNS> DEVICE void stage_pair(float* tile, u32 row, u32 column, float a, float b) {
    *reinterpret_cast<Pair*>(tile + staged<COLUMNS>(row, column)) = Pair{{a, b}};
}

// Four values rounded to T, and back.
template <class T> DEVICE Quad<T> round_quad(const Quad<float>& x);
template <> DEVICE Quad<float> round_quad<float>(const Quad<float>& x) { return x; }
template <> DEVICE Quad<bf16> round_quad<bf16>(const Quad<float>& x) {
    return {{pack_bf16x2(x.at[0], x.at[1]), pack_bf16x2(x.at[2], x.at[3])}};
}
DEVICE Quad<float> widen_quad(const Quad<float>& x) { return x; }
DEVICE Quad<float> widen_quad(const Quad<bf16>& x) {
    return {{low_bf16(x.at[0]), high_bf16(x.at[0]), low_bf16(x.at[1]), high_bf16(x.at[1])}};
}

// The first `valid` of four neighbours; what lies after them is not touched. Four are read at once:
// rows are a multiple of 8 elements, save those of one column.
template <class T> DEVICE Quad<T> load_quad(const T* from, u32 valid) {
    if (valid == 4) return *reinterpret_cast<const Quad<T>*>(from);
    Quad<float> quad = {};
#pragma unroll
    for (u32 i = 0; i < 3; ++i) {
        if (i < valid) quad.at[i] = to_float(from[i]);
    }
    return round_quad<T>(quad);
}
template <class T> DEVICE void store_quad(T* to, const Quad<T>& quad, u32 valid) {
    if (valid == 4) {
        *reinterpret_cast<Quad<T>*>(to) = quad;
        return;
    }
    const Quad<float> x = widen_quad(quad);
#pragma unroll
    for (u32 i = 0; i < 3; ++i) {
        if (i < valid) to[i] = from_float<T>(x.at[i]);
    }
}

// What becomes of four sums: their bias is added and they are rounded, as they would be if they were
// stored here; the epilogue is done to that and rounded again. So a tensor has the same bits whether
// or not the product was watched before its epilogue.
template <class T> DEVICE Quad<T> with_bias(Quad<float> sum, const Quad<float>& bias) {
#pragma unroll
    for (u32 i = 0; i < 4; ++i) sum.at[i] += bias.at[i];
    return round_quad<T>(sum);
}
template <class T, u32 N> DEVICE void activate_quads(u32 kind, Quad<T> (&x)[N]) {
    float y[4 * N];
#pragma unroll
    for (u32 i = 0; i < 4 * N; ++i) y[i] = widen_quad(x[i / 4]).at[i % 4];
    activate_each(kind, y);
#pragma unroll
    for (u32 i = 0; i < N; ++i) {
        x[i] = round_quad<T>({{y[4 * i], y[4 * i + 1], y[4 * i + 2], y[4 * i + 3]}});
    }
}
template <class T> DEVICE Quad<T> combined(bool multiply, const Quad<T>& more, const Quad<T>& x) {
    const Quad<float> a = widen_quad(more);
    Quad<float> y = widen_quad(x);
#pragma unroll
    for (u32 i = 0; i < 4; ++i) y.at[i] = multiply ? a.at[i] * y.at[i] : a.at[i] + y.at[i];
    return round_quad<T>(y);
}

// A thread's four columns of a finished tile, and the rows it steps down: the lanes of a warp write
// whole lines.
template <class T> struct Share {
    const float* tile;  // the staged sums
    T* out;             // at the tile's first row and the thread's first column; so is `other`
    const T* other;
    u64 out_stride, other_stride;
    u32 from, top;  // first column and row in the tile
    u32 rows;       // of the tile that `out` has
    u32 valid;      // columns of the four that `out` has
    u32 epilogue;
    Quad<float> bias;
};
// BATCH rows at a time: as many loads are under way before the first is used. One at a time, their
// latency would cost as much as the product.
template <u32 HOW, u32 BATCH, u32 ROWS, u32 COLUMNS, u32 STEP, class T>
DEVICE void finish_rows(const Share<T>& s) {
    static_assert(ROWS % (BATCH * STEP) == 0, "whole batches");
#pragma unroll 1
    for (u32 start = s.top; start < ROWS; start += BATCH * STEP) {
        Quad<T> more[BATCH], y[BATCH];
#pragma unroll
        for (u32 b = 0; b < BATCH; ++b) {
            const u32 r = start + b * STEP;
            if (HOW == ADD && r < s.rows) more[b] = load_quad(s.other + r * s.other_stride, s.valid);
        }
#pragma unroll
        for (u32 b = 0; b < BATCH; ++b) {
            const u32 r = start + b * STEP;
            y[b] = with_bias<T>(load_quad(s.tile + staged<COLUMNS>(r, s.from), 4), s.bias);
        }
        if (HOW == ACTIVATE) activate_quads(s.epilogue - ACTIVATE, y);
#pragma unroll
        for (u32 b = 0; b < BATCH; ++b) {
            if (HOW == ADD) y[b] = combined(s.epilogue == MULTIPLY, more[b], y[b]);
            const u32 r = start + b * STEP;
            if (r < s.rows) store_quad(s.out + r * s.out_stride, y[b], s.valid);
        }
    }
}
// Writes the ROWS x COLUMNS sums in `tile` to `out` from (row, column) on, with THREADS threads.
template <class T, u32 ROWS, u32 COLUMNS, u32 THREADS, class ARGS>
DEVICE void finish_tile(const ARGS& a, const float* tile, u32 row, u32 column, u32 thread) {
    constexpr u32 LANES = COLUMNS / 4, STEP = THREADS / LANES;
    constexpr u32 BATCH = ROWS / STEP < 8 ? ROWS / STEP : 8, FEW = BATCH < 2 ? BATCH : 2;
    Share<T> s;
    s.from = thread % LANES * 4;
    s.top = thread / LANES;
    // One sum, then the pointers: with `out + column + from` the compiler loses the alignment, and
    // stores one element at a time.
    const u32 first = column + s.from;
    if (first >= a.columns || row >= a.rows) return;
    s.tile = tile;
    s.out = static_cast<T*>(a.out) + (row * a.out_stride + first);
    s.other = static_cast<const T*>(a.other) + (row * a.other_stride + first);
    s.out_stride = a.out_stride;
    s.other_stride = a.other_stride;
    s.rows = a.rows - row;
    s.valid = smaller(a.columns - first, 4u);
    s.epilogue = a.epilogue;
    s.bias = {};
    if (a.bias) s.bias = load_quad(a.bias + first, s.valid);
    // Activations are long programs: two rows at a time fill the pipelines.
    if (a.epilogue >= ACTIVATE) {
        finish_rows<ACTIVATE, FEW, ROWS, COLUMNS, STEP>(s);
    } else if (a.epilogue == PLAIN) {
        finish_rows<PLAIN, BATCH, ROWS, COLUMNS, STEP>(s);
    } else {
        finish_rows<ADD, BATCH, ROWS, COLUMNS, STEP>(s);
    }
}
