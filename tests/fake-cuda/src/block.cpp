// The scheduler: runs the threads of a block one at a time, in the order asked for, until all have
// returned, one has failed, or nobody can go on.
#include "block.hpp"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "races.hpp"

namespace fake {

__thread FAKE_API Place* place __attribute__((tls_model("initial-exec"))) = nullptr;
static thread_local Block* current_block = nullptr;

Block& block() { return *current_block; }
Block* running_block() { return current_block; }

Block::Block() {
    void* map = mmap(nullptr, ARENA, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (map == MAP_FAILED) abort();
    arena = static_cast<u8*>(map);
}

Block::~Block() {
    for (auto& thread : threads) fiber_free(thread->fiber);
#if FAKE_TSAN
    if (copier) __tsan_destroy_fiber(copier);
#endif
    munmap(arena, ARENA);
}

u64 Block::draw() {
    // SplitMix64.
    u64 z = (random += 0x9e3779b97f4a7c15ull);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    return z ^ (z >> 31);
}

void Block::wake(Thread* thread) {
    thread->waits_for = nullptr;
    ready.push_back(thread);
}

void Block::wake(std::vector<Thread*>& waiting) {
    for (size_t i = 0; i < waiting.size(); ++i) {
        wake(order == Order::reverse ? waiting[waiting.size() - 1 - i] : waiting[i]);
    }
    waiting.clear();
}

void Block::stop(const char* what, Site site) {
    Thread& self = *current;
    self.waits_for = what;
    self.site = site;
    fiber_switch(self.fiber, host);
    place = &self.place;
}

void Block::fail(const std::string& what, Site site) {
    Thread& self = *current;
    const Index3 t = self.place.thread, b = self.place.block;
    auto triple = [](Index3 i) {
        return "(" + std::to_string(i.x) + ", " + std::to_string(i.y) + ", " + std::to_string(i.z) +
               ")";
    };
    failure = what + "\n  in kernel " + kernel + ", block " + triple(b) + ", thread " + triple(t) +
              ", at " + describe(site);
    fiber_switch(self.fiber, host, true);
    abort();  // a failed thread is never resumed
}

std::string describe(Site site) { return std::string(site.file) + ":" + std::to_string(site.line); }

std::string lanes_of(u32 mask) {
    std::string text;
    for (u32 lane = 0; lane < WARP; ++lane) {
        if (!(mask >> lane & 1)) continue;
        u32 end = lane;
        while (end + 1 < WARP && (mask >> (end + 1) & 1)) ++end;
        text += (text.empty() ? "" : ", ") + std::to_string(lane);
        if (end > lane) text += "-" + std::to_string(end);
        lane = end;
    }
    return text;
}

void Block::finish(Thread& thread) {
    check_products(thread);
    thread.done = true;
    --alive;
    Warp& warp = *thread.warp;
    warp.gone |= 1u << thread.lane;
    for (const auto& operation : warp.open) {
        if (!(operation.mask >> thread.lane & 1)) continue;
        fail("lane " + std::to_string(thread.lane) + " has returned, and lanes " +
                 lanes_of(operation.arrived) + " of its warp wait for it in " + operation.name,
             operation.site);
    }
    races_release(ended);
    races_ignore(false);
    fiber_ended(thread.fiber);
    fiber_switch(thread.fiber, host, true);
    abort();
}

static void thread_main() {
    fiber_entered();
    Block& self = block();
    Thread& thread = *self.current;
    races_acquire(self.launched);
    self.call(self.parameters);
    races_ignore(true);
    self.finish(thread);
}

// Who waits where, by line, for a block in which nobody can go on.
std::string Block::stuck() const {
    std::map<std::string, std::vector<u32>> lines;
    for (u32 i = 0; i < count; ++i) {
        const Thread& t = *threads[i];
        if (t.done) lines["returned"].push_back(i);
        else lines[std::string("in ") + t.waits_for + " at " + describe(t.site)].push_back(i);
    }
    std::string text = std::string("deadlock in kernel ") + kernel + ": no thread can go on";
    for (const auto& [where, who] : lines) {
        text += "\n  " + std::to_string(who.size()) + " threads (first " +
                std::to_string(who.front()) + ", last " + std::to_string(who.back()) + ") " + where;
    }
    return text;
}

static void place_threads(Block& self, Index3 at, Index3 grid, Index3 size) {
    while (self.threads.size() < self.count) {
        self.threads.push_back(std::make_unique<Thread>());
        fiber_allocate(self.threads.back()->fiber);
    }
    self.warps.assign((self.count + WARP - 1) / WARP, Warp{});
    self.group_log.assign((self.warps.size() + 3) / 4, {});
    for (u32 i = 0; i < self.count; ++i) {
        Thread& t = *self.threads[i];
        t.place = {{i % size.x, i / size.x % size.y, i / size.x / size.y}, at, size, grid};
        t.index = i;
        t.lane = i % WARP;
        t.warp = &self.warps[i / WARP];
        t.warp->lanes[t.lane] = &t;
        t.warp->index = i / WARP;
        t.warp->present |= 1u << t.lane;
        t.done = false;
        t.waits_for = nullptr;
        t.site = {"before any barrier", 0};
        t.copies.clear();
        t.copy_group = 0;
        fiber_prepare(t.fiber, thread_main);
    }
    self.ready.clear();
    for (u32 i = 0; i < self.count; ++i) {
        const bool back = self.order == Order::reverse;
        self.ready.push_back(self.threads[back ? self.count - 1 - i : i].get());
    }
    self.next = 0;
}

// Bulk copies are made by nobody's thread. The identity is kept for later blocks: it is large.
static void need_copier(Block& self) {
#if FAKE_TSAN
    if (!self.copier) self.copier = __tsan_create_fiber(0);
#endif
    (void)self;
}

bool Block::run(Index3 at, Index3 grid, Index3 size) {
    current_block = this;
    count = alive = size.x * size.y * size.z;
    failure.clear();
    for (auto& barrier : barriers) {
        barrier = Barrier{};
        barrier.token = races_token();
    }
    vote_all = 1;
    vote_count = 0;
    shared_barriers.clear();
    bulk.clear();
    fiber_adopt(host);
    start_arena();
    need_copier(*this);
    place_threads(*this, at, grid, size);
    while (alive > 0 && failure.empty()) {
        if (next == ready.size()) {
            ready.clear();
            next = 0;
            if (deliver_bulk(*this)) continue;
            if (failure.empty()) failure = stuck();
            break;
        }
        if (next >= 4096) {
            ready.erase(ready.begin(), ready.begin() + (long)next);
            next = 0;
        }
        if (order == Order::random) {
            std::swap(ready[next], ready[next + draw() % (ready.size() - next)]);
        }
        current = ready[next++];
        place = &current->place;
        fiber_switch(host, current->fiber);
    }
    place = nullptr;
    current = nullptr;
    current_block = nullptr;
    return failure.empty();
}

}  // namespace fake
