// What our cuTensorMapEncodeTiled writes into the 128 bytes of a descriptor, and what a bulk copy
// reads there. The real contents are a secret of the driver's; kernels only pass them on.
#pragma once
#include "world.hpp"

namespace fake {

constexpr u64 MAP_MAGIC = 0x70616d2d656b6166ull;  // "fake-map"

struct MapFields {
    u64 magic;
    u64 start;
    u64 columns, rows;  // of the matrix, in elements
    u64 stride;         // bytes between rows
    u32 box_columns, box_rows;
    u32 element;  // bytes
    u32 swizzle;  // as in CUtensorMapSwizzle: 0 none, 1 32 bytes, 2 64, 3 128
};

// Where byte `at` of shared memory lies when its 16-byte pieces are exchanged within a span of
// 32 << (mode - 1) bytes, as both the copies and the matrix units do it: by the address itself.
inline u32 swizzled(u32 at, u32 mode) {
    const u32 mask = mode == 0 ? 0 : (1u << mode) - 1;
    return at ^ ((at >> 7 & mask) << 4);
}

}  // namespace fake
