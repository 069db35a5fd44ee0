// A pool of blocks: their stacks are the expensive part, so they are kept for later launches.
#include "engine.hpp"

#include <algorithm>
#include <mutex>
#include <numeric>

#include "faults.hpp"
#include "races.hpp"

namespace fake {

static std::mutex pool_lock;
static std::vector<std::unique_ptr<Block>>& pool() {
    // Never destroyed: a host thread may still launch while the process ends.
    static auto* all = new std::vector<std::unique_ptr<Block>>;
    return *all;
}

static std::unique_ptr<Block> take() {
    std::lock_guard<std::mutex> guard(pool_lock);
    if (pool().empty()) return std::make_unique<Block>();
    std::unique_ptr<Block> one = std::move(pool().back());
    pool().pop_back();
    return one;
}

static void give(std::unique_ptr<Block> one) {
    std::lock_guard<std::mutex> guard(pool_lock);
    pool().push_back(std::move(one));
}

std::string run_grid(const Launch& launch) {
    catch_faults();
    std::unique_ptr<Block> one = take();
    one->order = launch.order;
    one->random = launch.seed;
    one->kernel = launch.entry->name;
    one->call = launch.entry->call;
    one->parameters = launch.parameters;
    one->dynamic_bytes = launch.shared;
    one->launched = races_token();
    one->ended = races_token();
    races_release(one->launched);
    const u64 plane = (u64)launch.grid.x * launch.grid.y, blocks = plane * launch.grid.z;
    std::vector<u64> shuffled;
    if (launch.order == Order::random) {
        shuffled.resize(blocks);
        std::iota(shuffled.begin(), shuffled.end(), 0);
        for (u64 i = blocks; i > 1; --i) std::swap(shuffled[i - 1], shuffled[one->draw() % i]);
    }
    for (u64 i = 0; i < blocks; ++i) {
        u64 b = i;
        if (launch.order == Order::reverse) b = blocks - 1 - i;
        if (launch.order == Order::random) b = shuffled[i];
        const Index3 at = {(u32)(b % launch.grid.x), (u32)(b % plane / launch.grid.x),
                           (u32)(b / plane)};
        if (!one->run(at, launch.grid, launch.size)) break;
    }
    races_acquire(one->ended);
    std::string failure = one->failure;
    give(std::move(one));
    return failure;
}

}  // namespace fake
