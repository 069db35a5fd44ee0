// Device memory: ordinary memory of exactly the size asked for, filled with NaN. What is given back
// is kept a while, so that later uses are seen.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "driver.hpp"
#if FAKE_ASAN
#include <sanitizer/asan_interface.h>
#endif

namespace fake {

// Bytes before and after an allocation that must stay as they are. The address sanitizer has its
// own, and sees a read there as well.
static constexpr size_t GUARD = FAKE_ASAN ? 0 : 256;
static constexpr size_t KEPT = 64u << 20;

struct Memory {
    std::mutex lock;
    std::map<u64, Allocation> all;  // by base
    std::deque<u64> kept;           // freed, oldest first
    size_t kept_bytes = 0;
};
static Memory& memory() {
    static Memory* one = new Memory;
    return *one;
}

static Allocation* find(Memory& m, u64 at) {
    auto after = m.all.upper_bound(at);
    if (after == m.all.begin()) return nullptr;
    Allocation& one = std::prev(after)->second;
    // One past the end still belongs to it, for the report.
    return at <= one.base + one.bytes ? &one : nullptr;
}

static int insert(Device* device, size_t bytes, u64* out) {
    void* raw = nullptr;
    if (posix_memalign(&raw, 256, bytes + 2 * GUARD) != 0) return OUT_OF_MEMORY;
    memset(raw, 0xff, bytes + 2 * GUARD);
    Allocation one;
    one.raw = raw;
    one.base = reinterpret_cast<u64>(raw) + GUARD;
    one.bytes = bytes;
    one.device = device;
    Memory& m = memory();
    std::lock_guard<std::mutex> guard(m.lock);
    m.all[one.base] = one;
    *out = one.base;
    return SUCCESS;
}

int allocate(Device* device, size_t bytes, u64* out) {
    if (bytes == 0) return INVALID_VALUE;
    if (device->allocated.fetch_add(bytes) + bytes > memory_of(device)) {
        device->allocated -= bytes;
        return OUT_OF_MEMORY;
    }
    const int code = insert(device, bytes, out);
    if (code) device->allocated -= bytes;
    return code;
}

int allocate_host(size_t bytes, void** out) {
    u64 base = 0;
    const int code = insert(nullptr, bytes == 0 ? 1 : bytes, &base);
    *out = reinterpret_cast<void*>(base);
    return code;
}

void lend(Device* device, u64 base, size_t bytes) {
    Allocation one;
    one.base = base;
    one.bytes = bytes;
    one.device = device;
    one.foreign = true;
    std::lock_guard<std::mutex> guard(memory().lock);
    memory().all[base] = one;
}

void unlend(u64 base) {
    std::lock_guard<std::mutex> guard(memory().lock);
    memory().all.erase(base);
}

static std::string name(u64 at, size_t bytes) {
    char text[64];
    snprintf(text, sizeof text, "[0x%llx, %zu bytes]", at, bytes);
    return text;
}

// Something wrote beside the allocation.
static bool guards_broken(const Allocation& one) {
    if (one.foreign) return false;
    const u8* low = static_cast<const u8*>(one.raw);
    const u8* high = reinterpret_cast<const u8*>(one.base + one.bytes);
    for (size_t i = 0; i < GUARD; ++i) {
        if (low[i] != 0xff || high[i] != 0xff) return true;
    }
    return false;
}

static void forget_oldest(Memory& m) {
    while (m.kept_bytes > KEPT && !m.kept.empty()) {
        const u64 base = m.kept.front();
        m.kept.pop_front();
        auto at = m.all.find(base);
        m.kept_bytes -= at->second.bytes;
#if FAKE_ASAN
        __asan_unpoison_memory_region(at->second.raw, at->second.bytes);
#endif
        free(at->second.raw);
        m.all.erase(at);
    }
}

int release(u64 base, bool host) {
    Memory& m = memory();
    std::unique_lock<std::mutex> guard(m.lock);
    auto at = m.all.find(base);
    if (at == m.all.end() || at->second.freed || at->second.foreign ||
        (at->second.device == nullptr) != host) {
        const bool twice = at != m.all.end() && at->second.freed;
        guard.unlock();
        report(nullptr, 0, (twice ? "freed twice: " : "freed, but never allocated: ") +
                               name(base, 0));
        return INVALID_VALUE;
    }
    Allocation& one = at->second;
    const bool broken = guards_broken(one);
    Device* device = one.device;
    const size_t bytes = one.bytes;
    one.freed = true;
    memset(one.raw, 0xff, bytes + 2 * GUARD);
#if FAKE_ASAN
    __asan_poison_memory_region(one.raw, bytes);
#endif
    if (device) device->allocated -= bytes;
    m.kept.push_back(base);
    m.kept_bytes += bytes;
    forget_oldest(m);
    guard.unlock();
    if (broken) {
        report(device, ILLEGAL_ADDRESS, "written outside an allocation: " + name(base, bytes));
    }
    return SUCCESS;
}

int check_range(Device* device, u64 at, size_t bytes, const char* what) {
    Memory& m = memory();
    std::unique_lock<std::mutex> guard(m.lock);
    const Allocation* one = find(m, at);
    const char* wrong = nullptr;
    int code = INVALID_VALUE;
    if (!one || one->device == nullptr) wrong = "is not device memory";
    else if (one->freed) wrong = "was freed";
    else if (at + bytes > one->base + one->bytes) wrong = "runs past the end of its allocation";
    else if (guards_broken(*one)) {
        wrong = "was written outside its allocation";
        code = ILLEGAL_ADDRESS;
    }
    const std::string whole = one ? ", part of " + name(one->base, one->bytes) : "";
    guard.unlock();
    if (!wrong) return SUCCESS;
    report(device, code == ILLEGAL_ADDRESS ? code : 0,
           std::string(what) + ": " + name(at, bytes) + whole + " " + wrong);
    return code;
}

bool is_pinned(const void* host) {
    Memory& m = memory();
    std::lock_guard<std::mutex> guard(m.lock);
    const Allocation* one = find(m, reinterpret_cast<u64>(host));
    return one && !one->device && !one->freed;
}

Device* device_of(u64 at) {
    Memory& m = memory();
    std::lock_guard<std::mutex> guard(m.lock);
    const Allocation* one = find(m, at);
    return one ? one->device : nullptr;
}

bool points_to_freed(u64 word) {
    Memory& m = memory();
    std::lock_guard<std::mutex> guard(m.lock);
    const Allocation* one = find(m, word);
    return one && one->freed && word < one->base + one->bytes;
}

}  // namespace fake
