// ldmatrix and mma.sync: the layouts of fragments over the lanes of a warp, as the PTX manual gives
// them. Sums are float, in the order of k; the hardware's own order is not documented.
#include <string.h>

#include "block.hpp"
#include "races.hpp"

namespace fake {

struct LoadSlot {
    u32* out;
    const void* row;
};

static void load_all(Warp& warp, bool transposed) {
    unsigned short rows[32][8];
    for (u32 lane = 0; lane < WARP; ++lane) {
        const auto& slot = *static_cast<LoadSlot*>(warp.lanes[lane]->slot);
        memcpy(rows[lane], slot.row, 16);
    }
    for (u32 lane = 0; lane < WARP; ++lane) {
        u32* out = static_cast<LoadSlot*>(warp.lanes[lane]->slot)->out;
        const u32 major = lane / 4, minor = lane % 4 * 2;
        for (u32 m = 0; m < 4; ++m) {
            const u32 low = transposed ? rows[8 * m + minor][major] : rows[8 * m + major][minor];
            const u32 high =
                transposed ? rows[8 * m + minor + 1][major] : rows[8 * m + major][minor + 1];
            out[m] = low | (high << 16);
        }
    }
}

void load_matrix_x4(u32* out, const void* row, bool transposed, Site site) {
    const u32 offset = shared_offset(row, site);
    if (offset % 16 != 0 || offset + 16 > block().used) {
        block().fail("ldmatrix from shared address " + std::to_string(offset) +
                         ": rows are 16 bytes at multiples of 16, inside",
                     site);
    }
    // Read by the lane that names it, before it meets the others: the instruction itself orders
    // nothing that they wrote.
    races_ignore(true);
    races_read(row, 16);
    races_ignore(false);
    LoadSlot slot{out, row};
    if (transposed) {
        together("ldmatrix.trans", ~0u, &slot, [](Warp& w, u32) { load_all(w, true); }, site);
    } else {
        together("ldmatrix", ~0u, &slot, [](Warp& w, u32) { load_all(w, false); }, site);
    }
}

struct MmaSlot {
    float* sum;
    const u32* a;
    u32 b[2];
};

static float low_half(u32 pair) {
    const u32 bits = pair << 16;
    float out;
    memcpy(&out, &bits, 4);
    return out;
}
static float high_half(u32 pair) {
    const u32 bits = pair & 0xffff0000u;
    float out;
    memcpy(&out, &bits, 4);
    return out;
}

static void mma_all(Warp& warp, u32) {
    float a[16][16], b[16][8];
    for (u32 lane = 0; lane < WARP; ++lane) {
        const auto& slot = *static_cast<MmaSlot*>(warp.lanes[lane]->slot);
        const u32 group = lane / 4, pair = lane % 4 * 2;
        for (u32 i = 0; i < 4; ++i) {
            const u32 row = group + i % 2 * 8, column = pair + i / 2 * 8;
            a[row][column] = low_half(slot.a[i]);
            a[row][column + 1] = high_half(slot.a[i]);
        }
        for (u32 i = 0; i < 2; ++i) {
            b[pair + 8 * i][group] = low_half(slot.b[i]);
            b[pair + 8 * i + 1][group] = high_half(slot.b[i]);
        }
    }
    for (u32 lane = 0; lane < WARP; ++lane) {
        float* sum = static_cast<MmaSlot*>(warp.lanes[lane]->slot)->sum;
        for (u32 i = 0; i < 4; ++i) {
            const u32 row = lane / 4 + i / 2 * 8, column = lane % 4 * 2 + i % 2;
            float total = 0.0f;
            for (u32 k = 0; k < 16; ++k) total += a[row][k] * b[k][column];
            sum[i] += total;
        }
    }
}

void mma_16x8x16(float* sum, const u32* a, u32 b0, u32 b1, Site site) {
    MmaSlot slot{sum, a, {b0, b1}};
    together("mma", ~0u, &slot, mma_all, site);
}

}  // namespace fake
