// attention_probs: the probabilities softmax(q k^T) themselves, when somebody asks for them.
//
//   probs  every sequence's [H, n, n], end to end, of T; hidden keys are 0; see attention.cuh
//
// A block owns 64 queries of one head. Scores are computed twice, once for the maximum and the sum
// and once for the quotients, because a row need not fit into shared memory.
// Flops  4 H d per visible pair   Bytes  s per cell, written once   -> bound by the float units
#include "attention_simt.cuh"

// Zeros in columns begin to end of the tile's rows.
template <class T>
DEVICE void clear_columns(T* probs, const AttentionTile& tile, u32 begin, u32 end) {
    const u32 rows = smaller(SIDE, tile.length - tile.query);
    for (u32 row = warp_id(); row < rows; row += SIMT_THREADS / WARP) {
        for (u32 key = begin + lane_id(); key < end; key += WARP) {
            probs[(u64)row * tile.length + key] = from_float<T>(0.0f);
        }
    }
}

template <class T> DEVICE void attend_probs(const AttentionArgs& a) {
    EL_SHARED_PACKS(float, panels, [PANEL_FLOATS]);
    const Queries<T> queries = queries_of<T>(a);
    const AttentionTile& tile = queries.work.tile;
    const KeyRange& keys = queries.keys;
    const BatchKeys<T> keys_of = {a};
    const u32 y = threadIdx.x / GRID, x = threadIdx.x % GRID;
    SoftmaxRows rows = no_keys();
    float scores[EACH][EACH], shrink[EACH];

    for (u32 first = keys.begin; first < keys.end; first += SIDE) {
        score_keys(scores, keys_of, queries, first, panels);
        softmax_simt(rows, scores, shrink);
    }

    T* probs = static_cast<T*>(a.probs) + a.cells[tile.sequence] +
               ((u64)queries.work.head * tile.length + tile.query) * tile.length;
    for (u32 first = keys.begin; first < keys.end; first += SIDE) {
        score_keys(scores, keys_of, queries, first, panels);
        for (u32 i = 0; i < EACH; ++i) {
            const u32 row = y + GRID * i;
            for (u32 j = 0; j < EACH; ++j) {
                const u32 key = first + x + GRID * j;
                if (tile.query + row >= tile.length || key >= tile.length) continue;
                probs[(u64)row * tile.length + key] =
                    from_float<T>(expf(scores[i][j] - rows.largest[i]) / rows.total[i]);
            }
        }
    }
    clear_columns(probs, tile, 0, keys.begin);
    clear_columns(probs, tile, smaller(ceil_div(keys.end, SIDE) * SIDE, tile.length), tile.length);
}

KERNEL(attention_probs_f32, AttentionArgs, SIMT_THREADS) { attend_probs<float>(a); }
KERNEL(attention_probs_bf16, AttentionArgs, SIMT_THREADS) { attend_probs<bf16>(a); }
