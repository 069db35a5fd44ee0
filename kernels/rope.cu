// rope: rotates the pairs (j, j + r) of each head's first 2 r columns by its position's angles, or
// back by them: a rotation's transpose is its inverse, and so takes gradients back.
//
//   angles     [positions, 2 r] f32   r cosines, then r sines; rows 2 r apart
//   positions  [rows] u32             row of `angles` of each token; checked on the host
//   x          [rows, ...] of T       `heads` runs of `width` columns from `first`, in place
//
// Bytes  4 T H r s + 8 T r (s = 2 or 4 bytes; the angles are read once for four heads)
// Flops  6 T H r
// Floor  T = 8192, H = 40, r = 64, bf16: 168 MB, 39 us at 4.3 TB/s -> bound by memory
// A thread turns one pack of cosines and sines against the same pack of four heads, all eight of
// its loads under way at once.
#include "row.cuh"

struct RopeArgs {
    const float* angles;
    const u32* positions;
    void* x;
    u64 stride;
    u32 rows;
    u32 first;
    u32 heads;
    u32 width;
    u32 pairs;    // r
    u32 packs;    // of r, rounded up
    float sense;  // 1, or -1 for the way back
    u32 spare;    // keeps the size a multiple of 8
};

constexpr u32 HEADS = 4;  // of a thread; the host divides the heads by it

// One pack of `heads` heads; all of it begins at multiples of 16 bytes and none is a part.
template <class T> DEVICE void rotate_packs(const RopeArgs& a, T* x, const float* angles, u32 heads) {
    constexpr u32 SIZE = Pack<T>::SIZE;
    Pack<T> lows[HEADS], highs[HEADS];
#pragma unroll
    for (u32 h = 0; h < HEADS; ++h) {
        lows[h] = load_part<true>(x + (u64)h * a.width, h < heads ? SIZE : 0);
        highs[h] = load_part<true>(x + (u64)h * a.width + a.pairs, h < heads ? SIZE : 0);
    }
    float cosines[SIZE], sines[SIZE];
    load_floats<true>(cosines, angles, SIZE);
    load_floats<true>(sines, angles + a.pairs, SIZE);
    for (u32 i = 0; i < SIZE; ++i) sines[i] *= a.sense;
#pragma unroll
    for (u32 h = 0; h < HEADS; ++h) {
        if (h >= heads) break;
        float low[SIZE], high[SIZE];
        for (u32 i = 0; i < SIZE; ++i) {
            const float p = to_float(lows[h].at[i]), q = to_float(highs[h].at[i]);
            low[i] = p * cosines[i] - q * sines[i];
            high[i] = q * cosines[i] + p * sines[i];
        }
        store_pack(x + (u64)h * a.width, pack_of<T>(low));
        store_pack(x + (u64)h * a.width + a.pairs, pack_of<T>(high));
    }
}

// The same for heads of any width, `count` pairs at a time, element by element.
template <class T>
DEVICE void rotate_each(const RopeArgs& a, T* x, const float* angles, u32 heads, u32 count) {
    for (u32 h = 0; h < heads; ++h, x += a.width) {
        for (u32 i = 0; i < count; ++i) {
            const float p = to_float(x[i]), q = to_float(x[i + a.pairs]);
            const float cosine = angles[i], sine = a.sense * angles[i + a.pairs];
            x[i] = from_float<T>(p * cosine - q * sine);
            x[i + a.pairs] = from_float<T>(q * cosine + p * sine);
        }
    }
}

template <class T> DEVICE void rope(const RopeArgs& a) {
    constexpr u32 SIZE = Pack<T>::SIZE;
    const u32 index = blockIdx.x * blockDim.x + threadIdx.x;
    const u32 row = index / a.packs;
    if (row >= a.rows) return;
    const u32 at = index % a.packs * SIZE;
    const u32 head = blockIdx.y * HEADS;
    const u32 heads = smaller(HEADS, a.heads - head);
    T* x = static_cast<T*>(a.x) + row * a.stride + a.first + (u64)head * a.width + at;
    const float* angles = a.angles + (u64)a.positions[row] * 2 * a.pairs + at;
    if ((a.stride | a.first | a.width | a.pairs) % SIZE == 0) {
        rotate_packs(a, x, angles, heads);
    } else {
        rotate_each(a, x, angles, heads, smaller(SIZE, a.pairs - at));
    }
}

KERNEL(rope_f32, RopeArgs, 256) { rope<float>(a); }
KERNEL(rope_bf16, RopeArgs, 256) { rope<bf16>(a); }
