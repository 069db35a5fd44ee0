// attention_grad: from the gradient of the heads' results that of queries, keys and values, on the
// float units, for any head width up to 256 and both dtypes.
//
//   qkv  [T, (H + 2 K) d] of T   as attention.cuh has it
//   g    [T, H d] of T           gradient of the heads' results; rows `g_stride` apart
//   out  [T, (H + 2 K) d] of T   gradient of qkv; every column of a sequence's rows is written
//   rows [T, H] SoftmaxRow       what the first kernel finds of each query, and the others read
//
// Sequences may go on from a past (attention.cuh), which gets no gradient.
//
// With P = softmax(S), S = scale q k^T (capped, then biased), O = P v:
//   dv = P^T dO,  dP = dO v^T,  dS = P (dP - rowsum(P dP)),  dq = scale dS k,  dk = scale dS^T q
//
//   attention_grad_rows     a block per 64 queries of a head: the largest score, the sum of the
//                           weights and rowsum(P dP), in one walk over the tiles of keys they see
//   attention_grad_queries  the same blocks: dq; of a head wider than 128 a block per 128 columns
//   attention_grad_keys     a block per 64 keys of a key-value head: dk and dv, over the group's
//                           query heads and the tiles of queries that see some of the keys, in order
//
// Each element of `out` has one block that sums it, in an order that its sequence alone decides: no
// atomics, equal bits on each run and in any company.
// Flops  per visible pair of query and key and head 4 d + 6 d + 8 d (5 products of 2 d would do if
//        scores and dP were kept; they are made anew by each kernel); of wider heads 4 d + 2 (5 d + 6 d)
// Bytes  a tile of keys or queries from the L2 for each block that visits it
// Bound by the float units: 16 fused multiply-adds for 2 packs of shared memory.
#include "attention_simt.cuh"

// A query's softmax.
struct alignas(16) SoftmaxRow {
    float largest;
    float inverse;  // of the sum of e^(score - largest)
    float mean;     // sum of P dP
    float spare;
};

struct AttentionGradArgs {
    AttentionArgs forward;  // its `out` is the gradient of qkv
    PastArgs past;          // held fixed: it gets no gradient
    const void* g;
    SoftmaxRow* rows;
    u64 g_stride;
};

constexpr u32 PART = 128;  // columns of a head that a block sums

// Rows of one head's gradient, as head_rows has them of qkv.
template <class T>
DEVICE HeadRows<T> gradient_rows(const AttentionGradArgs& a, const AttentionTile& tile, u32 first,
                                 u32 head) {
    const T* g = static_cast<const T*>(a.g) + (u64)(tile.start + first) * a.g_stride;
    return {g + (u64)head * a.forward.head_width, a.g_stride, tile.length - first,
            a.forward.head_width};
}
template <class T, class SOURCE>
DEVICE void rows_grad(const AttentionGradArgs& args, const SOURCE& source, float* panels) {
    const AttentionArgs& a = args.forward;
    const Queries<T> queries = queries_of<T>(a);
    const AttentionWork& work = queries.work;
    const HeadRows<T> g = gradient_rows<T>(args, work.tile, work.tile.query, work.head);
    const u32 value_head = a.kv_heads + work.kv_head;
    SoftmaxRows rows = no_keys();
    float mean[EACH] = {};
    for (u32 first = queries.keys.begin; first < queries.keys.end; first += SIDE) {
        float scores[EACH][EACH], grads[EACH][EACH], shrink[EACH];
        score_keys(scores, source, queries, first, panels);
        softmax_simt(rows, scores, shrink);
        multiply_simt(grads, g, source.rows(work.tile, first, value_head), panels);
        for (u32 i = 0; i < EACH; ++i) {
            float sum = 0.0f;
            for (u32 j = 0; j < EACH; ++j) sum = fmaf(scores[i][j], grads[i][j], sum);
            for (u32 step = GRID / 2; step > 0; step /= 2) sum += __shfl_xor_sync(FULL, sum, step);
            mean[i] = mean[i] * shrink[i] + sum;
        }
    }
    if (threadIdx.x % GRID > 0) return;
    for (u32 i = 0; i < EACH; ++i) {
        const u32 query = work.tile.query + threadIdx.x / GRID + GRID * i;
        if (query >= work.tile.length) continue;
        const float inverse = 1.0f / rows.total[i];
        args.rows[(u64)(work.tile.start + query) * a.heads + work.head] = {
            rows.largest[i], inverse, mean[i] * inverse, 0.0f};
    }
}

// What the first kernel found of this thread's queries. Past the end of the sequence every
// probability is to be 0.
DEVICE void load_rows(SoftmaxRow (&rows)[EACH], const AttentionGradArgs& a,
                      const AttentionWork& work) {
    for (u32 i = 0; i < EACH; ++i) {
        const u32 query = work.tile.query + threadIdx.x / GRID + GRID * i;
        rows[i] = {-never(), 0.0f, 0.0f, 0.0f};
        if (query >= work.tile.length) continue;
        rows[i] = a.rows[(u64)(work.tile.start + query) * a.forward.heads + work.head];
    }
}

// The probabilities of a tile, and the gradients of its scores before scale and cap (without the
// scale). Begins with a barrier, as multiply_simt does.
template <class T, class SOURCE>
DEVICE void tile_grad(float (&probs)[EACH][EACH], float (&grads)[EACH][EACH],
                      const AttentionGradArgs& args, const SOURCE& source,
                      const Queries<T>& queries, u32 first, float* panels) {
    const AttentionArgs& a = args.forward;
    const AttentionWork& work = queries.work;
    multiply_simt(grads, gradient_rows<T>(args, work.tile, work.tile.query, work.head),
                  source.rows(work.tile, first, a.kv_heads + work.kv_head), panels);
    multiply_simt(probs, queries.rows, source.rows(work.tile, first, work.kv_head), panels);
    SoftmaxRow rows[EACH];
    load_rows(rows, args, work);
    for (u32 i = 0; i < EACH; ++i) {
        for (u32 j = 0; j < EACH; ++j) {
            grads[i][j] -= rows[i].mean;
            if (a.softcap > 0.0f) {
                const float t = tanhf(probs[i][j] * a.scale / a.softcap);
                grads[i][j] *= 1.0f - t * t;
            }
        }
    }
    shape_scores(probs, a, work, first);
    for (u32 i = 0; i < EACH; ++i) {
        for (u32 j = 0; j < EACH; ++j) {
            probs[i][j] = expf(probs[i][j] - rows[i].largest) * rows[i].inverse;
            grads[i][j] *= probs[i][j];
        }
    }
}

// Sums of 64 rows of a tile, from `row` of the sequence on, to columns of `out`.
template <class T, u32 GROUPS>
DEVICE void store_sums(const float (&sums)[GROUPS][EACH][4], const AttentionArgs& a,
                       const AttentionTile& tile, u32 head, float factor) {
    const u32 y = threadIdx.x / GRID, x = threadIdx.x % GRID;
    T* out = static_cast<T*>(a.out) + (u64)head * a.head_width;
    for (u32 i = 0; i < EACH; ++i) {
        const u32 token = tile.query + y + GRID * i;
        if (token >= tile.length) continue;
        T* row = out + (u64)(tile.start + token) * a.out_stride;
        for (u32 group = 0; group < GROUPS; ++group) {
            for (u32 e = 0; e < 4; ++e) {
                const u32 column = blockIdx.y * PART + group * SIDE + 4 * x + e;
                if (column < a.head_width) row[column] = from_float<T>(factor * sums[group][i][e]);
            }
        }
    }
}

template <class T, u32 GROUPS, class SOURCE>
DEVICE void queries_grad(const AttentionGradArgs& args, const SOURCE& source, float* panels,
                         float* weights) {
    const AttentionArgs& a = args.forward;
    const Queries<T> queries = queries_of<T>(a);
    const AttentionWork& work = queries.work;
    const u32 y = threadIdx.x / GRID, x = threadIdx.x % GRID;
    float sums[GROUPS][EACH][4] = {};
    for (u32 first = queries.keys.begin; first < queries.keys.end; first += SIDE) {
        float probs[EACH][EACH], grads[EACH][EACH];
        tile_grad(probs, grads, args, source, queries, first, panels);
        for (u32 i = 0; i < EACH; ++i) {
            for (u32 j = 0; j < EACH; ++j) {
                weights[(y + GRID * i) * WIDE_ROW + x + GRID * j] = grads[i][j];
            }
        }
        const auto keys = source.rows(work.tile, first, work.kv_head);
        multiply_values(sums, weights, from_column(keys, blockIdx.y * PART), panels);
    }
    store_sums<T>(sums, a, work.tile, work.head, a.scale);
}

// A tile's weights turned round: rows are keys.
DEVICE void store_turned(float* weights, const float (&tile)[EACH][EACH]) {
    const u32 y = threadIdx.x / GRID, x = threadIdx.x % GRID;
    for (u32 i = 0; i < EACH; ++i) {
        for (u32 j = 0; j < EACH; ++j) {
            weights[(x + GRID * j) * WIDE_ROW + y + GRID * i] = tile[i][j];
        }
    }
}

// Queries of the batch that see some of a tile of its keys, from the first of a tile on.
DEVICE KeyRange seeing_queries(const AttentionGradArgs& args, const AttentionTile& keys) {
    const AttentionArgs& a = args.forward;
    const u32 before = args.past.rows != nullptr ? past_length(args.past, keys.sequence) : 0;
    const u32 keys_end = smaller(keys.query + SIDE, keys.length);
    return {a.causal ? keys.query : before, smaller(keys_end + a.window - 1, keys.length)};
}

template <class T, u32 GROUPS>
DEVICE void keys_grad(const AttentionGradArgs& args, float* panels, float* weights) {
    const AttentionArgs& a = args.forward;
    const AttentionTile keys = reinterpret_cast<const AttentionTile*>(a.tiles)[blockIdx.x / a.kv_heads];
    const u32 kv_head = blockIdx.x % a.kv_heads, group = a.heads / a.kv_heads;
    const KeyRange seeing = seeing_queries(args, keys);
    const BatchKeys<T> source = {a};
    float key_sums[GROUPS][EACH][4] = {}, value_sums[GROUPS][EACH][4] = {};
    for (u32 head = kv_head * group; head < (kv_head + 1) * group; ++head) {
#pragma unroll 1
        for (u32 first = seeing.begin; first < seeing.end; first += SIDE) {
            const AttentionTile tile = {keys.start, keys.length, first, keys.sequence};
            const Queries<T> queries = {{tile, head, kv_head}, head_rows<T>(a, tile, first, head), {}};
            float probs[EACH][EACH], grads[EACH][EACH];
            tile_grad(probs, grads, args, source, queries, keys.query, panels);
            const HeadRows<T> g = gradient_rows<T>(args, tile, first, head);
            store_turned(weights, probs);
            multiply_values(value_sums, weights, from_column(g, blockIdx.y * PART), panels);
            __syncthreads();
            store_turned(weights, grads);
            multiply_values(key_sums, weights, from_column(queries.rows, blockIdx.y * PART), panels);
        }
    }
    store_sums<T>(key_sums, a, keys, a.heads + kv_head, a.scale);
    store_sums<T>(value_sums, a, keys, a.heads + a.kv_heads + kv_head, 1.0f);
}

// Heads, or parts of them, of at most 64 columns, and of at most 128.
template <class T, template <class> class KEYS>
DEVICE void find_rows(const AttentionGradArgs& a, const KEYS<T>& source) {
    EL_SHARED_PACKS(float, panels, [PANEL_FLOATS]);
    rows_grad<T>(a, source, panels);
}
template <class T, template <class> class KEYS>
DEVICE void find_queries(const AttentionGradArgs& a, const KEYS<T>& source) {
    EL_SHARED_PACKS(float, panels, [PANEL_FLOATS]);
    EL_SHARED_PACKS(float, weights, [SIDE * WIDE_ROW]);
    if (a.forward.head_width <= SIDE) {
        queries_grad<T, 1>(a, source, panels, weights);
    } else {
        queries_grad<T, 2>(a, source, panels, weights);
    }
}
template <class T> DEVICE void find_keys(const AttentionGradArgs& a) {
    EL_SHARED_PACKS(float, panels, [PANEL_FLOATS]);
    EL_SHARED_PACKS(float, weights, [SIDE * WIDE_ROW]);
    if (a.forward.head_width <= SIDE) {
        keys_grad<T, 1>(a, panels, weights);
    } else {
        keys_grad<T, 2>(a, panels, weights);
    }
}

template <class T> DEVICE BatchKeys<T> own(const AttentionGradArgs& a) { return {a.forward}; }
template <class T> DEVICE PastKeys<T> all(const AttentionGradArgs& a) { return {a.forward, a.past}; }

KERNEL_OF(attention_grad_rows_f32, AttentionGradArgs, SIMT_THREADS, 2) { find_rows(a, own<float>(a)); }
KERNEL_OF(attention_grad_rows_bf16, AttentionGradArgs, SIMT_THREADS, 2) { find_rows(a, own<bf16>(a)); }
KERNEL(attention_grad_queries_f32, AttentionGradArgs, SIMT_THREADS) { find_queries(a, own<float>(a)); }
KERNEL(attention_grad_queries_bf16, AttentionGradArgs, SIMT_THREADS) { find_queries(a, own<bf16>(a)); }
KERNEL(attention_grad_keys_f32, AttentionGradArgs, SIMT_THREADS) { find_keys<float>(a); }
KERNEL(attention_grad_keys_bf16, AttentionGradArgs, SIMT_THREADS) { find_keys<bf16>(a); }

// With a past, whose keys are seen but get no gradient.
KERNEL(attention_grad_past_rows_f32, AttentionGradArgs, SIMT_THREADS) { find_rows(a, all<float>(a)); }
KERNEL(attention_grad_past_rows_bf16, AttentionGradArgs, SIMT_THREADS) { find_rows(a, all<bf16>(a)); }
KERNEL(attention_grad_past_queries_f32, AttentionGradArgs, SIMT_THREADS) { find_queries(a, all<float>(a)); }
KERNEL(attention_grad_past_queries_bf16, AttentionGradArgs, SIMT_THREADS) { find_queries(a, all<bf16>(a)); }
