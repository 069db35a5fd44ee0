// What a kernel compiled for the host may ask of the engine: its place in the grid, shared memory,
// and every operation that involves more than one thread. The engine lives in libcuda.so.1; images
// are linked against it and hold nothing but kernels.
#pragma once

namespace fake {

typedef unsigned char u8;
typedef unsigned int u32;
typedef unsigned long long u64;

struct Index3 {
    u32 x, y, z;
};

// Where the running CUDA thread stands.
struct Place {
    Index3 thread, block, block_dim, grid_dim;
};

// A line of kernel text, named in reports. FAKE_SITE is the last parameter of a function and takes
// the line of its caller.
struct Site {
    const char* file;
    int line;
};
#define FAKE_SITE                                                                                  \
    ::fake::Site site = { __builtin_FILE(), __builtin_LINE() }

#define FAKE_API __attribute__((visibility("default")))

// The thread that runs now. It sits in the static block of thread-local storage, so that reading
// threadIdx costs one load; the engine changes it at each switch.
extern __thread FAKE_API Place* place __attribute__((tls_model("initial-exec")));

// --- Shared memory ---

// The array named by `key` in this block, made and filled with NaN at its first use.
FAKE_API void* shared_array(const void* key, u32 bytes, u32 alignment, Site site);
FAKE_API void* shared_dynamic();
// Offset in the block's arena: what the hardware calls a shared address.
FAKE_API u32 shared_offset(const void* pointer, Site site);

// --- A block ---

enum class Vote { none, all, any, count };
// Barrier 0, over the whole block; returns the vote over the values brought along.
FAKE_API int block_barrier(Vote vote, int value, Site site);
FAKE_API void named_barrier(u32 id, u32 threads, Site site);

// --- A warp ---

enum class Shuffle { index, up, down, exclusive_or };
FAKE_API void shuffle(Shuffle kind, u32 mask, const void* in, void* out, u32 bytes, u32 by,
                      u32 width, Site site);
// The lanes of `mask` whose value is not zero.
FAKE_API u32 ballot(u32 mask, int value, Site site);
// The lanes of `mask` that hold the same value as this one.
FAKE_API u32 match_any(u32 mask, u64 value, Site site);
enum class Reduce { add, smallest, largest, smallest_signed, largest_signed, bits_and, bits_or };
FAKE_API u32 reduce(Reduce kind, u32 mask, u32 value, Site site);
FAKE_API void warp_barrier(u32 mask, Site site);
FAKE_API void load_matrix_x4(u32* out, const void* row, bool transposed, Site site);
FAKE_API void mma_16x8x16(float* sum, const u32* a, u32 b0, u32 b1, Site site);

// --- Copies beside the threads ---

FAKE_API void copy_async(void* to, const void* from, u32 bytes, Site site);
FAKE_API void copy_async_commit();
FAKE_API void copy_async_wait(u32 keep);

FAKE_API void barrier_init(u64* barrier, u32 arrivals, Site site);
FAKE_API void barrier_arrive(u64* barrier, Site site);
FAKE_API void barrier_arrive_expect(u64* barrier, u32 bytes, Site site);
FAKE_API void barrier_wait(u64* barrier, u32 parity, Site site);
FAKE_API void copy_box(void* to, const void* map, int column, int row, u64* barrier, Site site);

// --- A group of four warps ---

FAKE_API void group_fence(Site site);
FAKE_API void group_multiply(float* sum, u32 n, u64 a, u64 b, u32 keep, Site site);
FAKE_API void group_commit(Site site);
FAKE_API void group_wait(u32 keep, Site site);
FAKE_API void registers(u32 count, bool raise, Site site);

// Ends the launch with this report.
[[noreturn]] FAKE_API void trap(const char* why, Site site);

// --- The table of an image ---

// An entry point: how to call it, and what it takes.
struct Entry {
    const char* name;
    void (*call)(void** parameters);
    u32 count;
    const u32* sizes;
    const u32* alignments;
};

// Parameters come as an array of pointers without types; the function's own type brings them back.
template <auto F> struct Trampoline;
template <class... A, void (*F)(A...)> struct Trampoline<F> {
    static constexpr u32 sizes[] = {(u32)sizeof(A)..., 0};
    static constexpr u32 alignments[] = {(u32)alignof(A)..., 0};
    static void call(void** parameters) {
        void** next = parameters;
        // Braces fix the order of evaluation.
        struct Call {
            Call(A... a) { F(a...); }
        } call{*static_cast<A*>(*next++)...};
        (void)call;
    }
    static constexpr Entry entry(const char* name) {
        return {name, call, (u32)sizeof...(A), sizes, alignments};
    }
};

}  // namespace fake
