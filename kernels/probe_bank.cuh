// Banks of linear probes: how they lie in memory.
//
// A unit is a block's: heads of one task and one loss side by side in panels of 32 columns, at most one
// panel unless a single head is wider. Weights, and whatever is shaped as they are, are
// [panels, inputs + 1, 32] of each unit, one unit after the other: the last row holds the biases, the
// weights of an input that is 1.
#pragma once
#include "row.cuh"

constexpr u32 THREADS = 256;
constexpr u32 WARPS = THREADS / WARP;
constexpr u32 LANES = WARP;  // columns of a panel
constexpr u32 MOST_HEADS = LANES;  // of a unit

// A row of the table of units.
struct ProbeUnit {
    u64 cells;       // where its weights begin
    u64 logits;      // where its logits do
    u32 task;
    u32 loss;
    u32 columns;
    u32 panels;
    u32 first_head;  // of the bank, in the order of units
    u32 heads;
    u32 normed;      // 1 where a penalty is a norm
    u32 unused;
};
// A row of the table of heads.
struct ProbeHead {
    u32 first;  // of its columns in the unit
    u32 columns;
    u32 classes;  // where its counts begin
    u32 norm;     // 1: l2 times the norm; 0: times its square
    float l1, l2, rate;
    u32 unused;
};

// The head of a column of a unit, or MOST_HEADS for padding.
DEVICE u32 owner(const ProbeUnit& unit, const ProbeHead* heads, u32 column) {
    for (u32 h = 0; h < unit.heads; ++h) {
        if (column - heads[h].first < heads[h].columns) return h;
    }
    return MOST_HEADS;
}
