// A block turns rows of 64 around through shared memory and sums them; right once, wrong in the ways
// that blocks usually are. Arguments as in tests/mutants.rs.
#include "common.cuh"

struct BlockArgs {
    const float* in;
    float* out;
    u32 rows;
};

enum Bug {
    NONE,
    NO_BARRIER,         // between the writes and the reads
    NO_SECOND_BARRIER,  // between the reads and the next row's writes
    DIVERGED,           // half a warp does not come to the barrier
    EARLY_RETURN,       // a warp leaves before it
    UNINITIALISED,      // one element is never written
    GLOBAL_END,         // writes one element past the end
    SHARED_END,         // reads one element past the end
    MISSING_LANE,       // a shuffle that half of its mask does not take part in
    SAME_WORD,          // all threads add to one word without an atomic
    WILD,               // writes where there is no memory
    STUCK,              // a named barrier for more threads than come
};

template <Bug BUG> DEVICE void turn(const BlockArgs& a) {
    EL_SHARED(float, row, [64]);
    const u32 i = threadIdx.x;
    float sum = 0.0f;
    for (u32 r = 0; r < a.rows; ++r) {
        if (BUG != UNINITIALISED || i != 5) row[i] = a.in[r * 64 + i];
        if (BUG == EARLY_RETURN && i >= 32) return;
        if (BUG == DIVERGED) {
            if (i < 48) __syncthreads();
        } else if (BUG == STUCK) {
            if (i < 32) named_barrier(1, 64);
        } else if (BUG != NO_BARRIER) {
            __syncthreads();
        }
        sum += row[BUG == SHARED_END ? 64 - i : 63 - i];
        if (BUG != NO_SECOND_BARRIER) __syncthreads();
    }
    if (BUG == MISSING_LANE && i % 32 < 16) sum = __shfl_xor_sync(FULL, sum, 1);
    a.out[i] = sum;
    if (BUG == GLOBAL_END && i == 63) a.out[64] = 1.0f;
    if (BUG == WILD && i == 33) a.out[1ull << 40] = 1.0f;
    if (BUG == SAME_WORD) a.out[0] += 1.0f;
}

KERNEL(block_right, BlockArgs, 64) { turn<NONE>(a); }
KERNEL(block_no_barrier, BlockArgs, 64) { turn<NO_BARRIER>(a); }
KERNEL(block_no_second_barrier, BlockArgs, 64) { turn<NO_SECOND_BARRIER>(a); }
KERNEL(block_diverged, BlockArgs, 64) { turn<DIVERGED>(a); }
KERNEL(block_early_return, BlockArgs, 64) { turn<EARLY_RETURN>(a); }
KERNEL(block_uninitialised, BlockArgs, 64) { turn<UNINITIALISED>(a); }
KERNEL(block_global_end, BlockArgs, 64) { turn<GLOBAL_END>(a); }
KERNEL(block_shared_end, BlockArgs, 64) { turn<SHARED_END>(a); }
KERNEL(block_missing_lane, BlockArgs, 64) { turn<MISSING_LANE>(a); }
KERNEL(block_same_word, BlockArgs, 64) { turn<SAME_WORD>(a); }
KERNEL(block_wild, BlockArgs, 64) { turn<WILD>(a); }
KERNEL(block_stuck, BlockArgs, 64) { turn<STUCK>(a); }
