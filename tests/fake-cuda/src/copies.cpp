// cp.async: a copy of 16 bytes may happen any time between its start and the wait for its group.
// Here its destination is NaN from the start, and the copy is made at the wait: whoever reads too
// early, or still needed what lay there, gets NaN.
#include <string.h>

#include "block.hpp"
#include "races.hpp"

namespace fake {

void copy_async(void* to, const void* from, u32 bytes, Site site) {
    races_ignore(true);
    Block& self = block();
    const u32 offset = shared_offset(to, site);
    if (offset % 16 != 0 || reinterpret_cast<u64>(from) % 16 != 0 || bytes > 16 ||
        offset + 16 > self.used) {
        self.fail("cp.async of " + std::to_string(bytes) + " bytes to shared address " +
                      std::to_string(offset) + ": both sides must be multiples of 16, inside",
                  site);
    }
    races_write(to, 16);
    memset(to, 0xff, 16);
    self.current->copies.push_back({to, from, bytes, self.current->copy_group});
    races_ignore(false);
}

void copy_async_commit() { ++block().current->copy_group; }

void copy_async_wait(u32 keep) {
    races_ignore(true);
    Thread& thread = *block().current;
    auto& copies = thread.copies;
    size_t done = 0;
    // Groups are numbered from 0; the newest `keep` of those committed may stay under way.
    while (done < copies.size() && copies[done].group + keep < thread.copy_group) {
        const AsyncCopy& copy = copies[done++];
        races_write(copy.to, 16);
        races_read(copy.from, copy.bytes);
        memcpy(copy.to, copy.from, copy.bytes);
        memset(static_cast<u8*>(copy.to) + copy.bytes, 0, 16 - copy.bytes);
    }
    copies.erase(copies.begin(), copies.begin() + (long)done);
    races_ignore(false);
}

}  // namespace fake
