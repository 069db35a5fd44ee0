// Operations that several threads carry out together: barriers of a block, and everything that a
// warp does as one. The lanes leave what they bring; the last to arrive does the work for all.
#include <string.h>

#include "block.hpp"
#include "races.hpp"

namespace fake {

// --- Barriers of a block ---

// Lanes of one warp reach a barrier by the same line, or the code has diverged there.
static void check_warp_agrees(Block& self, const char* name, Site site) {
    for (const Thread* other : self.current->warp->lanes) {
        if (!other || other->done || !other->waits_for || other == self.current) continue;
        const bool same = !strcmp(other->waits_for, name) && other->site.line == site.line &&
                          !strcmp(other->site.file, site.file);
        if (same) continue;
        self.fail(std::string("diverged: a lane came to ") + name + " while lane " +
                      std::to_string(other->lane) + " of its warp waits in " + other->waits_for +
                      " at " + describe(other->site),
                  site);
    }
}

static void meet(u32 id, u32 threads, const char* name, Site site, void (*last)(Block&)) {
    Block& self = block();
    Barrier& barrier = self.barriers[id];
    check_warp_agrees(self, name, site);
    if (barrier.waiting.empty()) barrier.expected = threads;
    if (barrier.expected != threads) {
        self.fail(std::string(name) + " " + std::to_string(id) + " for " + std::to_string(threads) +
                      " threads, but others wait there for " + std::to_string(barrier.expected),
                  site);
    }
    const Token token = barrier.token;
    races_release(token);
    if (barrier.waiting.size() + 1 < threads) {
        barrier.waiting.push_back(self.current);
        self.stop(name, site);
        races_acquire(token);
        return;
    }
    races_acquire(token);
    barrier.token = races_token();
    if (last) last(self);
    self.wake(barrier.waiting);
}

static void count_votes(Block& self) {
    self.vote_result[0] = self.vote_all;
    self.vote_result[1] = self.vote_count > 0;
    self.vote_result[2] = self.vote_count;
    self.vote_all = 1;
    self.vote_count = 0;
}

int block_barrier(Vote vote, int value, Site site) {
    races_ignore(true);
    Block& self = block();
    self.vote_all &= value != 0;
    self.vote_count += value != 0;
    meet(0, self.count, "__syncthreads", site, count_votes);
    races_ignore(false);
    switch (vote) {
        case Vote::all: return self.vote_result[0];
        case Vote::any: return self.vote_result[1];
        case Vote::count: return self.vote_result[2];
        default: return 0;
    }
}

void named_barrier(u32 id, u32 threads, Site site) {
    races_ignore(true);
    if (id == 0 || id >= NAMED_BARRIERS || threads == 0 || threads % WARP != 0 ||
        threads > block().count) {
        block().fail("named_barrier " + std::to_string(id) + " of " + std::to_string(threads) +
                         " threads: ids are 1 to 15, threads whole warps of the block",
                     site);
    }
    meet(id, threads, "named_barrier", site, nullptr);
    races_ignore(false);
}

// --- Operations of a warp ---

static Warp::Operation& join(Block& self, const char* name, u32 mask, Site site) {
    Warp& warp = *self.current->warp;
    const u32 lane = self.current->lane;
    if (!(mask >> lane & 1)) {
        self.fail(std::string(name) + " by lane " + std::to_string(lane) +
                      ", which its mask leaves out (lanes " + lanes_of(mask) + ")",
                  site);
    }
    if (mask & ~warp.present || mask & warp.gone) {
        self.fail(std::string(name) + " with a mask that names lanes " +
                      lanes_of(mask & (~warp.present | warp.gone)) +
                      ", which do not exist or have returned",
                  site);
    }
    for (auto& open : warp.open) {
        if (!(open.mask & mask)) continue;
        const bool same = open.mask == mask && !strcmp(open.name, name) &&
                          open.site.line == site.line && !strcmp(open.site.file, site.file);
        if (same) return open;
        self.fail(std::string("diverged: lane ") + std::to_string(lane) + " came to " + name +
                      " while lanes " + lanes_of(open.arrived) + " of its warp wait in " +
                      open.name + " at " + describe(open.site),
                  site);
    }
    warp.open.push_back({name, mask, 0, site, races_token()});
    return warp.open.back();
}

void together(const char* name, u32 mask, void* slot, Execute execute, Site site) {
    races_ignore(true);
    Block& self = block();
    Thread& thread = *self.current;
    Warp& warp = *thread.warp;
    Warp::Operation& open = join(self, name, mask, site);
    thread.slot = slot;
    open.arrived |= 1u << thread.lane;
    const Token token = open.token;
    races_release(token);
    if (open.arrived != mask) {
        self.stop(name, site);
        races_acquire(token);
        races_ignore(false);
        return;
    }
    warp.open.erase(warp.open.begin() + (&open - warp.open.data()));
    races_acquire(token);
    if (execute) execute(warp, mask);
    for (u32 i = 0; i < WARP; ++i) {
        const u32 lane = self.order == Order::reverse ? WARP - 1 - i : i;
        if ((mask >> lane & 1) && lane != thread.lane) self.wake(warp.lanes[lane]);
    }
    races_ignore(false);
}

void warp_barrier(u32 mask, Site site) { together("__syncwarp", mask, nullptr, nullptr, site); }

struct ShuffleSlot {
    Shuffle kind;
    const void* in;
    void* out;
    u32 bytes, by, width;
};

// The lane that `lane` reads from; itself where the source is outside its part of the warp.
static u32 source(const ShuffleSlot& slot, u32 lane) {
    const u32 first = lane & ~(slot.width - 1), end = first + slot.width;
    switch (slot.kind) {
        case Shuffle::index: return first + slot.by % slot.width;
        case Shuffle::up: return lane >= first + slot.by ? lane - slot.by : lane;
        case Shuffle::down: return lane + slot.by < end ? lane + slot.by : lane;
        default: return (lane ^ slot.by) < end ? lane ^ slot.by : lane;
    }
}

static void shuffle_all(Warp& warp, u32 mask) {
    u8 values[WARP][16];
    for (u32 lane = 0; lane < WARP; ++lane) {
        if (!(mask >> lane & 1)) continue;
        const auto& slot = *static_cast<ShuffleSlot*>(warp.lanes[lane]->slot);
        memcpy(values[lane], slot.in, slot.bytes);
    }
    for (u32 lane = 0; lane < WARP; ++lane) {
        if (!(mask >> lane & 1)) continue;
        const auto& slot = *static_cast<ShuffleSlot*>(warp.lanes[lane]->slot);
        const u32 from = source(slot, lane);
        // What the hardware gives for a lane outside the mask is undefined.
        if (mask >> from & 1) memcpy(slot.out, values[from], slot.bytes);
        else memset(slot.out, 0xff, slot.bytes);
    }
}

void shuffle(Shuffle kind, u32 mask, const void* in, void* out, u32 bytes, u32 by, u32 width,
             Site site) {
    static const char* const names[] = {"__shfl_sync", "__shfl_up_sync", "__shfl_down_sync",
                                        "__shfl_xor_sync"};
    if (bytes > 8 || width == 0 || width > WARP || (width & (width - 1)) != 0) {
        block().fail("a shuffle takes 4 or 8 bytes, and a width that is a power of two", site);
    }
    ShuffleSlot slot{kind, in, out, bytes, by, width};
    together(names[(int)kind], mask, &slot, shuffle_all, site);
}

struct ValueSlot {
    Reduce kind;
    u64 in;
    u32 out;
};

template <class F> static void for_lanes(Warp& warp, u32 mask, F f) {
    for (u32 lane = 0; lane < WARP; ++lane) {
        if (mask >> lane & 1) f(lane, *static_cast<ValueSlot*>(warp.lanes[lane]->slot));
    }
}

u32 ballot(u32 mask, int value, Site site) {
    ValueSlot slot{Reduce::add, value != 0, 0};
    together("a vote", mask, &slot, [](Warp& warp, u32 lanes) {
        u32 votes = 0;
        for_lanes(warp, lanes, [&](u32 lane, ValueSlot& s) { votes |= (u32)s.in << lane; });
        for_lanes(warp, lanes, [&](u32, ValueSlot& s) { s.out = votes; });
    }, site);
    return slot.out;
}

u32 match_any(u32 mask, u64 value, Site site) {
    ValueSlot slot{Reduce::add, value, 0};
    together("__match_any_sync", mask, &slot, [](Warp& warp, u32 lanes) {
        for_lanes(warp, lanes, [&](u32, ValueSlot& s) {
            s.out = 0;
            for_lanes(warp, lanes, [&](u32 lane, ValueSlot& t) {
                s.out |= (u32)(t.in == s.in) << lane;
            });
        });
    }, site);
    return slot.out;
}

static u32 combine(Reduce kind, u32 a, u32 b) {
    switch (kind) {
        case Reduce::add: return a + b;
        case Reduce::smallest: return a < b ? a : b;
        case Reduce::largest: return a > b ? a : b;
        case Reduce::smallest_signed: return (int)a < (int)b ? a : b;
        case Reduce::largest_signed: return (int)a > (int)b ? a : b;
        case Reduce::bits_and: return a & b;
        default: return a | b;
    }
}

u32 reduce(Reduce kind, u32 mask, u32 value, Site site) {
    ValueSlot slot{kind, value, 0};
    together("__reduce_sync", mask, &slot, [](Warp& warp, u32 lanes) {
        const u32 first = (u32)__builtin_ctz(lanes);
        u32 all = 0;
        for_lanes(warp, lanes, [&](u32 lane, ValueSlot& s) {
            all = lane == first ? (u32)s.in : combine(s.kind, all, (u32)s.in);
        });
        for_lanes(warp, lanes, [&](u32, ValueSlot& s) { s.out = all; });
    }, site);
    return slot.out;
}

void trap(const char* why, Site site) { block().fail(why, site); }

}  // namespace fake
