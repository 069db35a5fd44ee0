// What threads tell each other: shuffles, votes, atomics, barriers of part of a block; and where
// shared memory lies.
#include "conformance.cuh"

// Of each thread's word, in turn: 5 shuffles by exclusive or, one from a lane, one from the lane the
// word names, a vote, and the sum and maximum of the warp.
KERNEL(thread_shuffles, ConformanceArgs, 64) {
    const u32 word = a.in[threadIdx.x];
    u32* out = a.out + threadIdx.x * 10;
    for (u32 k = 0; k < 5; ++k) out[k] = __shfl_xor_sync(FULL, word, 16 >> k);
    out[5] = __shfl_sync(FULL, word, 5);
    out[6] = __shfl_sync(FULL, word, word % WARP);
    out[7] = __any_sync(FULL, word % 64 == 0);
    const float x = (float)(i32)word;
    out[8] = bits_of_float(warp_sum(x));
    out[9] = bits_of_float(warp_max(x));
}

// Words added up by their remainder modulo 8, in shared and in global memory.
KERNEL(thread_atomics, ConformanceArgs, 256) {
    EL_SHARED(u32, sums, [8]);
    if (threadIdx.x < 8) sums[threadIdx.x] = a.out[threadIdx.x] = 0;
    __syncthreads();
    for (u32 i = threadIdx.x; i < a.count; i += 256) {
        atomicAdd(&sums[a.in[i] % 8], a.in[i]);
        atomicAdd(&a.out[a.in[i] % 8], a.in[i]);
    }
    __syncthreads();
    if (threadIdx.x < 8) a.out[8 + threadIdx.x] = sums[threadIdx.x];
}

// Even and odd warps each turn words around among themselves, `count` times. (The two barriers are
// never one: their warps do not wait for each other.)
KERNEL(thread_barriers, ConformanceArgs, 128) {
    EL_SHARED(u32, words, [2][64]);
    const u32 half = warp_id() % 2, at = warp_id() / 2 * WARP + lane_id();
    for (u32 i = 0; i < a.count; ++i) {
        words[half][at] = a.in[i * 128 + threadIdx.x];
        named_barrier(1 + half, 64);
        a.out[i * 128 + threadIdx.x] = words[half][63 - at];
        named_barrier(1 + half, 64);
    }
}

// Distances in an array, how far the dynamic memory is from a multiple of 1024, and 3 words' lowest
// bytes, that stand between.
KERNEL(thread_addresses, ConformanceArgs, 32) {
    EL_SHARED(u8, odd, [3]);
    EL_SHARED(u32, words, [32]);
    EL_SMEM(dynamic);
    if (threadIdx.x < 3) odd[threadIdx.x] = (u8)a.in[threadIdx.x];
    words[threadIdx.x] = dynamic[threadIdx.x] = 0;
    __syncwarp();
    a.out[64 + threadIdx.x] = odd[threadIdx.x % 3];
    a.out[threadIdx.x] = shared_address(&words[threadIdx.x]) - shared_address(&words[0]);
    a.out[32 + threadIdx.x] = shared_address(dynamic + threadIdx.x) % 1024;
}

// Three groups of copies of 0 to 16 bytes, each read as soon as it has to be there.
KERNEL(thread_copies, ConformanceArgs, 128) {
    EL_SHARED(Pack<u32>, slots, [3][128]);
    for (u32 i = 0; i < 3; ++i) {
        copy_async_16(&slots[i][threadIdx.x], a.in + (i * 128 + threadIdx.x) * 4,
                      (threadIdx.x + i) % 17);
        copy_async_commit();
    }
    for (u32 i = 0; i < 3; ++i) {
        if (i == 0) copy_async_wait<2>();
        if (i == 1) copy_async_wait<1>();
        if (i == 2) copy_async_wait<0>();
        store_pack(a.out + (i * 128 + threadIdx.x) * 4, slots[i][threadIdx.x]);
    }
}
