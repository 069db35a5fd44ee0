// attention_store: keeps keys and values of some tokens of a batch as rows of a past.
//
//   qkv     [T, from_cols] of T  rows `from_stride` elements apart; its last `cols` are taken
//   tokens  [count] u32          checked on the host
//   rows    [count] u32          where each goes, none twice
//   kv      [rows, cols] of T    rows `to_stride` elements apart
//
// Bytes  2 R C s + 8 R (s = 2 or 4 bytes)   Flops  0
// Floor  R = 8192, C = 2048, bf16: 67 MB, 16 us at 4.3 TB/s -> bound by memory
// Keys need not begin at multiples of 16 bytes, so a warp copies a row one element a lane, four of
// them under way: once for each layer of a batch whose copies are then run many times.
#include "common.cuh"

struct AttentionStoreArgs {
    const void* qkv;
    const u32* tokens;
    const u32* rows;
    void* kv;
    u64 from_stride;
    u64 to_stride;
    u32 count;
    u32 first;  // column of the first key
    u32 cols;
    u32 spare;  // keeps the size a multiple of 8
};

constexpr u32 WARPS = 8;  // rows of a block

template <class T> DEVICE void store(const AttentionStoreArgs& a) {
    const u32 row = blockIdx.x * WARPS + warp_id();
    if (row >= a.count) return;
    const T* from = static_cast<const T*>(a.qkv) + a.tokens[row] * a.from_stride + a.first;
    T* to = static_cast<T*>(a.kv) + a.rows[row] * a.to_stride;
#pragma unroll 4
    for (u32 at = lane_id(); at < a.cols; at += WARP) to[at] = from[at];
}

KERNEL(attention_store_f32, AttentionStoreArgs, 256) { store<float>(a); }
KERNEL(attention_store_bf16, AttentionStoreArgs, 256) { store<bf16>(a); }
