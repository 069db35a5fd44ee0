// Settings from the environment, the table of devices, reports, and the controls that tests use.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "driver.hpp"

namespace fake {

State& state() {
    static State* all = new State;  // never destroyed: threads may outlive main
    return *all;
}

Device*& current_device() {
    static thread_local Device* current = nullptr;
    return current;
}

struct Override {
    bool on = false;
    Order order = Order::forward;
    u64 seed = 1;
};
static thread_local Override thread_order;
static thread_local bool quiet = false;
static std::mutex report_lock;
static thread_local std::string last_report;
static std::string any_report;

void order_of_thread(Order* order, u64* seed) {
    *order = thread_order.on ? thread_order.order : state().settings.order;
    *seed = thread_order.on ? thread_order.seed : state().settings.seed;
}

static u64 number(const char* name, u64 otherwise) {
    const char* text = getenv(name);
    return text && *text ? strtoull(text, nullptr, 10) : otherwise;
}

static Order order_named(const char* text) {
    if (text && !strcmp(text, "reverse")) return Order::reverse;
    if (text && !strcmp(text, "random")) return Order::random;
    return Order::forward;
}

static void set_failure(Device& device, long long launches, int code) {
    device.fail_code = code;
    device.fail_after = launches < 0 ? -1 : (long long)device.launches + launches;
}

// A gigabyte unless told: memory is filled with NaN when it is given out.
static constexpr u64 MEMORY = 1ull << 30;

static bool is_device(int ordinal) { return ordinal >= 0 && ordinal < MAX_DEVICES; }

// What is to go wrong: FAKECUDA_FAIL, FAKECUDA_SHRINK, FAKECUDA_REFUSE.
static void read_faults(State& all) {
    int device = 0, code = 0;
    long long launches = 0;
    const char* plan = getenv("FAKECUDA_FAIL");
    if (plan && sscanf(plan, "%d:%lld:%d", &device, &launches, &code) == 3 && is_device(device)) {
        set_failure(all.devices[device], launches, code);
    }
    u64 bytes = 0;
    plan = getenv("FAKECUDA_SHRINK");
    if (plan && sscanf(plan, "%d:%lld:%llu", &device, &launches, &bytes) == 3 &&
        is_device(device)) {
        all.devices[device].shrink_after = launches;
        all.devices[device].shrink_to = bytes;
    }
    char call[64] = "";
    plan = getenv("FAKECUDA_REFUSE");
    if (plan && sscanf(plan, "%d:%63[^:]:%d", &device, call, &code) == 3 && is_device(device)) {
        all.devices[device].refused = call;
        all.devices[device].refuse_code = code;
    }
}

void read_settings(State& all) {
    Settings& s = all.settings;
    s.devices = (int)number("FAKECUDA_DEVICES", 1);
    if (s.devices > MAX_DEVICES) s.devices = MAX_DEVICES;
    s.version = (int)number("FAKECUDA_VERSION", 13000);
    s.processors = (int)number("FAKECUDA_PROCESSORS", 4);
    s.lazy = number("FAKECUDA_LAZY", 0) != 0;
    s.seed = number("FAKECUDA_SEED", 1);
    s.order = order_named(getenv("FAKECUDA_ORDER"));
    if (const char* arch = getenv("FAKECUDA_ARCH")) sscanf(arch, "%d.%d", &s.major, &s.minor);
    for (int i = 0; i < MAX_DEVICES; ++i) {
        all.devices[i].ordinal = i;
        all.devices[i].memory = number("FAKECUDA_MEMORY", MEMORY);
        all.devices[i].null_stream = new Stream;
        all.devices[i].null_stream->device = &all.devices[i];
    }
    read_faults(all);
}

void report(Device* device, int code, const std::string& text) {
    const std::string line = "fake cuda: " + text + "\n";
    if (!quiet) fputs(line.c_str(), stderr);
    last_report = text;
    {
        std::lock_guard<std::mutex> guard(report_lock);
        any_report = text;
    }
    if (!device) return;
    std::lock_guard<std::mutex> guard(device->report_lock);
    if (device->broken) return;  // the first reason is the one to keep
    device->report = text;
    if (code) device->broken = code;
}

int check(Device* device) {
    const long long after = device->fail_after;
    if (!device->broken && after >= 0 && (long long)device->launches >= after) {
        device->fail_after = -1;
        report(device, device->fail_code, "device " + std::to_string(device->ordinal) +
                                              " fails as it was told to");
    }
    return device->broken;
}

int check(Device* device, const char* call) {
    if (int code = check(device)) return code;
    return device->refused == call ? device->refuse_code : SUCCESS;
}

u64 memory_of(Device* device) {
    const long long after = device->shrink_after;
    const bool shrunk = after >= 0 && (long long)device->launches >= after;
    return shrunk ? device->shrink_to : device->memory;
}

}  // namespace fake

using namespace fake;

static Device* device_at(int ordinal) {
    return is_device(ordinal) ? &state().devices[ordinal] : nullptr;
}

// --- Controls for tests ---

extern "C" FAKE_API void fakecuda_set_devices(int count) {
    state().settings.devices = count < 0 ? 0 : count > MAX_DEVICES ? MAX_DEVICES : count;
}

// Every call on the device returns `code` once it has run so many more launches; -1: never.
extern "C" FAKE_API void fakecuda_fail(int ordinal, long long launches, int code) {
    if (Device* device = device_at(ordinal)) set_failure(*device, launches, code);
}

extern "C" FAKE_API void fakecuda_memory(int ordinal, u64 bytes) {
    if (Device* device = device_at(ordinal)) device->memory = bytes;
}

// The order of threads and blocks in launches that the calling host thread makes: "forward",
// "reverse", "random", or nullptr for what the environment says.
extern "C" FAKE_API void fakecuda_order(const char* name, u64 seed) {
    thread_order = {name != nullptr, order_named(name), seed};
}

// Whether reports of calls by this host thread are kept from stderr.
extern "C" FAKE_API void fakecuda_quiet(int on) { quiet = on != 0; }

// Mends a device, or all of them for -1: no failure, no report, counters at 0, memory as set first.
extern "C" FAKE_API void fakecuda_reset(int ordinal) {
    for (int i = 0; i < MAX_DEVICES; ++i) {
        if (ordinal >= 0 && ordinal != i) continue;
        Device& device = state().devices[i];
        device.fail_after = -1;
        device.shrink_after = -1;
        device.launches = 0;
        device.copied = 0;
        device.memory = number("FAKECUDA_MEMORY", MEMORY);
        std::lock_guard<std::mutex> guard(device.report_lock);
        device.broken = 0;
        device.report.clear();
    }
}

// launches, bytes copied between host and device, bytes allocated now.
extern "C" FAKE_API int fakecuda_counters(int ordinal, u64* out) {
    Device* device = device_at(ordinal);
    if (!device) return INVALID_DEVICE;
    out[0] = device->launches;
    out[1] = device->copied;
    out[2] = device->allocated;
    return SUCCESS;
}

// What was wrong last in a call of this host thread, or in any if this thread has seen nothing.
extern "C" FAKE_API const char* fakecuda_last_report() {
    if (last_report.empty()) {
        std::lock_guard<std::mutex> guard(report_lock);
        last_report = any_report;
    }
    return last_report.c_str();
}

// Copies the device's report; returns its length.
extern "C" FAKE_API size_t fakecuda_report(int ordinal, char* out, size_t room) {
    Device* device = device_at(ordinal);
    if (!device) return 0;
    std::lock_guard<std::mutex> guard(device->report_lock);
    if (room > 0) {
        const size_t n = device->report.size() < room - 1 ? device->report.size() : room - 1;
        memcpy(out, device->report.data(), n);
        out[n] = 0;
    }
    return device->report.size();
}
