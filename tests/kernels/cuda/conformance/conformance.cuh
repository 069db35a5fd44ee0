// What the kernels here share. Each is one block that runs one wrapper of kernels/device*.cuh, or one
// word of the language that kernels rely on, on words from memory, and writes what came of it as
// words. What has to come of it is said in the .rs files beside.
#pragma once
#include "common.cuh"

struct ConformanceArgs {
    const u32* in;
    u32* out;
    u32 count;  // of items, as the kernel counts
    u32 unused;  // no gap at the end
};
