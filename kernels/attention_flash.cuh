// The body of attention_flash.cu: tiles in shared memory, the two products, the softmax between.
#pragma once
#include "attention.cuh"

constexpr float LOG2_E = 1.4426950408889634f;

// How a padded head width is cut: KEYS keys a tile, FRAGMENTS times 16 queries a warp.
template <u32 WIDTH_, u32 KEYS_, u32 FRAGMENTS_> struct Flash {
    static constexpr u32 WIDTH = WIDTH_, KEYS = KEYS_, FRAGMENTS = FRAGMENTS_;
    static constexpr u32 QUERIES = 128;
    static constexpr u32 ROWS = 16 * FRAGMENTS;              // queries of a warp
    static constexpr u32 THREADS = QUERIES / ROWS * WARP;
    static constexpr u32 CHUNKS = WIDTH / 8;                 // 16-byte chunks of a row
    static constexpr u32 TILE = KEYS * WIDTH;                // elements of a tile of keys
    // Shared memory: [QUERIES, WIDTH] queries, then twice a tile of keys and a tile of values.

    // Where chunk `chunk` of row `row` lies, in elements. 8 rows at one chunk, which is what a
    // matrix load reads, fall into 8 different banks of 16 bytes.
    static DEVICE u32 at(u32 row, u32 chunk) {
        constexpr u32 SHIFT = CHUNKS % 8 == 0 ? 0 : CHUNKS % 4 == 0 ? 1 : 2;
        constexpr u32 MASK = CHUNKS % 8 == 0 ? 7 : CHUNKS % 4 == 0 ? 3 : 1;
        return row * WIDTH + ((chunk ^ (row >> SHIFT & MASK)) << 3);
    }
};

// What a thread carries over the tiles: sums of its part of [ROWS, WIDTH] in the layout of
// mma.m16n8k16, and maximum and (its own keys') sum of its rows lane / 4 and lane / 4 + 8.
template <class F> struct FlashState {
    float sums[F::FRAGMENTS][F::CHUNKS][4];
    float largest[F::FRAGMENTS][2], total[F::FRAGMENTS][2];
};
template <class F> struct FlashScores {
    float at[F::FRAGMENTS][F::KEYS / 8][4];
};

// Starts copying ROWS rows of one head from token `from` on; rows from `count` on are zero.
template <class F, u32 ROWS>
DEVICE void copy_rows(bf16* to, const bf16* from, u64 stride, u32 count, u32 width) {
#pragma unroll
    for (u32 step = 0; step < ROWS * F::CHUNKS; step += F::THREADS) {
        const u32 i = step + threadIdx.x;
        const u32 row = i / F::CHUNKS, chunk = i % F::CHUNKS;
        if (ROWS * F::CHUNKS % F::THREADS != 0 && row >= ROWS) break;
        const bool there = row < count && chunk * 8 < width;
        const bf16* source = there ? from + row * stride + chunk * 8 : from;
        copy_async_16(to + F::at(row, chunk), source, there ? 16 : 0);
    }
}

// scores = q k^T.
template <class F>
DEVICE void multiply_keys(FlashScores<F>& scores, const bf16* queries, const bf16* keys) {
    const u32 lane = lane_id();
#pragma unroll
    for (u32 f = 0; f < F::FRAGMENTS; ++f) {
#pragma unroll
        for (u32 n = 0; n < F::KEYS / 8; ++n) {
#pragma unroll
            for (u32 e = 0; e < 4; ++e) scores.at[f][n][e] = 0.0f;
        }
    }
#pragma unroll
    for (u32 c = 0; c < F::CHUNKS; c += 2) {
        u32 q[F::FRAGMENTS][4];
#pragma unroll
        for (u32 f = 0; f < F::FRAGMENTS; ++f) {
            load_matrix_x4(q[f], queries + F::at(16 * f + lane % 16, c + lane / 16));
        }
#pragma unroll
        for (u32 n = 0; n < F::KEYS / 8; n += 2) {
            u32 k[4];
            load_matrix_x4(k, keys + F::at(8 * n + lane / 16 * 8 + lane % 8, c + lane / 8 % 2));
#pragma unroll
            for (u32 f = 0; f < F::FRAGMENTS; ++f) {
                mma_16x8x16(scores.at[f][n], q[f], k[0], k[1]);
                mma_16x8x16(scores.at[f][n + 1], q[f], k[2], k[3]);
            }
        }
    }
}

// sums += weights v, the weights rounded to bf16.
template <class F>
DEVICE void multiply_values(FlashState<F>& state, const FlashScores<F>& weights,
                            const bf16* values) {
    const u32 lane = lane_id();
#pragma unroll
    for (u32 n = 0; n < F::KEYS / 8; n += 2) {
        u32 p[F::FRAGMENTS][4];
#pragma unroll
        for (u32 f = 0; f < F::FRAGMENTS; ++f) {
            const float(&near)[4] = weights.at[f][n];
            const float(&far)[4] = weights.at[f][n + 1];
            p[f][0] = pack_bf16x2(near[0], near[1]);
            p[f][1] = pack_bf16x2(near[2], near[3]);
            p[f][2] = pack_bf16x2(far[0], far[1]);
            p[f][3] = pack_bf16x2(far[2], far[3]);
        }
#pragma unroll
        for (u32 c = 0; c < F::CHUNKS; c += 2) {
            u32 v[4];
            load_matrix_x4_transposed(v, values + F::at(8 * n + lane % 16, c + lane / 16));
#pragma unroll
            for (u32 f = 0; f < F::FRAGMENTS; ++f) {
                mma_16x8x16(state.sums[f][c], p[f], v[0], v[1]);
                mma_16x8x16(state.sums[f][c + 1], p[f], v[2], v[3]);
            }
        }
    }
}

// Calls `f(score, query, key)` on each of a thread's scores; counted inside the sequence.
template <class F, class Function>
DEVICE void each_score(FlashScores<F>& scores, u32 query, u32 key, Function function) {
#pragma unroll
    for (u32 f = 0; f < F::FRAGMENTS; ++f) {
#pragma unroll
        for (u32 n = 0; n < F::KEYS / 8; ++n) {
#pragma unroll
            for (u32 e = 0; e < 4; ++e) {
                function(scores.at[f][n][e], query + 16 * f + lane_id() / 4 + e / 2 * 8,
                         key + 8 * n + lane_id() % 4 * 2 + e % 2);
            }
        }
    }
}

// Scale, cap and bias, where the scale is not all there is; in units of log2.
template <class F>
DEVICE void shape_scores(FlashScores<F>& scores, const AttentionArgs& a, u32 head, u32 query,
                         u32 key) {
    if (a.softcap > 0.0f) {
        const float scale = a.scale / a.softcap, cap = a.softcap * LOG2_E;
        each_score(scores, query, key, [&](float& x, u32, u32) { x = cap * tanhf(x * scale); });
    } else {
        const float scale = a.scale * LOG2_E;
        each_score(scores, query, key, [&](float& x, u32, u32) { x *= scale; });
    }
    if (a.bias_kind != NO_BIAS) {
        each_score(scores, query, key, [&](float& x, u32 query_at, u32 key_at) {
            x = fmaf(LOG2_E, score_bias(a, head, query_at, key_at), x);
        });
    }
}

// Takes a tile of scores in (Milakov and Gimelshein 2018): they become 2^(factor (score - largest)),
// and the sums shrink to the new maximum.
template <class F>
DEVICE void softmax_step(FlashState<F>& state, FlashScores<F>& scores, float factor) {
#pragma unroll
    for (u32 f = 0; f < F::FRAGMENTS; ++f) {
#pragma unroll
        for (u32 half = 0; half < 2; ++half) {
            float largest = state.largest[f][half];
#pragma unroll
            for (u32 n = 0; n < F::KEYS / 8; ++n) {
                largest = larger(largest, larger(scores.at[f][n][2 * half], scores.at[f][n][2 * half + 1]));
            }
            largest = larger(largest, __shfl_xor_sync(FULL, largest, 1));
            largest = larger(largest, __shfl_xor_sync(FULL, largest, 2));
            // A row that has seen no key yet: infinity - infinity is no number, zero serves.
            const float from = largest == NEVER ? 0.0f : largest * factor;
            const float shrink = exp2_fast(fmaf(state.largest[f][half], factor, -from));
            state.largest[f][half] = largest;
            float total = state.total[f][half] * shrink;
#pragma unroll
            for (u32 n = 0; n < F::KEYS / 8; ++n) {
#pragma unroll
                for (u32 e = 2 * half; e < 2 * half + 2; ++e) {
                    scores.at[f][n][e] = exp2_fast(fmaf(scores.at[f][n][e], factor, -from));
                    total += scores.at[f][n][e];
                }
            }
            state.total[f][half] = total;
#pragma unroll
            for (u32 c = 0; c < F::CHUNKS; ++c) {
                state.sums[f][c][2 * half] *= shrink;
                state.sums[f][c][2 * half + 1] *= shrink;
            }
        }
    }
}

// The quotients, by way of this warp's rows of `staged`, so that memory is written in 16 bytes.
template <class F>
DEVICE void store_rows(FlashState<F>& state, bf16* staged, bf16* out, u64 stride, u32 count,
                       u32 width) {
    const u32 lane = lane_id();
    __syncwarp();
#pragma unroll
    for (u32 f = 0; f < F::FRAGMENTS; ++f) {
#pragma unroll
        for (u32 half = 0; half < 2; ++half) {
            float total = state.total[f][half];
            total += __shfl_xor_sync(FULL, total, 1);
            total += __shfl_xor_sync(FULL, total, 2);
            const float inverse = 1.0f / total;
            const u32 row = 16 * f + 8 * half + lane / 4;
#pragma unroll
            for (u32 c = 0; c < F::CHUNKS; ++c) {
                const float(&sum)[4] = state.sums[f][c];
                *reinterpret_cast<u32*>(staged + F::at(row, c) + lane % 4 * 2) =
                    pack_bf16x2(sum[2 * half] * inverse, sum[2 * half + 1] * inverse);
            }
        }
    }
    __syncwarp();
#pragma unroll
    for (u32 step = 0; step < F::ROWS * F::CHUNKS; step += WARP) {
        const u32 row = (step + lane) / F::CHUNKS, chunk = (step + lane) % F::CHUNKS;
        if (row < count && chunk * 8 < width) {
            store_pack(out + row * stride + chunk * 8, load_pack(staged + F::at(row, chunk)));
        }
    }
}

template <class F> DEVICE void attend(const AttentionArgs& a) {
    EL_SMEM(shared);
    bf16* queries = reinterpret_cast<bf16*>(shared);
    bf16* ring = queries + F::QUERIES * F::WIDTH;
    const AttentionWork work = attention_work(a);
    const AttentionTile& tile = work.tile;
    const u32 width = a.head_width;
    const bf16* rows = static_cast<const bf16*>(a.qkv) + (u64)tile.start * a.qkv_stride;
    const bf16* key_rows = rows + (u64)(a.heads + work.kv_head) * width;
    const u64 to_values = (u64)a.kv_heads * width;

    const u32 query = tile.query + warp_id() * F::ROWS;  // first of this warp
    const KeyRange keys = visible_keys(a, tile.query, F::QUERIES, tile.length, F::KEYS);
    const KeyRange some = query < tile.length ? visible_keys(a, query, F::ROWS, tile.length, F::KEYS)
                                              : KeyRange{0, 0};
    // Keys that every query of this warp sees: no score between them has to be looked at.
    const KeyRange all = {seen_keys(a, query + F::ROWS - 1, tile.length).begin,
                          seen_keys(a, query, tile.length).end};
    const float factor = a.plain ? a.scale * LOG2_E : 1.0f;

    FlashState<F> state = {};
    for (u32 f = 0; f < F::FRAGMENTS; ++f) state.largest[f][0] = state.largest[f][1] = NEVER;
    const auto copy_tile = [&](u32 first, bf16* to) {
        const bf16* from = key_rows + first * a.qkv_stride;
        copy_rows<F, F::KEYS>(to, from, a.qkv_stride, tile.length - first, width);
        copy_rows<F, F::KEYS>(to + F::TILE, from + to_values, a.qkv_stride, tile.length - first, width);
        copy_async_commit();
    };
    copy_rows<F, F::QUERIES>(queries, rows + tile.query * a.qkv_stride + work.head * width,
                             a.qkv_stride, tile.length - tile.query, width);
    copy_tile(keys.begin, ring);

    bf16* ours = queries + warp_id() * F::ROWS * F::WIDTH;
    for (u32 first = keys.begin, turn = 0; first < keys.end; first += F::KEYS, turn ^= 1) {
        const bf16* tile_keys = ring + turn * 2 * F::TILE;
        copy_async_wait<0>();
        __syncthreads();  // this tile is here, and everybody is done with the one before
        if (first + F::KEYS < keys.end) copy_tile(first + F::KEYS, ring + (turn ^ 1) * 2 * F::TILE);
        if (first >= some.end || first + F::KEYS <= some.begin) continue;
        FlashScores<F> scores;
        multiply_keys(scores, ours, tile_keys);
        if (!a.plain) shape_scores(scores, a, work.head, query, first);
        if (first < all.begin || first + F::KEYS > all.end) {
            each_score(scores, query, first, [&](float& x, u32 query_at, u32 key_at) {
                const KeyRange seen = seen_keys(a, query_at, tile.length);
                if (key_at < seen.begin || key_at >= seen.end) x = NEVER;
            });
        }
        softmax_step(state, scores, factor);
        multiply_values(state, scores, tile_keys + F::TILE);
    }
    if (query >= tile.length) return;
    bf16* out = static_cast<bf16*>(a.out) + (u64)(tile.start + query) * a.out_stride + work.head * width;
    store_rows(state, ours, out, a.out_stride, tile.length - query, width);
}
