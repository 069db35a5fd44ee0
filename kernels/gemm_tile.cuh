// What the matrix products share: the order of the tiles, the layout of a finished tile in shared
// memory, and what is done to it on its way out.
#pragma once
#include "activation.cuh"

// What happens to x w^T + bias. Above: ACTIVATE + the kind of activation.
enum Epilogue : u32 { PLAIN, MULTIPLY, ADD, ACTIVATE };

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

// 16 bytes of a row: 4 floats or 8 bf16. As words: elements stored one by one stay so many stores.
struct alignas(16) Chunk {
    u32 at[4];
};
template <class T> constexpr u32 CHUNK = 16 / sizeof(T);
template <class T> DEVICE Chunk round_chunk(const float (&x)[CHUNK<T>]);
template <> DEVICE Chunk round_chunk<float>(const float (&x)[4]) {
    return {{bits_of_float(x[0]), bits_of_float(x[1]), bits_of_float(x[2]), bits_of_float(x[3])}};
}
template <> DEVICE Chunk round_chunk<bf16>(const float (&x)[8]) {
    return {{pack_bf16x2(x[0], x[1]), pack_bf16x2(x[2], x[3]), pack_bf16x2(x[4], x[5]),
             pack_bf16x2(x[6], x[7])}};
}
DEVICE void widen_chunk(const Chunk& chunk, float (&x)[4]) {
#pragma unroll
    for (u32 i = 0; i < 4; ++i) x[i] = float_of_bits(chunk.at[i]);
}
DEVICE void widen_chunk(const Chunk& chunk, float (&x)[8]) {
#pragma unroll
    for (u32 i = 0; i < 8; ++i) {
        x[i] = i % 2 ? high_bf16(chunk.at[i / 2]) : low_bf16(chunk.at[i / 2]);
    }
}
// The first `valid` elements; what lies after them is not touched. A whole chunk starts at a
// multiple of 16 bytes: rows are a multiple of 8 elements.
template <class T> DEVICE Chunk load_chunk(const T* from, u32 valid) {
    if (valid == CHUNK<T>) return *reinterpret_cast<const Chunk*>(from);
    float x[CHUNK<T>] = {};
#pragma unroll
    for (u32 i = 0; i < CHUNK<T> - 1; ++i) {
        if (i < valid) x[i] = to_float(from[i]);
    }
    return round_chunk<T>(x);
}
template <class T> DEVICE void store_chunk(T* to, const Chunk& chunk, u32 valid) {
    if (valid == CHUNK<T>) {
        *reinterpret_cast<Chunk*>(to) = chunk;
        return;
    }
    float x[CHUNK<T>];
    widen_chunk(chunk, x);
#pragma unroll
    for (u32 i = 0; i < CHUNK<T> - 1; ++i) {
        if (i < valid) to[i] = from_float<T>(x[i]);
    }
}

// Where element (row, column) of a finished tile lies. A tile holds x w^T + bias rounded to T, as if
// it were stored here; an epilogue starts from that. So a tensor has the same bits whether or not the
// product was watched before its epilogue. The chunks of a row are permuted: 8 rows of the matrix
// units' fragments have a chunk on different banks.
template <class T, u32 COLUMNS> DEVICE u32 staged(u32 row, u32 column) {
    static_assert(COLUMNS >= 8 * CHUNK<T>, "eight chunks to permute");
    return row * COLUMNS + (column ^ (row % 8 * CHUNK<T>));
}
template <u32 COLUMNS> DEVICE void stage_pair(bf16* tile, u32 row, u32 column, float a, float b) {
    *reinterpret_cast<u32*>(tile + staged<bf16, COLUMNS>(row, column)) = pack_bf16x2(a, b);
}

// A thread's chunk of the rows of a finished tile, and the rows it steps down: the lanes of a warp
// write whole lines.
template <class T> struct Share {
    const T* tile;
    T* out;  // at the tile's first row and the thread's first column; so is `other`
    const T* other;
    u64 out_stride, other_stride;
    u32 column, top;  // of the tile
    u32 rows;         // of the tile that `out` has
    u32 valid;        // elements of the chunk that `out` has
    u32 epilogue;
};
// BATCH rows at a time: as many loads are under way before the first is used. One at a time, their
// latency would cost as much as the product.
template <u32 HOW, u32 BATCH, u32 COLUMNS, u32 STEP, class T>
DEVICE void finish_rows(const Share<T>& s) {
    constexpr u32 N = CHUNK<T>;
#pragma unroll 1
    for (u32 start = s.top; start < s.rows; start += BATCH * STEP) {
        Chunk more[BATCH], y[BATCH];
#pragma unroll
        for (u32 b = 0; b < BATCH; ++b) {
            const u32 r = start + b * STEP;
            if (r >= s.rows) continue;
            if (HOW == ADD) more[b] = load_chunk(s.other + r * s.other_stride, s.valid);
            y[b] = load_chunk(s.tile + staged<T, COLUMNS>(r, s.column), N);
        }
#pragma unroll
        for (u32 b = 0; b < BATCH; ++b) {
            const u32 r = start + b * STEP;
            if (r >= s.rows) continue;
            float x[N], a[N];
            if (HOW != PLAIN) widen_chunk(y[b], x);
            if (HOW == ACTIVATE) activate_each(s.epilogue - ACTIVATE, x);
            if (HOW == ADD) {
                widen_chunk(more[b], a);
#pragma unroll
                for (u32 i = 0; i < N; ++i) x[i] = s.epilogue == ADD ? a[i] + x[i] : a[i] * x[i];
            }
            if (HOW != PLAIN) y[b] = round_chunk<T>(x);
            store_chunk(s.out + r * s.out_stride, y[b], s.valid);
        }
    }
}
// Writes a finished tile of ROWS x COLUMNS to `out` from (row, column) on, with THREADS threads.
template <class T, u32 ROWS, u32 COLUMNS, u32 THREADS, class ARGS>
DEVICE void finish_tile(const ARGS& a, const T* tile, u32 row, u32 column, u32 thread) {
    constexpr u32 LANES = COLUMNS / CHUNK<T>, STEP = THREADS / LANES;
    static_assert(THREADS % LANES == 0, "a thread keeps its columns");
    Share<T> s;
    s.column = thread % LANES * CHUNK<T>;
    s.top = thread / LANES;
    // One sum, then the pointers: with `out + column + s.column` the compiler loses the alignment,
    // and stores one word at a time.
    const u32 first = column + s.column;
    if (first >= a.columns) return;
    s.tile = tile;
    s.out = static_cast<T*>(a.out) + (row * a.out_stride + first);
    s.other = static_cast<const T*>(a.other) + (row * a.other_stride + first);
    s.out_stride = a.out_stride;
    s.other_stride = a.other_stride;
    s.rows = smaller(a.rows - row, ROWS);
    s.valid = smaller(a.columns - first, CHUNK<T>);
    s.epilogue = a.epilogue;
    if (a.epilogue >= ACTIVATE) {
        finish_rows<ACTIVATE, 1, COLUMNS, STEP>(s);
    } else if (a.epilogue == PLAIN) {
        finish_rows<PLAIN, 4, COLUMNS, STEP>(s);
    } else {
        finish_rows<ADD, 4, COLUMNS, STEP>(s);
    }
}
