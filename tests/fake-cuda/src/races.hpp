// What the race detector is told. Every CUDA thread has its own identity; only what the hardware
// orders is an order here: barriers, operations of a warp, barriers in shared memory, and the start
// and end of a launch. In other builds all of this is nothing.
//
// A token stands for one meeting. Each is used once: one that is used again would hand on what came
// later, and hide races. The driver itself is not instrumented, only kernels are.
#pragma once
#include "block.hpp"
#include "fiber.hpp"

#if FAKE_TSAN
#include <sanitizer/tsan_interface.h>
#include <sys/mman.h>

#include <atomic>

extern "C" {
void AnnotateIgnoreReadsBegin(const char*, int);
void AnnotateIgnoreReadsEnd(const char*, int);
void AnnotateIgnoreWritesBegin(const char*, int);
void AnnotateIgnoreWritesEnd(const char*, int);
void __tsan_read_range(void*, unsigned long);
void __tsan_write_range(void*, unsigned long);
}
#endif

namespace fake {

#if FAKE_TSAN
inline Token races_token() {
    static constexpr u64 ROOM = 64u << 20;
    static char* const tokens = static_cast<char*>(
        mmap(nullptr, ROOM, PROT_READ | PROT_WRITE,
             MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
    static std::atomic<u64> next{0};
    return tokens + next.fetch_add(8) % ROOM;
}
inline void races_release(Token token) { __tsan_release(token); }
inline void races_acquire(Token token) { __tsan_acquire(token); }
inline void races_ignore(bool on) {
    if (on) {
        AnnotateIgnoreReadsBegin(__FILE__, __LINE__);
        AnnotateIgnoreWritesBegin(__FILE__, __LINE__);
    } else {
        AnnotateIgnoreWritesEnd(__FILE__, __LINE__);
        AnnotateIgnoreReadsEnd(__FILE__, __LINE__);
    }
}
inline void races_read(const void* at, u32 bytes) {
    races_ignore(false);
    __tsan_read_range(const_cast<void*>(at), bytes);
    races_ignore(true);
}
inline void races_write(void* at, u32 bytes) {
    races_ignore(false);
    __tsan_write_range(at, bytes);
    races_ignore(true);
}
inline void races_new_memory(void* at, size_t bytes) {
    // The detector forgets what is mapped anew where it does not look. In one call: whatever another
    // host thread mapped into a hole between two of them would be lost.
    races_ignore(true);
    mmap(at, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    races_ignore(false);
}
#else
inline Token races_token() { return nullptr; }
// What the running thread did so far comes before what others do once they acquire the token.
inline void races_release(Token) {}
inline void races_acquire(Token) {}
// The engine's own accesses are not the kernel's; calls come in pairs.
inline void races_ignore(bool) {}
// Accesses that the engine makes for the running thread, inside such a pair.
inline void races_read(const void*, u32) {}
inline void races_write(void*, u32) {}
// What was here before is another memory.
inline void races_new_memory(void*, size_t) {}
#endif

}  // namespace fake
