// What the kernels of attention share: their arguments, the work list, and which keys a query sees.
//
//   qkv   [T, (H + 2 K) d]  heads of queries, then of keys, then of values; rows `qkv_stride` apart
//   out   [T, H d]          rows `out_stride` apart
//   tiles [blocks / H]      one block per tile and head; heads run fastest, the longest tiles come
//                           first, so that the last blocks to start are short ones
//   bias  [H] slopes, or [H, 2 reach + 1] by distance
//
// A tile begins at a multiple of its size inside its sequence, and so do the tiles of keys: the
// bits of a query's result depend on its sequence alone, not on what it is packed with.
#pragma once
#include "common.cuh"

struct AttentionArgs {
    const void* qkv;
    void* out;
    void* probs;           // every sequence's [H, n, n], end to end
    const u32* tiles;      // as AttentionTile
    const u64* cells;      // [S] where a sequence's probabilities begin
    const float* bias;
    u64 qkv_stride, out_stride;
    u32 heads, kv_heads, head_width;
    u32 causal;     // 1: keys after the query are hidden
    u32 window;     // keys this far before the query are hidden; at most 2^30, which hides none
    u32 bias_kind;  // NO_BIAS, SLOPES or DISTANCE
    u32 reach;
    float scale;
    float softcap;  // 0: none
    u32 spare;      // keeps the size a multiple of 8
};

constexpr u32 NO_BIAS = 0, SLOPES = 1, DISTANCE = 2;

struct alignas(16) AttentionTile {
    u32 start;     // first token of the sequence
    u32 length;    // its tokens
    u32 query;     // first query of the tile, counted inside the sequence
    u32 sequence;  // its number
};

// Keys and values of tokens before those of a batch. Keys and queries are then counted from the
// past's first token, and a tile's `start` is where that would be in the batch (modulo 2^32).
struct PastArgs {
    const void* kv;   // [rows, 2 K d]: key heads, then value heads
    const u32* rows;  // [S, 2] first row and number of rows of each sequence; null: no past
    u64 stride;
};
DEVICE u32 past_start(const PastArgs& past, u32 sequence) { return past.rows[2 * sequence]; }
DEVICE u32 past_length(const PastArgs& past, u32 sequence) { return past.rows[2 * sequence + 1]; }

// The tile and head of this block.
struct AttentionWork {
    AttentionTile tile;
    u32 head, kv_head;
};
DEVICE AttentionWork attention_work(const AttentionArgs& a) {
    AttentionWork work;
    work.tile = reinterpret_cast<const AttentionTile*>(a.tiles)[blockIdx.x / a.heads];
    work.head = blockIdx.x % a.heads;
    work.kv_head = (u32)((u64)work.head * a.kv_heads / a.heads);
    return work;
}

struct KeyRange {
    u32 begin, end;
};
// Keys one query sees; queries past the end of the sequence see some, and are never stored.
DEVICE KeyRange seen_keys(const AttentionArgs& a, u32 query, u32 length) {
    const u32 end = a.causal ? smaller(query + 1, length) : length;
    const u32 begin = query >= a.window ? query + 1 - a.window : 0;
    return {begin, end};
}
// Keys that some query of a run sees, cut to whole tiles of `size` keys at the front.
DEVICE KeyRange visible_keys(const AttentionArgs& a, u32 query, u32 queries, u32 length, u32 size) {
    const u32 last = smaller(query + queries, length) - 1;
    return {seen_keys(a, query, length).begin / size * size, seen_keys(a, last, length).end};
}

// What a score gets after scale and cap. The index is clamped for hidden keys, whose score is
// thrown away.
DEVICE float score_bias(const AttentionArgs& a, u32 head, u32 query, u32 key) {
    if (a.bias_kind == SLOPES) return a.bias[head] * (float)key;
    if (a.bias_kind != DISTANCE) return 0.0f;
    const i32 last = 2 * (i32)a.reach;
    const i32 at = smaller(larger((i32)(key - query) + (i32)a.reach, 0), last);
    return a.bias[(u64)head * (last + 1) + at];
}
