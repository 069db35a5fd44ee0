// Scores of 64 queries and 64 keys on the float units, for any head width and both dtypes. A block
// is 16 x 16 threads; thread (y, x) has the queries y + 16 i and the keys x + 16 j, i, j < 4.
//
// A head's rows begin at multiples of its width, which need not be 16 bytes: elements are read one
// by one from memory and in packs of four from shared memory. A row of a panel is 36 floats, which
// spreads 8 neighbouring rows' packs over all 32 banks.
#pragma once
#include "attention.cuh"

constexpr u32 SIDE = 64;           // queries and keys of a tile
constexpr u32 SIMT_THREADS = 256;
constexpr u32 GRID = 16;           // threads along a side
constexpr u32 EACH = SIDE / GRID;  // queries and keys of a thread
constexpr u32 PANEL = 32;          // columns of a head at a time
constexpr u32 PANEL_ROW = PANEL + 4;
constexpr u32 PANEL_FLOATS = 2 * SIDE * PANEL_ROW;

// Rows of one head, from the first of a tile on; those from `count` on read as zero.
template <class T> struct HeadRows {
    const T* at;
    u64 stride;
    u32 count, width;

    DEVICE float value(u32 row, u32 column) const { return to_float(at[row * stride + column]); }
};
template <class T>
DEVICE HeadRows<T> head_rows(const AttentionArgs& a, const AttentionTile& tile, u32 first,
                             u32 head) {
    const T* qkv = static_cast<const T*>(a.qkv);
    return {qkv + (u64)(tile.start + first) * a.qkv_stride + (u64)head * a.head_width,
            a.qkv_stride, tile.length - first, a.head_width};
}

// Keys or values of a sequence that goes on from a past: its rows, then those of the batch.
template <class T> struct JoinedRows {
    HeadRows<T> past, own;
    u32 count, width;

    DEVICE float value(u32 row, u32 column) const {
        return row < past.count ? past.value(row, column) : own.value(row - past.count, column);
    }
};
// The columns of rows from `first` on.
template <class T> DEVICE HeadRows<T> from_column(const HeadRows<T>& rows, u32 first) {
    return {rows.at + first, rows.stride, rows.count, rows.width - first};
}
template <class T> DEVICE JoinedRows<T> from_column(const JoinedRows<T>& rows, u32 first) {
    return {from_column(rows.past, first), from_column(rows.own, first), rows.count,
            rows.width - first};
}

// Where the rows of a key or value head are, of the 2 K of them: in qkv, or partly in a past.
template <class T> struct BatchKeys {
    const AttentionArgs& a;
    DEVICE HeadRows<T> rows(const AttentionTile& tile, u32 first, u32 head) const {
        return head_rows<T>(a, tile, first, a.heads + head);
    }
};
template <class T> struct PastKeys {
    const AttentionArgs& a;
    const PastArgs& past;
    DEVICE JoinedRows<T> rows(const AttentionTile& tile, u32 first, u32 head) const {
        const u32 before = past_length(past, tile.sequence);
        const HeadRows<T> own = head_rows<T>(a, tile, larger(first, before), a.heads + head);
        const T* kv = static_cast<const T*>(past.kv) + (u64)head * a.head_width;
        const HeadRows<T> old = {kv + ((u64)past_start(past, tile.sequence) + first) * past.stride,
                                 past.stride, first < before ? before - first : 0, a.head_width};
        return {old, own, tile.length - first, a.head_width};
    }
};

// COLUMNS columns of SIDE rows, from column `first` on, into shared memory.
template <u32 COLUMNS, u32 ROW, class ROWS>
DEVICE void load_panel(float* panel, const ROWS& rows, u32 first) {
    for (u32 i = threadIdx.x; i < SIDE * COLUMNS; i += SIMT_THREADS) {
        const u32 row = i / COLUMNS, column = i % COLUMNS;
        const bool there = row < rows.count && first + column < rows.width;
        panel[row * ROW + column] = there ? rows.value(row, first + column) : 0.0f;
    }
}

// scores = q k^T. Begins with a barrier; `panels` is free after the caller's next one.
template <class T, class KEYS>
DEVICE void multiply_simt(float (&scores)[EACH][EACH], const HeadRows<T>& q, const KEYS& k,
                          float* panels) {
    const u32 y = threadIdx.x / GRID, x = threadIdx.x % GRID;
    float* keys = panels + SIDE * PANEL_ROW;
    for (u32 i = 0; i < EACH; ++i) {
        for (u32 j = 0; j < EACH; ++j) scores[i][j] = 0.0f;
    }
    for (u32 first = 0; first < q.width; first += PANEL) {
        __syncthreads();
        load_panel<PANEL, PANEL_ROW>(panels, q, first);
        load_panel<PANEL, PANEL_ROW>(keys, k, first);
        __syncthreads();
#pragma unroll 4
        for (u32 c = 0; c < PANEL; c += 4) {
            Pack<float> ours[EACH], theirs[EACH];
            for (u32 i = 0; i < EACH; ++i) {
                ours[i] = load_pack(panels + (y + GRID * i) * PANEL_ROW + c);
                theirs[i] = load_pack(keys + (x + GRID * i) * PANEL_ROW + c);
            }
            for (u32 e = 0; e < 4; ++e) {
                for (u32 i = 0; i < EACH; ++i) {
                    for (u32 j = 0; j < EACH; ++j) {
                        scores[i][j] = fmaf(ours[i].at[e], theirs[j].at[e], scores[i][j]);
                    }
                }
            }
        }
    }
}

// A block's queries, and the keys that some of them sees.
template <class T> struct Queries {
    AttentionWork work;
    HeadRows<T> rows;
    KeyRange keys;
};
template <class T> DEVICE Queries<T> queries_of(const AttentionArgs& a) {
    const AttentionWork work = attention_work(a);
    const AttentionTile& tile = work.tile;
    return {work, head_rows<T>(a, tile, tile.query, work.head),
            visible_keys(a, tile.query, SIDE, tile.length, SIDE)};
}

// Scale, cap, bias, and hidden keys, in this order.
DEVICE void shape_scores(float (&scores)[EACH][EACH], const AttentionArgs& a,
                         const AttentionWork& work, u32 first_key) {
    const u32 y = threadIdx.x / GRID, x = threadIdx.x % GRID;
    for (u32 i = 0; i < EACH; ++i) {
        const u32 query = work.tile.query + y + GRID * i;
        const KeyRange seen = seen_keys(a, query, work.tile.length);
        for (u32 j = 0; j < EACH; ++j) {
            const u32 key = first_key + x + GRID * j;
            float score = scores[i][j] * a.scale;
            if (a.softcap > 0.0f) score = a.softcap * tanhf(score / a.softcap);
            if (a.bias_kind != NO_BIAS) score += score_bias(a, work.head, query, key);
            scores[i][j] = key >= seen.begin && key < seen.end ? score : never();
        }
    }
}

// The scores of the tile of keys from `first` on. Begins with a barrier, as multiply_simt does.
template <class T, class SOURCE>
DEVICE void score_keys(float (&scores)[EACH][EACH], const SOURCE& source, const Queries<T>& queries,
                       u32 first, float* panels) {
    const AttentionWork& work = queries.work;
    multiply_simt(scores, queries.rows, source.rows(work.tile, first, work.kv_head), panels);
    shape_scores(scores, source.a, work, first);
}

// The running maximum and sum of a thread's queries; equal on the 16 threads that share them.
struct SoftmaxRows {
    float largest[EACH], total[EACH];
};
DEVICE SoftmaxRows no_keys() {
    SoftmaxRows rows;
    for (u32 i = 0; i < EACH; ++i) {
        rows.largest[i] = never();
        rows.total[i] = 0.0f;
    }
    return rows;
}

// Takes a tile of scores in (Milakov and Gimelshein 2018): they become e^(score - largest), and
// `shrink` is what earlier sums have to be multiplied by.
DEVICE void softmax_simt(SoftmaxRows& rows, float (&scores)[EACH][EACH], float (&shrink)[EACH]) {
    for (u32 i = 0; i < EACH; ++i) {
        float largest = rows.largest[i];
        for (u32 j = 0; j < EACH; ++j) largest = larger(largest, scores[i][j]);
        for (u32 step = GRID / 2; step > 0; step /= 2) {
            largest = larger(largest, __shfl_xor_sync(FULL, largest, step));
        }
        // A query that has seen no key yet: any finite number serves, infinity - infinity does not.
        const float from = largest == never() ? 0.0f : largest;
        shrink[i] = expf(rows.largest[i] - from);
        rows.largest[i] = largest;
        float total = 0.0f;
        for (u32 j = 0; j < EACH; ++j) {
            scores[i][j] = expf(scores[i][j] - from);
            total += scores[i][j];
        }
        for (u32 step = GRID / 2; step > 0; step /= 2) {
            total += __shfl_xor_sync(FULL, total, step);
        }
        rows.total[i] = rows.total[i] * shrink[i] + total;
    }
}

constexpr u32 WIDE_ROW = SIDE + 4;  // of weights, and of values in a panel
static_assert(SIDE * WIDE_ROW <= PANEL_FLOATS, "a panel holds a tile of values");

// Adds the weights of a tile, [SIDE, SIDE] in rows of WIDE_ROW, times its rows of values: of the head
// 64 columns in each of GROUPS groups. Thread (y, x) has the weights' rows y + 16 i and the columns
// 4 x + e of each group. Begins with a barrier; `weights` and `panel` are free after the caller's next.
template <u32 GROUPS, class VALUES>
DEVICE void multiply_values(float (&sums)[GROUPS][EACH][4], const float* weights,
                            const VALUES& values, float* panel) {
    const u32 y = threadIdx.x / GRID, x = threadIdx.x % GRID;
#pragma unroll
    for (u32 group = 0; group < GROUPS; ++group) {
        __syncthreads();
        load_panel<SIDE, WIDE_ROW>(panel, values, group * SIDE);
        __syncthreads();
#pragma unroll 2
        for (u32 key = 0; key < SIDE; key += 4) {
            Pack<float> weight[EACH];
            for (u32 i = 0; i < EACH; ++i) {
                weight[i] = load_pack(weights + (y + GRID * i) * WIDE_ROW + key);
            }
            for (u32 k = 0; k < 4; ++k) {
                const Pack<float> value = load_pack(panel + (key + k) * WIDE_ROW + 4 * x);
                for (u32 i = 0; i < EACH; ++i) {
                    for (u32 e = 0; e < 4; ++e) {
                        sums[group][i][e] = fmaf(weight[i].at[k], value.at[e], sums[group][i][e]);
                    }
                }
            }
        }
    }
}
