// Rows of any width, read and written in packs of 16 bytes. The last pack of a row may be a part:
// its gap is read (the memory is there, what stands in it is not used) and never written.
#pragma once
#include "common.cuh"

// WIDE: packs begin at multiples of 16 bytes and the row has room for whole ones, as is so for all
// tensors of more than one column. Otherwise element by element. `left` is the number of elements
// from here to the end of the row, or 0 where there is nothing.
template <bool WIDE, class T> DEVICE Pack<T> load_part(const T* from, u32 left) {
    Pack<T> pack = {};
    if constexpr (WIDE) {
        if (left > 0) pack = load_pack(from);
    } else {
        for (u32 k = 0; k < Pack<T>::SIZE; ++k) {
            if (k < left) pack.at[k] = from[k];
        }
    }
    return pack;
}
template <bool WIDE, class T> DEVICE void store_part(T* to, const Pack<T>& pack, u32 left) {
    if (WIDE && left >= Pack<T>::SIZE) {
        store_pack(to, pack);
        return;
    }
    for (u32 k = 0; k < Pack<T>::SIZE; ++k) {
        if (k < left) to[k] = pack.at[k];
    }
}

// Elements of the pack at `at` of a tensor read as one run; a WIDE block is known to have all.
template <bool WIDE, u32 SIZE> DEVICE u32 pack_left(u64 at, u64 elements) {
    if (WIDE) return SIZE;
    return at < elements ? (u32)smaller(elements - at, (u64)SIZE) : 0;
}

// Floats of a vector that belong to one pack of T. A vector begins at a multiple of 256 bytes and
// ends where its last element does.
template <bool WIDE, u32 SIZE>
DEVICE void load_floats(float (&out)[SIZE], const float* from, u32 left) {
    if (WIDE && left >= SIZE) {
        for (u32 k = 0; k < SIZE; k += Pack<float>::SIZE) {
            const Pack<float> four = load_pack(from + k);
            for (u32 i = 0; i < Pack<float>::SIZE; ++i) out[k + i] = four.at[i];
        }
    } else {
        for (u32 k = 0; k < SIZE; ++k) out[k] = k < left ? from[k] : 0.0f;
    }
}

// A pack of floats rounded to T; bf16 in pairs, which is one instruction for two.
template <class T> DEVICE Pack<T> pack_of(const float (&x)[Pack<T>::SIZE]);
template <> DEVICE Pack<float> pack_of<float>(const float (&x)[4]) {
    return Pack<float>{{x[0], x[1], x[2], x[3]}};
}
template <> DEVICE Pack<bf16> pack_of<bf16>(const float (&x)[8]) {
    Pack<bf16> pack;
    for (u32 k = 0; k < 8; k += 2) {
        const u32 pair = pack_bf16x2(x[k], x[k + 1]);
        pack.at[k] = bf16{(u16)(pair & 0xffffu)};
        pack.at[k + 1] = bf16{(u16)(pair >> 16)};
    }
    return pack;
}
