// attention_flash: attention on the matrix units, for bf16 and head widths that are multiples of 8
// (Dao 2023, FlashAttention-2). One entry point per padded width W; the columns from d to W are
// zero in shared memory.
//
//   qkv [T, (H + 2 K) d], out [T, H d] of bf16; see attention.cuh
//
// A block owns 128 queries of one head and walks over the tiles of keys that some of them sees.
// Tiles of keys and values arrive by asynchronous copies, one tile ahead of the products. A warp
// owns whole rows: maximum and sum need 2 shuffles, and the weights never leave its registers,
// because the sums of one product lie as the left operand of the next.
// Flops  4 H d per visible pair of query and key   Bytes  4 T H d + 4 T K d T / 128 from the L2
// Bound  by the matrix units (mma.sync: about 62% of wgmma's rate on Hopper); 32 queries a warp, so
//        that each byte of keys from shared memory serves 32 rows (16 rows would be bound by it)
#include "attention_flash.cuh"

KERNEL_OF(attention_bf16_32, AttentionArgs, 128, 3) { attend<Flash<32, 64, 2, false>>(a); }
KERNEL_OF(attention_bf16_64, AttentionArgs, 128, 3) { attend<Flash<64, 64, 2, false>>(a); }
KERNEL(attention_bf16_80, AttentionArgs, 128) { attend<Flash<80, 64, 2, false>>(a); }
KERNEL(attention_bf16_96, AttentionArgs, 128) { attend<Flash<96, 64, 2, false>>(a); }
KERNEL(attention_bf16_128, AttentionArgs, 128) { attend<Flash<128, 64, 2, false>>(a); }
// 32 queries a warp would need 256 registers for the sums alone, 64 keys 192 KB of shared memory.
KERNEL(attention_bf16_256, AttentionArgs, 256) { attend<Flash<256, 32, 1, false>>(a); }

// With cap or bias, whose code needs the registers of half the rows.
KERNEL(attention_shaped_bf16_32, AttentionArgs, 256) { attend<Flash<32, 64, 1, true>>(a); }
KERNEL(attention_shaped_bf16_64, AttentionArgs, 256) { attend<Flash<64, 64, 1, true>>(a); }
KERNEL(attention_shaped_bf16_80, AttentionArgs, 256) { attend<Flash<80, 64, 1, true>>(a); }
KERNEL(attention_shaped_bf16_96, AttentionArgs, 256) { attend<Flash<96, 64, 1, true>>(a); }
KERNEL(attention_shaped_bf16_128, AttentionArgs, 256) { attend<Flash<128, 64, 1, true>>(a); }
KERNEL(attention_shaped_bf16_256, AttentionArgs, 256) { attend<Flash<256, 32, 1, true>>(a); }
