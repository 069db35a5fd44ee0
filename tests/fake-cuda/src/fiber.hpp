// Fibers: one stack per CUDA thread, switched by hand. A CUDA thread gives up the processor only
// where it waits, so a block runs on one host thread and its order is ours to choose.
#pragma once
#include <stddef.h>

#if defined(__SANITIZE_ADDRESS__)
#define FAKE_ASAN 1
#else
#define FAKE_ASAN 0
#endif
#ifndef FAKE_TSAN  // the build says so: the driver itself is not instrumented
#define FAKE_TSAN 0
#endif

namespace fake {

struct Fiber {
    void* stack_pointer = nullptr;
    void* context = nullptr;  // of machines without our assembler
    char* stack = nullptr;    // lowest usable byte
    size_t stack_bytes = 0;
    void* asan_stack = nullptr;  // the address sanitizer's shadow of it
    void* tsan = nullptr;        // the race detector's identity of this CUDA thread
    bool running = false;        // has begun and not ended
};

// A stack of our own, with a page below it that may not be touched.
void fiber_allocate(Fiber& fiber);
void fiber_free(Fiber& fiber);
// The next switch to `fiber` calls `entry`, which must never return.
void fiber_prepare(Fiber& fiber, void (*entry)());
// Its work is done; it will only switch away once more.
void fiber_ended(Fiber& fiber);
// Stops `from`, goes on with `to`. `last`: nobody will switch back to `from`.
void fiber_switch(Fiber& from, Fiber& to, bool last = false);
// First thing in an entry function: tells the sanitizers where it is.
void fiber_entered();
// The host thread itself, seen as a fiber.
void fiber_adopt(Fiber& host);

}  // namespace fake
