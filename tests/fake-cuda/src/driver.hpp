// The state of the fake driver: devices, memory, streams. Handles are pointers to these; a lock per
// part, none of them held while a kernel runs.
#pragma once
#include <stddef.h>

#include <atomic>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <vector>

#include "engine.hpp"

namespace fake {

// The codes of CUresult that we return, by their names there.
enum Result {
    SUCCESS = 0,
    INVALID_VALUE = 1,
    OUT_OF_MEMORY = 2,
    NOT_INITIALIZED = 3,
    NO_DEVICE = 100,
    INVALID_DEVICE = 101,
    INVALID_IMAGE = 200,
    INVALID_CONTEXT = 201,
    NO_BINARY_FOR_GPU = 209,
    FILE_NOT_FOUND = 301,
    INVALID_HANDLE = 400,
    NOT_FOUND = 500,
    NOT_READY = 600,
    ILLEGAL_ADDRESS = 700,
    LAUNCH_OUT_OF_RESOURCES = 701,
    LAUNCH_FAILED = 719,
    NOT_SUPPORTED = 801,
    CAPTURE_UNSUPPORTED = 900,
    CAPTURE_UNMATCHED = 902,
};

constexpr int MAX_DEVICES = 64;

struct Stream;

struct Device {
    int ordinal = 0;
    std::atomic<int> broken{0};  // the code that every call returns from here on
    std::atomic<u64> launches{0}, copied{0};
    std::atomic<long long> fail_after{-1};  // launches after which the device breaks
    std::atomic<int> fail_code{0};
    std::atomic<u64> memory{0}, allocated{0};
    std::atomic<long long> shrink_after{-1};  // launches after which `memory` is `shrink_to`
    std::atomic<u64> shrink_to{0};
    std::string refused;  // the one call that it answers with `refuse_code`
    int refuse_code = 0;
    std::atomic<int> retained{0};
    std::mutex report_lock;
    std::string report;  // why it broke, or the last thing that was wrong
    Stream* null_stream = nullptr;
};

struct Settings {
    int devices = 1;
    int version = 13000;
    int major = 9, minor = 0;
    int processors = 4;
    bool lazy = false;
    u64 seed = 1;
    Order order = Order::forward;
};

struct State {
    std::atomic<bool> ready{false};
    Settings settings;
    Device devices[MAX_DEVICES];
    std::mutex lock;  // of the sets below
    std::set<void*> streams, events, modules, functions, graphs;
};
State& state();
void read_settings(State& all);
// The order asked for by the calling host thread, or by the environment.
void order_of_thread(Order* order, u64* seed);

// Notes what was wrong on `device`, prints it, and breaks the device if `code` is not 0.
void report(Device* device, int code, const std::string& text);
// 0, or the code with which calls on this device fail.
int check(Device* device);
// The same for a call by its name: a device may refuse one of them.
int check(Device* device, const char* call);
// Bytes of memory that it has now.
u64 memory_of(Device* device);
// The device of the calling thread's context, or nullptr.
Device*& current_device();

// --- Memory ---

struct Allocation {
    u64 base = 0;
    size_t bytes = 0;
    Device* device = nullptr;  // nullptr: pinned memory of the host
    void* raw = nullptr;
    bool freed = false;
    bool foreign = false;  // a variable of an image: not ours to free
};

int allocate(Device* device, size_t bytes, u64* out);
int allocate_host(size_t bytes, void** out);
int release(u64 base, bool host);
void lend(Device* device, u64 base, size_t bytes);
void unlend(u64 base);
// 0 if [at, at + bytes) lies in one live allocation; otherwise reports what is wrong with it.
int check_range(Device* device, u64 at, size_t bytes, const char* what);
bool is_pinned(const void* host);
Device* device_of(u64 at);
// Whether `word` points into memory that was given back.
bool points_to_freed(u64 word);

// --- Kernels ---

struct Function {
    const Entry* entry = nullptr;
    u32 threads = 1024;  // what the kernel was compiled for
    u32 dynamic = 0;     // shared memory asked for beyond what every block gets
};
Function* function_of(void* handle);
// Most shared memory that a block may ask for.
u32 shared_most();

// --- Streams ---

struct Event {
    std::atomic<u64> recorded{0}, completed{0};
    double seconds = 0.0;
    bool timed = true;
    struct Graph* capture = nullptr;
};
using SharedEvent = std::shared_ptr<Event>;

struct Op {
    std::function<void()> run;
    bool kernel = false;
    SharedEvent wait, record;
    u64 generation = 0;
};

struct Graph {
    std::vector<Op> ops;
    Stream* origin = nullptr;
};

struct Stream {
    Device* device = nullptr;
    std::mutex running;
    std::deque<Op> queue;
    Graph* capture = nullptr;
    bool blocking = true;
};

// Resolves a handle; the null stream is the device's own.
Stream* stream_of(void* handle);
void submit(Stream* stream, Op op);
void drain(Stream* stream);
void drain(Device* device);
void drain(const SharedEvent& event);
// One step of work that may be done, as time passes while the host polls.
void progress();

#define FAKE_CU extern "C" FAKE_API int
// Leaves the function if the thread's device cannot be used.
#define FAKE_NEED_DEVICE()                                                                         \
    ::fake::Device* const device = ::fake::current_device();                                       \
    if (!::fake::state().ready) return ::fake::NOT_INITIALIZED;                                    \
    if (!device) return ::fake::INVALID_CONTEXT;                                                   \
    if (int code = ::fake::check(device, __func__)) return code

}  // namespace fake
