// Launches: what a driver checks before a kernel starts, and the copy of its arguments, since the
// caller's own may be gone when it runs.
#include <stdlib.h>
#include <string.h>

#include "driver.hpp"

using namespace fake;

u32 fake::shared_most() { return state().settings.major >= 9 ? SHARED_OPT_IN : 163 * 1024; }

namespace {

// The parameters of a launch, each at its own alignment.
struct Arguments {
    std::vector<void*> pointers;
    std::vector<void*> blocks;

    Arguments(const Entry& entry, void** from) {
        for (u32 i = 0; i < entry.count; ++i) {
            // Aligned_alloc takes multiples; the sanitizer sees reads past the true size.
            const size_t alignment = entry.alignments[i] < 16 ? 16 : entry.alignments[i];
            void* block = nullptr;
            if (posix_memalign(&block, alignment, entry.sizes[i]) != 0) abort();
            memcpy(block, from[i], entry.sizes[i]);
            blocks.push_back(block);
            pointers.push_back(block);
        }
    }
    ~Arguments() {
        for (void* block : blocks) free(block);
    }
    Arguments(const Arguments&) = delete;

    // A pointer in the arguments to memory that was given back; 0 if there is none.
    u64 stale(const Entry& entry) const {
        for (u32 i = 0; i < entry.count; ++i) {
            for (u32 at = 0; at + 8 <= entry.sizes[i]; at += 8) {
                u64 word;
                memcpy(&word, static_cast<u8*>(blocks[i]) + at, 8);
                if (points_to_freed(word)) return word;
            }
        }
        return 0;
    }
};

struct Shape {
    Index3 grid, block;
    u32 shared;
};

const char* refuse(const Function& function, const Shape& shape) {
    const Index3 g = shape.grid, b = shape.block;
    const u64 threads = (u64)b.x * b.y * b.z;
    if (!g.x || !g.y || !g.z) return "a grid of no blocks";
    if (g.y > 65535 || g.z > 65535 || g.x > 2147483647u) return "a grid that is too large";
    if (threads == 0 || threads > 1024 || b.z > 64) return "a block of no or too many threads";
    if (threads > function.threads) return "more threads than the kernel was compiled for";
    if (threads % WARP != 0) return "a block that is not whole warps, which our kernels rely on";
    const u32 most = function.dynamic ? function.dynamic : SHARED_STATIC;
    if (shape.shared > most) return "more shared memory than the function was allowed";
    return nullptr;
}

void run(Device* device, const Function& function, const Shape& shape, const Arguments& arguments) {
    const Entry& entry = *function.entry;
    if (const u64 word = arguments.stale(entry)) {
        char text[32];
        snprintf(text, sizeof text, "0x%llx", word);
        report(device, ILLEGAL_ADDRESS,
               std::string("kernel ") + entry.name + " is given memory that was freed: " + text);
        return;
    }
    Launch launch{&entry, shape.grid, shape.block, shape.shared,
                  const_cast<void**>(arguments.pointers.data()), Order::forward, 1};
    order_of_thread(&launch.order, &launch.seed);
    const std::string failure = run_grid(launch);
    if (!failure.empty()) report(device, LAUNCH_FAILED, failure);
}

}  // namespace

FAKE_CU cuLaunchKernel(void* handle, u32 grid_x, u32 grid_y, u32 grid_z, u32 block_x, u32 block_y,
                       u32 block_z, u32 shared, void* stream_handle, void** parameters,
                       void** extra) {
    FAKE_NEED_DEVICE();
    Function* function = function_of(handle);
    Stream* stream = stream_of(stream_handle);
    if (!function || !stream) return INVALID_HANDLE;
    if (extra || (function->entry->count && !parameters)) return INVALID_VALUE;
    const Shape shape{{grid_x, grid_y, grid_z}, {block_x, block_y, block_z}, shared};
    if (const char* why = refuse(*function, shape)) {
        report(device, 0, std::string("kernel ") + function->entry->name + " refused: " + why);
        return INVALID_VALUE;
    }
    auto arguments = std::make_shared<Arguments>(*function->entry, parameters);
    Device* on = stream->device;
    if (!stream->capture) ++on->launches;
    Op op;
    op.kernel = true;
    op.run = [on, function = *function, shape, arguments] {
        ::run(on, function, shape, *arguments);
    };
    submit(stream, std::move(op));
    return SUCCESS;
}

// Blocks run one after another, so a kernel that waits for other blocks would be stuck; none does.
FAKE_CU cuLaunchCooperativeKernel(void* handle, u32 grid_x, u32 grid_y, u32 grid_z, u32 block_x,
                                  u32 block_y, u32 block_z, u32 shared, void* stream,
                                  void** parameters) {
    return cuLaunchKernel(handle, grid_x, grid_y, grid_z, block_x, block_y, block_z, shared, stream,
                          parameters, nullptr);
}
