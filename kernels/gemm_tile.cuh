// What the matrix products share: the order of the tiles, the layout of a finished tile in shared
// memory, and what is done to it on its way out.
#pragma once
#include "activation.cuh"

// What happens to x w^T + bias before it is rounded. Above: ACTIVATE + the kind of activation.
constexpr u32 PLAIN = 0, MULTIPLY = 1, ADD = 2, ACTIVATE = 3;

template <class T> struct alignas(4 * sizeof(T)) Quad {
    T at[4];
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

// The first `valid` of four neighbours; what lies after them is not touched. Four are read at once:
// rows are a multiple of 8 elements, save those of one column.
template <class T> DEVICE Quad<T> load_quad(const T* from, u32 valid) {
    Quad<T> quad = {};
    if (valid == 4) return *reinterpret_cast<const Quad<T>*>(from);
#pragma unroll
    for (u32 i = 0; i < 3; ++i) {
        if (i < valid) quad.at[i] = from[i];
    }
    return quad;
}
template <class T> DEVICE void store_quad(T* to, const float (&from)[4], u32 valid) {
    Quad<T> quad;
#pragma unroll
    for (u32 i = 0; i < 4; ++i) quad.at[i] = from_float<T>(from[i]);
    if (valid == 4) {
        *reinterpret_cast<Quad<T>*>(to) = quad;
        return;
    }
#pragma unroll
    for (u32 i = 0; i < 3; ++i) {
        if (i < valid) to[i] = quad.at[i];
    }
}

// Writes the ROWS x COLUMNS sums in `tile` to `out` from (row, column) on, with THREADS threads. A
// thread keeps its four columns and steps down the rows: the lanes write whole lines.
template <class T, u32 ROWS, u32 COLUMNS, u32 THREADS, class ARGS>
DEVICE void finish_tile(const ARGS& a, const float* tile, u32 row, u32 column, u32 thread) {
    constexpr u32 LANES = COLUMNS / 4, STEP = THREADS / LANES, EACH = ROWS / STEP;
    constexpr u32 BATCH = EACH < 8 ? EACH : 8;
    static_assert(THREADS % LANES == 0 && ROWS % STEP == 0 && EACH % BATCH == 0, "");
    const u32 from = thread % LANES * 4, top = thread / LANES;
    if (column + from >= a.columns) return;
    const u32 valid = smaller(a.columns - column - from, 4u);
    Quad<float> bias = {};
    if (a.bias) bias = load_quad(a.bias + column + from, valid);
    T* out = static_cast<T*>(a.out) + column + from;
    const T* other = static_cast<const T*>(a.other) + column + from;

    if (a.epilogue >= ACTIVATE || a.epilogue == PLAIN) {
#pragma unroll 1
        for (u32 r = top; r < ROWS && row + r < a.rows; r += STEP) {
            Quad<float> y = load_quad(tile + staged<COLUMNS>(r, from), 4);
#pragma unroll
            for (u32 i = 0; i < 4; ++i) y.at[i] += bias.at[i];
            if (a.epilogue != PLAIN) activate_each(a.epilogue - ACTIVATE, y.at);
            store_quad(out + (row + r) * a.out_stride, y.at, valid);
        }
        return;
    }
    // BATCH loads are under way before the first is used: one at a time, their latency would cost as
    // much as the product.
#pragma unroll 1
    for (u32 first = top; first < ROWS; first += BATCH * STEP) {
        Quad<T> with[BATCH];
#pragma unroll
        for (u32 b = 0; b < BATCH; ++b) {
            const u32 r = row + first + b * STEP;
            if (r < a.rows) with[b] = load_quad(other + r * a.other_stride, valid);
        }
#pragma unroll
        for (u32 b = 0; b < BATCH; ++b) {
            const u32 r = first + b * STEP;
            if (row + r >= a.rows) continue;
            Quad<float> y = load_quad(tile + staged<COLUMNS>(r, from), 4);
#pragma unroll
            for (u32 i = 0; i < 4; ++i) {
                const float sum = y.at[i] + bias.at[i], more = to_float(with[b].at[i]);
                y.at[i] = a.epilogue == MULTIPLY ? more * sum : more + sum;
            }
            store_quad(out + (row + r) * a.out_stride, y.at, valid);
        }
    }
}
