// Barriers in shared memory (mbarrier), and the bulk copies (TMA) that count on them. A copy's
// destination is NaN from its start; it arrives only when no thread can run any more.
#include <string.h>

#include "block.hpp"
#include "races.hpp"
#include "tensor_map.hpp"

namespace fake {

// What lies in the word of a barrier, so that overwriting one is seen.
static constexpr u64 COOKIE = 0x7265697272616200ull;

static SharedBarrier& barrier_at(u64* word, u32& offset, Site site) {
    Block& self = block();
    offset = shared_offset(word, site);
    auto found = self.shared_barriers.find(offset);
    if (found == self.shared_barriers.end()) {
        self.fail("shared address " + std::to_string(offset) + " was not initialised as a barrier",
                  site);
    }
    u64 now;
    memcpy(&now, word, 8);
    if (now != (COOKIE ^ offset)) self.fail("this barrier was overwritten", site);
    return found->second;
}

void barrier_init(u64* word, u32 arrivals, Site site) {
    races_ignore(true);
    Block& self = block();
    const u32 offset = shared_offset(word, site);
    if (offset % 8 != 0 || arrivals == 0 || arrivals >= 1u << 20) {
        self.fail("a barrier is 8 aligned bytes and waits for 1 to 2^20 - 1 arrivals", site);
    }
    auto found = self.shared_barriers.find(offset);
    if (found != self.shared_barriers.end() && !found->second.waiting.empty()) {
        self.fail("a barrier initialised while threads wait for it", site);
    }
    SharedBarrier& barrier = self.shared_barriers[offset] = SharedBarrier{};
    barrier.arrivals = arrivals;
    barrier.pending = (int)arrivals;
    barrier.token = races_token();
    barrier.last = races_token();
    const u64 cookie = COOKIE ^ offset;
    races_write(word, 8);
    memcpy(word, &cookie, 8);
    races_ignore(false);
}

// Ends the phase if all that it waits for has come.
static void settle(Block& self, SharedBarrier& barrier) {
    if (barrier.pending != 0 || barrier.bytes != 0) return;
    ++barrier.phase;
    barrier.pending = (int)barrier.arrivals;
    barrier.last = barrier.token;
    barrier.token = races_token();
    // Only those who wait for this phase: all of them, as each waits for the one under way.
    self.wake(barrier.waiting);
}

static void arrive(u64* word, long long bytes, Site site) {
    races_ignore(true);
    Block& self = block();
    u32 offset;
    SharedBarrier& barrier = barrier_at(word, offset, site);
    if (barrier.pending == 0) {
        self.fail("more arrivals than the " + std::to_string(barrier.arrivals) +
                      " that this barrier expects in a phase",
                  site);
    }
    races_release(barrier.token);
    barrier.bytes += bytes;
    --barrier.pending;
    settle(self, barrier);
    races_ignore(false);
}

void barrier_arrive(u64* word, Site site) { arrive(word, 0, site); }
void barrier_arrive_expect(u64* word, u32 bytes, Site site) { arrive(word, bytes, site); }

void barrier_wait(u64* word, u32 parity, Site site) {
    races_ignore(true);
    Block& self = block();
    u32 offset;
    SharedBarrier& barrier = barrier_at(word, offset, site);
    if (parity > 1) self.fail("a parity is 0 or 1", site);
    // The phase of this parity has ended if the one under way has the other.
    if (barrier.phase % 2 == parity) {
        const Token token = barrier.token;
        barrier.waiting.push_back(self.current);
        self.stop(parity ? "barrier_wait(parity 1)" : "barrier_wait(parity 0)", site);
        races_acquire(token);
    } else {
        races_acquire(barrier.last);
    }
    races_ignore(false);
}

// --- Bulk copies ---

static const MapFields& fields(const void* map) { return *static_cast<const MapFields*>(map); }

void copy_box(void* to, const void* map, int column, int row, u64* word, Site site) {
    races_ignore(true);
    Block& self = block();
    if (reinterpret_cast<u64>(map) % 64 != 0 || fields(map).magic != MAP_MAGIC) {
        self.fail("this is not a map that cuTensorMapEncodeTiled made, or not where it was passed",
                  site);
    }
    const MapFields& m = fields(map);
    const u32 offset = shared_offset(to, site);
    const u32 bytes = m.box_columns * m.element * m.box_rows;
    if (offset % 128 != 0 || offset + bytes > self.used) {
        self.fail("a box of " + std::to_string(bytes) + " bytes to shared address " +
                      std::to_string(offset) + ": it must be a multiple of 128, inside",
                  site);
    }
    u32 barrier;
    barrier_at(word, barrier, site);
    races_write(to, bytes);
    memset(to, 0xff, bytes);
    const Token token = races_token();
    races_release(token);
    self.bulk.push_back({offset, barrier, map, column, row, site, token});
    races_ignore(false);
}

static void write_box(Block& self, const BulkCopy& copy) {
    const MapFields& m = fields(copy.map);
    const u32 pitch = m.box_columns * m.element;
    for (u32 r = 0; r < m.box_rows; ++r) {
        for (u32 at = 0; at < pitch; at += 16) {
            u8 piece[16] = {};
            const long long row = copy.row + (long long)r;
            for (u32 i = 0; i < 16; i += m.element) {
                const long long column = copy.column + (long long)((at + i) / m.element);
                const bool inside = row >= 0 && row < (long long)m.rows && column >= 0 &&
                                    column < (long long)m.columns;
                if (!inside) continue;  // zero
                const u64 from = m.start + (u64)row * m.stride + (u64)column * m.element;
                memcpy(piece + i, reinterpret_cast<const void*>(from), m.element);
            }
            const u32 linear = copy.to + r * pitch + at;
            memcpy(self.arena + swizzled(linear, m.swizzle), piece, 16);
        }
    }
}

// To the race detector, what follows is done by the copy engine.
static void as_copier(Block& self, bool on) {
#if FAKE_TSAN
    if (!on) races_ignore(false);
    __tsan_switch_to_fiber(on ? self.copier : self.host.tsan, 1);
    if (on) races_ignore(true);
#endif
    (void)self, (void)on;
}

bool deliver_bulk(Block& self) {
    if (self.bulk.empty()) return false;
    size_t which = 0;
    if (self.order == Order::reverse) which = self.bulk.size() - 1;
    if (self.order == Order::random) which = self.draw() % self.bulk.size();
    const BulkCopy copy = self.bulk[which];
    self.bulk.erase(self.bulk.begin() + (long)which);
    const MapFields& m = fields(copy.map);
    const u32 bytes = m.box_columns * m.element * m.box_rows;
    SharedBarrier& barrier = self.shared_barriers[copy.barrier];
    as_copier(self, true);
    races_acquire(copy.token);
    races_write(self.arena + copy.to, bytes);
    write_box(self, copy);
    races_release(barrier.token);
    as_copier(self, false);
    barrier.bytes -= bytes;
    settle(self, barrier);
    return true;
}

}  // namespace fake
