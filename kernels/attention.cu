// attention: softmax(q k^T) v over each packed sequence, on the float units. This is the parity
// mode (attention_f32: IEEE float, expf, exact division), and the path of bf16 head widths that are
// no multiple of 8 (attention_any_bf16); all other bf16 runs through attention_flash.cu.
//
//   qkv [T, (H + 2 K) d], out [T, H d] of T; see attention.cuh
//
// A block owns 64 queries of one head and walks over the tiles of 64 keys that some of them sees.
// Flops  4 H d per visible pair of query and key   Bytes  2 s T H d + 2 s T K d T / 64 from the L2
// Bound by the float units: 16 fused multiply-adds for 2 packs of shared memory.
#include "attention_simt.cuh"

template <class T, u32 GROUPS>
DEVICE void attend(const AttentionArgs& a, float* panels, float* weights) {
    const Queries<T> queries = queries_of<T>(a);
    const AttentionWork& work = queries.work;
    const AttentionTile& tile = work.tile;
    const u32 y = threadIdx.x / GRID, x = threadIdx.x % GRID;
    SoftmaxRows rows = no_keys();
    float sums[GROUPS][EACH][4] = {};

    for (u32 first = queries.keys.begin; first < queries.keys.end; first += SIDE) {
        float scores[EACH][EACH], shrink[EACH];
        score_keys(scores, a, queries, first, panels);
        softmax_simt(rows, scores, shrink);
        for (u32 i = 0; i < EACH; ++i) {
            for (u32 j = 0; j < EACH; ++j) {
                weights[(y + GRID * i) * WIDE_ROW + x + GRID * j] = scores[i][j];
            }
            for (u32 group = 0; group < GROUPS; ++group) {
                for (u32 e = 0; e < 4; ++e) sums[group][i][e] *= shrink[i];
            }
        }
        const u32 value_head = a.heads + a.kv_heads + work.kv_head;
        multiply_values(sums, weights, head_rows<T>(a, tile, first, value_head), panels);
    }

    T* out = static_cast<T*>(a.out) + (u64)work.head * a.head_width;
    for (u32 i = 0; i < EACH; ++i) {
        const u32 query = tile.query + y + GRID * i;
        if (query >= tile.length) continue;
        T* row = out + (u64)(tile.start + query) * a.out_stride;
        for (u32 group = 0; group < GROUPS; ++group) {
            for (u32 e = 0; e < 4; ++e) {
                const u32 column = group * SIDE + 4 * x + e;
                if (column < a.head_width) row[column] = from_float<T>(sums[group][i][e] / rows.total[i]);
            }
        }
    }
}

// Heads of at most 128 columns, and of at most 256: their sums alone take 64 registers.
template <class T> DEVICE void attend_any(const AttentionArgs& a) {
    EL_SHARED_PACKS(float, panels, [PANEL_FLOATS]);
    EL_SHARED_PACKS(float, weights, [SIDE * WIDE_ROW]);
    if (a.head_width <= SIDE) {
        attend<T, 1>(a, panels, weights);
    } else {
        attend<T, 2>(a, panels, weights);
    }
}
template <class T> DEVICE void attend_wide(const AttentionArgs& a) {
    EL_SHARED_PACKS(float, panels, [PANEL_FLOATS]);
    EL_SHARED_PACKS(float, weights, [SIDE * WIDE_ROW]);
    attend<T, 4>(a, panels, weights);
}

KERNEL_OF(attention_f32, AttentionArgs, SIMT_THREADS, 2) { attend_any<float>(a); }
KERNEL(attention_any_bf16, AttentionArgs, SIMT_THREADS) { attend_any<bf16>(a); }
KERNEL(attention_f32_256, AttentionArgs, SIMT_THREADS) { attend_wide<float>(a); }
KERNEL(attention_any_bf16_256, AttentionArgs, SIMT_THREADS) { attend_wide<bf16>(a); }
