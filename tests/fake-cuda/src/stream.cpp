// Streams. Usually work is done when it is submitted. In lazy mode it waits until somebody needs
// it, and then the streams take turns at random: an order that no event asks for does not hold.
#include "driver.hpp"

#include <chrono>

namespace fake {

// One lock for all queues; held while their work is done, which makes lazy mode sequential.
static std::recursive_mutex& lazy_lock() {
    static auto* lock = new std::recursive_mutex;
    return *lock;
}
static u64 turn = 0;

Stream* stream_of(void* handle) {
    // 0, 1 and 2 are names of the device's own stream.
    if (reinterpret_cast<u64>(handle) <= 2) {
        Device* device = current_device();
        return device ? device->null_stream : nullptr;
    }
    State& all = state();
    std::lock_guard<std::mutex> guard(all.lock);
    return all.streams.count(handle) ? static_cast<Stream*>(handle) : nullptr;
}

static double now() {
    using namespace std::chrono;
    return duration<double>(steady_clock::now().time_since_epoch()).count();
}

static void execute(Stream& stream, Op& op) {
    // A broken device does nothing more, but nobody waits for it forever.
    if (op.run && !check(stream.device)) op.run();
    if (op.record) {
        op.record->seconds = now();
        u64 seen = op.record->completed;
        auto& completed = op.record->completed;
        while (seen < op.generation && !completed.compare_exchange_weak(seen, op.generation)) {
        }
    }
}

static bool can_run(const Op& op) { return !op.wait || op.wait->completed >= op.generation; }

static std::vector<Stream*> runnable() {
    std::vector<Stream*> found;
    State& all = state();
    std::lock_guard<std::mutex> guard(all.lock);
    for (void* handle : all.streams) {
        Stream* stream = static_cast<Stream*>(handle);
        if (!stream->queue.empty() && can_run(stream->queue.front())) found.push_back(stream);
    }
    for (int i = 0; i < all.settings.devices; ++i) {
        Stream* stream = all.devices[i].null_stream;
        if (!stream->queue.empty() && can_run(stream->queue.front())) found.push_back(stream);
    }
    return found;
}

static bool step() {
    const std::vector<Stream*> found = runnable();
    if (found.empty()) return false;
    if (turn == 0) turn = state().settings.seed;
    turn = turn * 6364136223846793005ull + 1442695040888963407ull;
    Stream* stream = found[(turn >> 33) % found.size()];
    Op op = std::move(stream->queue.front());
    stream->queue.pop_front();
    execute(*stream, op);
    return true;
}

template <class Done> static void run_until(Done done) {
    if (!state().settings.lazy) return;
    std::lock_guard<std::recursive_mutex> guard(lazy_lock());
    while (!done()) {
        if (step()) continue;
        report(nullptr, 0, "streams wait for events that nothing will record");
        return;
    }
}

void submit(Stream* stream, Op op) {
    if (stream->capture) {
        stream->capture->ops.push_back(std::move(op));
        return;
    }
    if (!state().settings.lazy) {
        std::lock_guard<std::mutex> guard(stream->running);
        execute(*stream, op);
        return;
    }
    std::lock_guard<std::recursive_mutex> guard(lazy_lock());
    // The null stream begins when the device's other streams have ended, and is done at once.
    const bool null = stream == stream->device->null_stream;
    if (null) drain(stream->device);
    stream->queue.push_back(std::move(op));
    if (null) drain(stream);
}

void drain(Stream* stream) {
    run_until([&] { return stream->queue.empty(); });
}

void drain(Device* device) {
    run_until([&] {
        State& all = state();
        std::lock_guard<std::mutex> guard(all.lock);
        if (!device->null_stream->queue.empty()) return false;
        for (void* handle : all.streams) {
            const Stream* stream = static_cast<Stream*>(handle);
            if (stream->device == device && !stream->queue.empty()) return false;
        }
        return true;
    });
}

void drain(const SharedEvent& event) {
    const u64 wanted = event->recorded;
    run_until([&] { return event->completed >= wanted; });
}

void progress() {
    if (!state().settings.lazy) return;
    std::lock_guard<std::recursive_mutex> guard(lazy_lock());
    step();
}

}  // namespace fake
