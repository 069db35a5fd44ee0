// What the race detector is told. Every CUDA thread has its own identity; only what the hardware
// orders is an order here: barriers, operations of a warp, barriers in shared memory, and the start
// and end of a block. In other builds all of this is nothing.
#pragma once
#include "block.hpp"

namespace fake {

#if FAKE_TSAN
#else
// `thread` may go on after what the running thread did so far.
inline void races_release(Thread*) {}
// The running thread has been released.
inline void races_acquire(Thread*) {}
// All that comes to `token` before it is passed on comes before what follows.
inline void races_gather(void*) {}
inline void races_pass(void*) {}
// What was gathered at `token` comes before what the running thread does next.
inline void races_acquire_token(void*) {}
// The engine's own accesses are not the kernel's; calls come in pairs.
inline void races_ignore(bool) {}
// Accesses that the engine makes for the running thread.
inline void races_read(const void*, unsigned) {}
inline void races_write(void*, unsigned) {}
// What was here before is another memory.
inline void races_new_memory(void*, unsigned) {}
inline void races_start_block() {}
inline void races_finish(Thread*) {}
inline void races_end_block(Block&) {}
#endif

}  // namespace fake
