// Runs one launch: all blocks of a grid, one after another, on the calling host thread. Many host
// threads may do so at once.
#pragma once
#include <string>

#include "block.hpp"

namespace fake {

struct Launch {
    const Entry* entry;
    Index3 grid, size;
    u32 shared;  // dynamic bytes
    void** parameters;
    Order order;
    u64 seed;
};

// An empty string, or what went wrong.
std::string run_grid(const Launch& launch);

}  // namespace fake
