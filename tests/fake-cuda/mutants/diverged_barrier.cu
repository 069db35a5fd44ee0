// A barrier that half of a warp does not reach.
#include "common.cuh"

struct DivergedBarrierArgs {
    float* out;
};

KERNEL(diverged_barrier, DivergedBarrierArgs, 64) {
    EL_SHARED(float, tile, [64]);
    tile[threadIdx.x] = 1.0f;
    if (threadIdx.x < 48) __syncthreads();
    a.out[threadIdx.x] = tile[63 - threadIdx.x];
}
