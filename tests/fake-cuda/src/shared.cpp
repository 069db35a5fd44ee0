// Shared memory: one arena per block. The dynamic part comes first, then each array as the kernel
// reaches it, with a gap that may not be touched. All of it starts as NaN.
#include <string.h>

#include "block.hpp"
#include "races.hpp"
#if FAKE_ASAN
#include <sanitizer/asan_interface.h>
#endif

namespace fake {

static void poison(const void* at, size_t bytes, bool on) {
#if FAKE_ASAN
    if (on) __asan_poison_memory_region(at, bytes);
    else __asan_unpoison_memory_region(at, bytes);
#else
    (void)at, (void)bytes, (void)on;
#endif
}

void Block::start_arena() {
    arrays.clear();
    poison(arena, ARENA, false);
    races_new_memory(arena, ARENA);
    memset(arena + RESERVED, 0xff, dynamic_bytes);
    used = RESERVED + dynamic_bytes;
    poison(arena, RESERVED, true);
    poison(arena + used, ARENA - used, true);
}

void* shared_array(const void* key, u32 bytes, u32 alignment, Site site) {
    races_ignore(true);
    Block& self = block();
    auto found = self.arrays.find(key);
    if (found == self.arrays.end()) {
        // The sanitizers see packed accesses to an array that does not promise 16 bytes: it gets
        // no more than its type asks for. Elsewhere such an access would only stop the process.
        const u32 wanted = alignment < 16 ? 16 : alignment;
        u32 at = (self.used + 16 + wanted - 1) / wanted * wanted;
        if (FAKE_ASAN && alignment < 16) at += alignment;
        const u32 taken = at + bytes - RESERVED - self.dynamic_bytes;
        if (taken > SHARED_STATIC || at + bytes > RESERVED + SHARED_OPT_IN) {
            self.fail("shared arrays of " + std::to_string(taken) + " bytes beside " +
                          std::to_string(self.dynamic_bytes) + " dynamic ones do not fit",
                      site);
        }
        // The gaps are NaN too, for builds that only see values.
        poison(self.arena + self.used, at + bytes + 16 - self.used, false);
        memset(self.arena + self.used, 0xff, at + bytes + 16 - self.used);
        poison(self.arena + self.used, at - self.used, true);
        poison(self.arena + at + bytes, 16, true);
        self.used = at + bytes;
        found = self.arrays.emplace(key, at).first;
    }
    races_ignore(false);
    return self.arena + found->second;
}

void* shared_dynamic() { return block().arena + RESERVED; }

u32 shared_offset(const void* pointer, Site site) {
    Block& self = block();
    const u8* at = static_cast<const u8*>(pointer);
    if (at < self.arena + RESERVED || at > self.arena + self.used) {
        self.fail("this address is not in shared memory", site);
    }
    return (u32)(at - self.arena);
}

}  // namespace fake
