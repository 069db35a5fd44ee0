// One block of CUDA threads while it runs: the threads, what each waits for, the state of its warps
// and barriers, its shared memory. Everything here belongs to one host thread.
#pragma once
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "fiber.hpp"
#include "tensor_map.hpp"
#include "world.hpp"

namespace fake {

constexpr u32 WARP = 32;
constexpr u32 ARENA = 256 * 1024;        // room for shared memory, more than a block may use
constexpr u32 RESERVED = 1024;           // its first bytes belong to the system, as on the device
constexpr u32 SHARED_STATIC = 48 * 1024; // what a block gets without asking
constexpr u32 SHARED_OPT_IN = 227 * 1024;
constexpr u32 NAMED_BARRIERS = 16;

// A copy that a thread has started and not waited for.
struct AsyncCopy {
    void* to;
    const void* from;
    u32 bytes;
    u32 group;
};

// A product that a warp has started and not waited for.
struct Product {
    float* sums[WARP];
    u32 n;
    u64 a, b;
    bool keep;
    u32 group;
    Site site;
};

struct Warp;

// A meeting of threads, as the race detector sees it.
using Token = void*;

struct Thread {
    Place place;  // first: `place` points here while the thread runs
    Fiber fiber;
    u32 index = 0;
    u32 lane = 0;
    Warp* warp = nullptr;
    bool done = false;
    const char* waits_for = nullptr;  // what it is stopped in, nullptr if it can run
    Site site = {"", 0};
    void* slot = nullptr;  // what it brought to the operation of its warp
    u32 parity = 0;
    u32 barrier = 0;  // offset of the barrier in shared memory that it waits for
    std::vector<AsyncCopy> copies;
    u32 copy_group = 0;  // number of the group being collected
};

// An operation that all lanes of a mask carry out together.
struct Warp {
    Thread* lanes[WARP] = {};
    u32 index = 0;
    u32 present = 0;  // lanes that exist
    u32 gone = 0;     // lanes that have returned
    struct Operation {
        const char* name = nullptr;
        u32 mask = 0;
        u32 arrived = 0;
        Site site = {"", 0};
        Token token = nullptr;
    };
    std::vector<Operation> open;  // more than one if their masks do not meet
    std::vector<Product> products;
    std::map<float*, std::vector<float>> sums;  // what lies in registers that are being summed into
    std::vector<float> written;                 // what the last wait wrote, to notice changes
    std::vector<float*> written_at;
    u32 product_group = 0;
    u32 product_number = 0;
    bool fenced = false;
};

struct Barrier {
    std::vector<Thread*> waiting;
    u32 expected = 0;
    Token token = nullptr;
};

// A barrier in shared memory (mbarrier).
struct SharedBarrier {
    u32 arrivals = 0;
    int pending = 0;
    long long bytes = 0;
    u32 phase = 0;
    std::vector<Thread*> waiting;
    Token token = nullptr, last = nullptr;  // of the phase under way, and of the one before
};

struct BulkCopy {
    u32 to;  // offset in the arena
    u32 barrier;
    MapFields map;  // a copy: the thread that asked may end before the copy comes
    int column, row;
    Site site;
    Token token;
};

enum class Order { forward, reverse, random };

struct Block {
    std::vector<std::unique_ptr<Thread>> threads;
    std::vector<Warp> warps;
    u32 count = 0;
    u32 alive = 0;
    Fiber host;
    Thread* current = nullptr;
    std::vector<Thread*> ready;
    size_t next = 0;
    Order order = Order::forward;
    u64 random = 1;
    std::string failure;  // set once; the launch ends
    const char* kernel = "";
    Token launched = nullptr, ended = nullptr;
    void* copier = nullptr;  // the race detector's identity of what delivers bulk copies
    void (*call)(void**) = nullptr;
    void** parameters = nullptr;

    u8* arena = nullptr;
    u32 dynamic_bytes = 0;
    u32 used = 0;  // bytes of the arena taken so far
    std::map<const void*, u32> arrays;

    // For one product at a time: too large for the stack of a thread.
    float columns[256][16], along[16][256];
    Barrier barriers[NAMED_BARRIERS];
    int vote_all = 1, vote_count = 0;
    int vote_result[3] = {};
    std::map<u32, SharedBarrier> shared_barriers;
    std::vector<BulkCopy> bulk;
    std::vector<std::vector<Product>> group_log;  // products of each group of four warps, by number

    Block();
    ~Block();
    Block(const Block&) = delete;
    // Runs one block to its end; false if it failed.
    bool run(Index3 block, Index3 grid, Index3 size);

    u64 draw();
    void wake(Thread* thread);
    void wake(std::vector<Thread*>& waiting);
    // Stops the running thread until somebody wakes it.
    void stop(const char* what, Site site);
    [[noreturn]] void fail(const std::string& what, Site site);
    void start_arena();
    std::string stuck() const;
    void finish(Thread& thread);
};

// The block that runs on this host thread.
Block& block();
Block* running_block();  // nullptr where none has run
std::string describe(Site site);
std::string lanes_of(u32 mask);

using Execute = void (*)(Warp& warp, u32 mask);
// Waits until every lane of `mask` has come here with its slot; the last one executes.
void together(const char* name, u32 mask, void* slot, Execute execute, Site site);
// Delivers one bulk copy, if any is under way.
bool deliver_bulk(Block& block);
// At the end of a thread: nothing may be left that was not waited for.
void check_products(Thread& thread);

}  // namespace fake
