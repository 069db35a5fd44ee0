// Matrix loads and products of one warp, lane by lane as the PTX manual lays them out.
#include "conformance.cuh"

// 32 rows of 16 bytes in shared memory; lane i names row 5 i % 32.
template <bool TRANSPOSED> DEVICE void load(const ConformanceArgs& a) {
    EL_SHARED(Pack<u32>, rows, [WARP]);
    rows[lane_id()] = load_pack(a.in + lane_id() * 4);
    __syncwarp();
    u32 out[4];
    if (TRANSPOSED) {
        load_matrix_x4_transposed(out, &rows[lane_id() * 5 % WARP]);
    } else {
        load_matrix_x4(out, &rows[lane_id() * 5 % WARP]);
    }
    for (u32 i = 0; i < 4; ++i) a.out[lane_id() * 4 + i] = out[i];
}
KERNEL(matrix_load, ConformanceArgs, 32) { load<false>(a); }
KERNEL(matrix_load_transposed, ConformanceArgs, 32) { load<true>(a); }

// [16, 8] floats, then `count` times [16, 16] and [8, 16] pairs of bf16: all products are added.
KERNEL(matrix_multiply, ConformanceArgs, 32) {
    const u32 row = lane_id() / 4, pair = lane_id() % 4;
    float sum[4];
    for (u32 i = 0; i < 4; ++i) {
        sum[i] = float_of_bits(a.in[(row + i / 2 * 8) * 8 + pair * 2 + i % 2]);
    }
    for (u32 step = 0; step < a.count; ++step) {
        const u32* left = a.in + 128 + step * 192;
        const u32* right = left + 128;
        u32 x[4];
        for (u32 i = 0; i < 4; ++i) x[i] = left[(row + i % 2 * 8) * 8 + pair + i / 2 * 4];
        mma_16x8x16(sum, x, right[row * 8 + pair], right[row * 8 + pair + 4]);
    }
    for (u32 i = 0; i < 4; ++i) a.out[lane_id() * 4 + i] = bits_of_float(sum[i]);
}
