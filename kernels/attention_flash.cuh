// The body of attention_flash.cu: tiles in shared memory, the two products, the softmax between.
#pragma once
#include "attention.cuh"

constexpr float LOG2_E = 1.4426950408889634f;

// How a padded head width is cut: KEYS keys a tile, FRAGMENTS times 16 queries a warp. SHAPED adds
// the code of cap and bias, which takes registers even where it is not run.
template <u32 WIDTH_, u32 KEYS_, u32 FRAGMENTS_, bool SHAPED_> struct Flash {
    static constexpr u32 WIDTH = WIDTH_, KEYS = KEYS_, FRAGMENTS = FRAGMENTS_;
    static constexpr bool SHAPED = SHAPED_;
    static constexpr u32 QUERIES = 128;
    static constexpr u32 ROWS = 16 * FRAGMENTS;              // queries of a warp
    static constexpr u32 THREADS = QUERIES / ROWS * WARP;
    static constexpr u32 CHUNKS = WIDTH / 8;                 // 16-byte chunks of a row
    static constexpr u32 TILE = KEYS * WIDTH;                // elements of a tile of keys
    // Steps of 16 columns whose operands may be loaded early. More would take the registers of the
    // sums; at 64 columns one less makes room for a third block.
    static constexpr u32 AHEAD = WIDTH == 64 ? 1 : 2;
    // Shared memory: [QUERIES, WIDTH] queries, then twice a tile of keys and a tile of values.

    // Where the tile of keys from `first` on lies, in elements, and its values behind it.
    static DEVICE u32 slot(u32 first) {
        return QUERIES * WIDTH + first / KEYS % 2 * (2 * TILE);
    }

    // A row's chunks are permuted, so that 8 rows at one chunk, which is what a matrix load reads,
    // fall into 8 different banks of 16 bytes: chunk c of row r lies at c ^ swizzle(r).
    static constexpr u32 MASK = CHUNKS % 8 == 0 ? 7 : CHUNKS % 4 == 0 ? 3 : 1;
    static constexpr u32 SHIFT = MASK == 7 ? 0 : MASK == 3 ? 1 : 2;
    // In elements. The swizzle repeats every 8 rows.
    static DEVICE u32 at(u32 row, u32 chunk) {
        return row * WIDTH + ((chunk ^ (row >> SHIFT & MASK)) << 3);
    }
    // at(row + rows, chunk + chunks) from at(row, chunk), for rows % 8 == 0 and chunk < 2 <= chunks:
    // one operation, the rest is an immediate.
    static DEVICE u32 from(u32 at, u32 rows, u32 chunks) {
        return (at ^ (chunks & MASK) << 3) + rows * WIDTH + ((chunks & ~MASK) << 3);
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
// Rounded to bf16, two to a word: the upper and the lower row of each pair of columns.
template <class F> struct FlashWeights {
    u32 at[F::FRAGMENTS][F::KEYS / 8][2];
};

// Where in a run of rows this thread copies from.
template <class F> DEVICE u64 copy_start(u64 stride) {
    return threadIdx.x / F::CHUNKS * stride + threadIdx.x % F::CHUNKS * 8;
}
// Starts copying ROWS rows of one head, `from` being this thread's part (`copy_start`); rows from
// `count` on, and columns from `width` on, are zero. Nothing is read where the size is 0, wherever
// the address points.
template <class F, u32 ROWS>
DEVICE void copy_rows(bf16* to, const bf16* from, u32 stride, u32 count, u32 width) {
    constexpr u32 AT_ONCE = F::THREADS / F::CHUNKS;  // rows; threads left over have no part
    const u32 first = threadIdx.x / F::CHUNKS, chunk = threadIdx.x % F::CHUNKS;
    if (F::THREADS % F::CHUNKS != 0 && first >= AT_ONCE) return;
#pragma unroll
    for (u32 step = 0; step < ROWS; step += AT_ONCE) {
        const u32 row = step + first;
        if (ROWS % AT_ONCE != 0 && row >= ROWS) break;
        // The same where the swizzle repeats, in fewer registers.
        const u32 at = AT_ONCE % 8 == 0 ? F::at(first, chunk) + step * F::WIDTH : F::at(row, chunk);
        const bool there = row < count && chunk * 8 < width;
        copy_async_16(to + at, from + step * stride, there ? 16 : 0);
    }
}

// scores = q k^T.
template <class F>
DEVICE void multiply_keys(FlashScores<F>& scores, const bf16* shared, u32 queries, u32 keys) {
    const u32 lane = lane_id();
    queries += F::at(lane % 16, lane / 16);
    keys += F::at(lane / 16 * 8 + lane % 8, lane / 8 % 2);
#pragma unroll
    for (u32 f = 0; f < F::FRAGMENTS; ++f) {
#pragma unroll
        for (u32 n = 0; n < F::KEYS / 8; ++n) {
#pragma unroll
            for (u32 e = 0; e < 4; ++e) scores.at[f][n][e] = 0.0f;
        }
    }
#pragma unroll F::AHEAD
    for (u32 c = 0; c < F::CHUNKS; c += 2) {
        u32 q[F::FRAGMENTS][4];
#pragma unroll
        for (u32 f = 0; f < F::FRAGMENTS; ++f) {
            load_matrix_x4(q[f], shared + F::from(queries, 16 * f, c));
        }
#pragma unroll
        for (u32 n = 0; n < F::KEYS / 8; n += 2) {
            u32 k[4];
            load_matrix_x4(k, shared + F::from(keys, 8 * n, c));
#pragma unroll
            for (u32 f = 0; f < F::FRAGMENTS; ++f) {
                mma_16x8x16(scores.at[f][n], q[f], k[0], k[1]);
                mma_16x8x16(scores.at[f][n + 1], q[f], k[2], k[3]);
            }
        }
    }
}

// sums += weights v.
template <class F>
DEVICE void multiply_values(FlashState<F>& state, const FlashWeights<F>& weights,
                            const bf16* shared, u32 values) {
    values += F::at(lane_id() % 16, lane_id() / 16);
#pragma unroll
    for (u32 n = 0; n < F::KEYS / 8; n += 2) {
#pragma unroll
        for (u32 c = 0; c < F::CHUNKS; c += 2) {
            u32 v[4];
            load_matrix_x4_transposed(v, shared + F::from(values, 8 * n, c));
#pragma unroll
            for (u32 f = 0; f < F::FRAGMENTS; ++f) {
                const auto& near = weights.at[f][n];
                const auto& far = weights.at[f][n + 1];
                const u32 p[4] = {near[0], near[1], far[0], far[1]};
                mma_16x8x16(state.sums[f][c], p, v[0], v[1]);
                mma_16x8x16(state.sums[f][c + 1], p, v[2], v[3]);
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

// Whether a warp's queries see any key of a tile, and whether each sees every one. Rows and keys
// count from the tile's first key here: bounds that change with every tile are computed where they
// are used, and take no registers over the loop.
template <class F> DEVICE bool sees_some(const AttentionArgs& a, i32 row, i32 length) {
    const i32 last = row + (i32)F::ROWS - 1;
    return row < length && !(a.causal && last < 0) && row + 1 - (i32)a.window < (i32)F::KEYS;
}
template <class F> DEVICE bool sees_all(const AttentionArgs& a, i32 row, i32 length) {
    const i32 last = row + (i32)F::ROWS - 1;
    return length >= (i32)F::KEYS && !(a.causal && row + 1 < (i32)F::KEYS) &&
           last + 1 <= (i32)a.window;
}

// Hides what a query does not see.
template <class F>
DEVICE void hide_scores(FlashScores<F>& scores, const AttentionArgs& a, i32 first_row, i32 length) {
#pragma unroll
    for (u32 f = 0; f < F::FRAGMENTS; ++f) {
#pragma unroll
        for (u32 half = 0; half < 2; ++half) {
            // Bounds of this lane's first key, so that the others compare with constants.
            const i32 row = first_row + (i32)(16 * f + 8 * half + lane_id() / 4);
            const i32 key = (i32)(lane_id() % 4 * 2);
            const i32 end = (a.causal ? smaller(row + 1, length) : length) - key;
            const i32 begin = row + 1 - (i32)a.window - key;
#pragma unroll
            for (u32 n = 0; n < F::KEYS / 8; ++n) {
#pragma unroll
                for (u32 e = 0; e < 2; ++e) {
                    const i32 at = (i32)(8 * n + e);
                    float& score = scores.at[f][n][2 * half + e];
                    score = at >= begin && at < end ? score : never();
                }
            }
        }
    }
}

// Takes a tile of scores in (Milakov and Gimelshein 2018): weights = 2^(factor (score - largest)),
// and the sums shrink to the new maximum.
template <class F>
DEVICE void softmax_step(FlashState<F>& state, FlashWeights<F>& weights,
                         const FlashScores<F>& scores, float factor) {
#pragma unroll
    for (u32 f = 0; f < F::FRAGMENTS; ++f) {
#pragma unroll
        for (u32 half = 0; half < 2; ++half) {
            float largest = state.largest[f][half];
#pragma unroll
            for (u32 n = 0; n < F::KEYS / 8; ++n) {
                largest = fmaxf(largest, fmaxf(scores.at[f][n][2 * half], scores.at[f][n][2 * half + 1]));
            }
            largest = fmaxf(largest, __shfl_xor_sync(FULL, largest, 1));
            largest = fmaxf(largest, __shfl_xor_sync(FULL, largest, 2));
            // A row that has seen no key yet: infinity - infinity is no number, zero serves.
            const float from = largest == never() ? 0.0f : largest * factor;
            const float shrink = exp2_fast(fmaf(state.largest[f][half], factor, -from));
            state.largest[f][half] = largest;
            float total = state.total[f][half] * shrink;
#pragma unroll
            for (u32 n = 0; n < F::KEYS / 8; ++n) {
                const float(&pair)[4] = scores.at[f][n];
                const float even = exp2_fast(fmaf(pair[2 * half], factor, -from));
                const float odd = exp2_fast(fmaf(pair[2 * half + 1], factor, -from));
                total += even + odd;
                weights.at[f][n][half] = pack_bf16x2(even, odd);
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
        const Pack<bf16> pack = load_pack(staged + F::at(row, chunk));
        // Indexed as packs: written as an offset of elements, the compiler cuts the store in two.
        Pack<bf16>* to = reinterpret_cast<Pack<bf16>*>(out + row * stride) + chunk;
        if (row < count && chunk * 8 < width) *to = pack;
    }
}

template <class F> DEVICE void attend(const AttentionArgs& a) {
    EL_SMEM(shared);
    bf16* queries = reinterpret_cast<bf16*>(shared);
    const AttentionWork work = attention_work(a);
    const AttentionTile& tile = work.tile;
    const u32 width = a.head_width;
    const bf16* rows = static_cast<const bf16*>(a.qkv) + (u64)tile.start * a.qkv_stride;

    // The first of this warp. The shuffle tells the compiler that all lanes have the same.
    const u32 query = tile.query + __shfl_sync(FULL, warp_id(), 0) * F::ROWS;
    const KeyRange keys = visible_keys(a, tile.query, F::QUERIES, tile.length, F::KEYS);
    const float factor = F::SHAPED ? 1.0f : a.scale * LOG2_E;

    FlashState<F> state = {};
    for (u32 f = 0; f < F::FRAGMENTS; ++f) state.largest[f][0] = state.largest[f][1] = never();
    const bf16* from = rows + copy_start<F>(a.qkv_stride);
    copy_rows<F, F::QUERIES>(queries, from + tile.query * a.qkv_stride + work.head * width,
                             a.qkv_stride, tile.length - tile.query, width);
    from += keys.begin * a.qkv_stride + (a.heads + work.kv_head) * width;
    const auto copy_tile = [&](u32 first) {
        bf16* to = queries + F::slot(first);
        copy_rows<F, F::KEYS>(to, from, a.qkv_stride, tile.length - first, width);
        copy_rows<F, F::KEYS>(to + F::TILE, from + a.kv_heads * width, a.qkv_stride,
                              tile.length - first, width);
        copy_async_commit();
        from += F::KEYS * a.qkv_stride;
    };
    copy_tile(keys.begin);

    const u32 ours = warp_id() * F::ROWS * F::WIDTH;
    for (u32 first = keys.begin; first < keys.end; first += F::KEYS) {
        const u32 tile_keys = F::slot(first);
        copy_async_wait<0>();
        __syncthreads();  // this tile is here, and everybody is done with the one before
        if (first + F::KEYS < keys.end) copy_tile(first + F::KEYS);
        // Of this warp's first query and of the sequence's end, from the tile's first key.
        const i32 row = (i32)(query - first), length = (i32)(tile.length - first);
        if (!sees_some<F>(a, row, length)) continue;
        FlashScores<F> scores;
        multiply_keys(scores, queries, ours, tile_keys);
        if (F::SHAPED) shape_scores(scores, a, work.head, query, first);
        if (!sees_all<F>(a, row, length)) hide_scores(scores, a, row, length);
        FlashWeights<F> weights;
        softmax_step(state, weights, scores, factor);
        multiply_values(state, weights, queries, tile_keys + F::TILE);
    }
    if (query >= tile.length) return;
    bf16* out = static_cast<bf16*>(a.out) + (u64)(tile.start + query) * a.out_stride + work.head * width;
    store_rows(state, queries + ours, out, a.out_stride, tile.length - query, width);
}
