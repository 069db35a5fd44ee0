// attention: softmax(q k^T) v over each packed sequence, on the float units. This is the parity
// mode (attention_f32: IEEE float, expf, exact division), and the path of bf16 head widths that are
// no multiple of 8 (attention_any_bf16); all other bf16 runs through attention_flash.cu.
//
//   qkv [T, (H + 2 K) d], out [T, H d] of T; see attention.cuh
//   attention_past_*: the same where sequences go on from a past, whose keys come before theirs
//
// A block owns 64 queries of one head and walks over the tiles of 64 keys that some of them sees.
// Flops  4 H d per visible pair of query and key   Bytes  2 s T H d + 2 s T K d T / 64 from the L2
// Bound by the float units: 16 fused multiply-adds for 2 packs of shared memory.
#include "attention_simt.cuh"

template <class T, u32 GROUPS, class SOURCE>
DEVICE void attend(const SOURCE& source, float* panels, float* weights) {
    const AttentionArgs& a = source.a;
    const Queries<T> queries = queries_of<T>(a);
    const AttentionWork& work = queries.work;
    const AttentionTile& tile = work.tile;
    const u32 y = threadIdx.x / GRID, x = threadIdx.x % GRID;
    SoftmaxRows rows = no_keys();
    float sums[GROUPS][EACH][4] = {};

    for (u32 first = queries.keys.begin; first < queries.keys.end; first += SIDE) {
        float scores[EACH][EACH], shrink[EACH];
        score_keys(scores, source, queries, first, panels);
        softmax_simt(rows, scores, shrink);
        for (u32 i = 0; i < EACH; ++i) {
            for (u32 j = 0; j < EACH; ++j) {
                weights[(y + GRID * i) * WIDE_ROW + x + GRID * j] = scores[i][j];
            }
            for (u32 group = 0; group < GROUPS; ++group) {
                for (u32 e = 0; e < 4; ++e) sums[group][i][e] *= shrink[i];
            }
        }
        multiply_values(sums, weights, source.rows(tile, first, a.kv_heads + work.kv_head), panels);
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
template <class T, template <class> class KEYS> DEVICE void attend_any(const KEYS<T>& source) {
    EL_SHARED_PACKS(float, panels, [PANEL_FLOATS]);
    EL_SHARED_PACKS(float, weights, [SIDE * WIDE_ROW]);
    if (source.a.head_width <= SIDE) {
        attend<T, 1>(source, panels, weights);
    } else {
        attend<T, 2>(source, panels, weights);
    }
}
template <class T, template <class> class KEYS> DEVICE void attend_wide(const KEYS<T>& source) {
    EL_SHARED_PACKS(float, panels, [PANEL_FLOATS]);
    EL_SHARED_PACKS(float, weights, [SIDE * WIDE_ROW]);
    attend<T, 4>(source, panels, weights);
}

// Sequences that go on from a past whose keys and values are kept elsewhere.
struct AttentionPastArgs {
    AttentionArgs batch;
    PastArgs past;
};
template <class T> DEVICE BatchKeys<T> own(const AttentionArgs& a) { return {a}; }
template <class T> DEVICE PastKeys<T> all(const AttentionPastArgs& a) { return {a.batch, a.past}; }

KERNEL_OF(attention_f32, AttentionArgs, SIMT_THREADS, 2) { attend_any(own<float>(a)); }
KERNEL(attention_any_bf16, AttentionArgs, SIMT_THREADS) { attend_any(own<bf16>(a)); }
KERNEL(attention_f32_256, AttentionArgs, SIMT_THREADS) { attend_wide(own<float>(a)); }
KERNEL(attention_any_bf16_256, AttentionArgs, SIMT_THREADS) { attend_wide(own<bf16>(a)); }
KERNEL(attention_past_f32, AttentionPastArgs, SIMT_THREADS) { attend_any(all<float>(a)); }
KERNEL(attention_past_bf16, AttentionPastArgs, SIMT_THREADS) { attend_any(all<bf16>(a)); }
KERNEL(attention_past_f32_256, AttentionPastArgs, SIMT_THREADS) { attend_wide(all<float>(a)); }
KERNEL(attention_past_bf16_256, AttentionPastArgs, SIMT_THREADS) { attend_wide(all<bf16>(a)); }
