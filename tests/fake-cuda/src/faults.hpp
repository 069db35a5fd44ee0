// Faults of kernels become reports.
#pragma once
#include "block.hpp"

namespace fake {

// From now on, on the calling host thread as well.
void catch_faults();

}  // namespace fake
