// cuInit, devices, contexts, and the words for errors. A context is its device: only primary
// contexts exist.
#include <stdio.h>
#include <string.h>

#include "driver.hpp"

using namespace fake;

FAKE_CU cuInit(unsigned) {
    static std::once_flag once;
    std::call_once(once, [] {
        read_settings(state());
        state().ready = true;
    });
    return state().settings.devices > 0 ? SUCCESS : NO_DEVICE;
}

FAKE_CU cuDriverGetVersion(int* out) {
    cuInit(0);
    *out = state().settings.version;
    return SUCCESS;
}

static Device* find(int ordinal) {
    return ordinal >= 0 && ordinal < state().settings.devices ? &state().devices[ordinal] : nullptr;
}

// Leaves a query that names its device.
#define FAKE_NEED_ORDINAL()                                                                        \
    Device* const device = find(ordinal);                                                          \
    if (!device) return INVALID_DEVICE;                                                            \
    if (device->refused == __func__) return device->refuse_code

FAKE_CU cuDeviceGetCount(int* out) {
    if (!state().ready) return NOT_INITIALIZED;
    *out = state().settings.devices;
    return SUCCESS;
}

FAKE_CU cuDeviceGet(int* out, int ordinal) {
    if (!state().ready) return NOT_INITIALIZED;
    FAKE_NEED_ORDINAL();
    *out = ordinal;
    return SUCCESS;
}

FAKE_CU cuDeviceGetName(char* out, int room, int ordinal) {
    FAKE_NEED_ORDINAL();
    snprintf(out, (size_t)room, "fake GPU (compute %d.%d)", state().settings.major,
             state().settings.minor);
    return SUCCESS;
}

FAKE_CU cuDeviceTotalMem_v2(size_t* out, int ordinal) {
    FAKE_NEED_ORDINAL();
    *out = device->memory;
    return SUCCESS;
}

FAKE_CU cuDeviceGetUuid_v2(unsigned char* out, int ordinal) {
    FAKE_NEED_ORDINAL();
    memcpy(out, "fake-cuda-device", 16);
    out[15] = (unsigned char)ordinal;
    return SUCCESS;
}
FAKE_CU cuDeviceGetUuid(unsigned char* out, int ordinal) { return cuDeviceGetUuid_v2(out, ordinal); }

FAKE_CU cuDeviceGetPCIBusId(char* out, int room, int ordinal) {
    FAKE_NEED_ORDINAL();
    snprintf(out, (size_t)room, "0000:%02X:00.0", ordinal + 1);
    return SUCCESS;
}

struct Attribute {
    int number, value;
};
// The numbers of CUdevice_attribute. Few processors, so that a grid of one block for each still
// goes around its work more than once.
static const Attribute ATTRIBUTES[] = {
    {1, 1024},                      // threads per block
    {2, 1024}, {3, 1024}, {4, 64},  // block
    {5, 2147483647}, {6, 65535}, {7, 65535},  // grid
    {8, 48 * 1024},                 // shared memory per block
    {9, 65536},                     // constant memory
    {10, 32},                       // warp
    {12, 65536},                    // registers per block
    {13, 1980000},                  // clock, kHz
    {14, 512},                      // texture alignment
    {19, 1},                        // maps host memory
    {31, 1},                        // concurrent kernels
    {32, 1},                        // error correction
    {36, 3201000}, {37, 6144},      // memory clock, kHz, and bus, bits
    {38, 60 << 20},                 // L2
    {39, 2048},                     // threads per processor
    {40, 3},                        // copy engines
    {41, 1},                        // one address space
    {78, 1},                        // stream priorities
    {81, 228 * 1024},               // shared memory per processor
    {82, 65536},                    // registers per processor
    {83, 1},                        // managed memory
    {95, 1},                        // cooperative launch
    {106, 32},                      // blocks per processor
    {111, 1024},                    // shared memory reserved per block
    {115, 1},                       // memory pools
};

FAKE_CU cuDeviceGetAttribute(int* out, int number, int ordinal) {
    FAKE_NEED_ORDINAL();
    const Settings& s = state().settings;
    *out = 0;
    for (const Attribute& one : ATTRIBUTES) {
        if (one.number == number) *out = one.value;
    }
    if (number == 16) *out = s.processors;
    if (number == 33) *out = ordinal + 1;  // PCI bus
    if (number == 75) *out = s.major;
    if (number == 76) *out = s.minor;
    if (number == 97) *out = (int)shared_most();  // shared memory, opt-in
    if (number == 81 && s.major < 9) *out = 164 * 1024;
    return SUCCESS;
}

// --- Contexts ---

FAKE_CU cuDevicePrimaryCtxRetain(void** out, int ordinal) {
    FAKE_NEED_ORDINAL();
    if (int code = check(device)) return code;
    ++device->retained;
    *out = device;
    return SUCCESS;
}

FAKE_CU cuDevicePrimaryCtxRelease_v2(int ordinal) {
    Device* device = find(ordinal);
    if (!device) return INVALID_DEVICE;
    if (device->retained == 0) return INVALID_CONTEXT;
    --device->retained;
    return SUCCESS;
}

FAKE_CU cuDevicePrimaryCtxGetState(int ordinal, unsigned* flags, int* active) {
    Device* device = find(ordinal);
    if (!device) return INVALID_DEVICE;
    *flags = 0;
    *active = device->retained > 0;
    return SUCCESS;
}
FAKE_CU cuDevicePrimaryCtxSetFlags_v2(int ordinal, unsigned) {
    return find(ordinal) ? SUCCESS : INVALID_DEVICE;
}
FAKE_CU cuDevicePrimaryCtxReset_v2(int ordinal) { return find(ordinal) ? SUCCESS : INVALID_DEVICE; }

FAKE_CU cuCtxGetCurrent(void** out) {
    *out = current_device();
    return SUCCESS;
}
FAKE_CU cuCtxSetCurrent(void* context) {
    current_device() = static_cast<Device*>(context);
    return SUCCESS;
}
FAKE_CU cuCtxGetDevice(int* out) {
    if (!current_device()) return INVALID_CONTEXT;
    *out = current_device()->ordinal;
    return SUCCESS;
}
FAKE_CU cuCtxSynchronize() {
    FAKE_NEED_DEVICE();
    drain(device);
    return check(device);
}
FAKE_CU cuCtxSetFlags(unsigned) { return SUCCESS; }
FAKE_CU cuCtxGetStreamPriorityRange(int* least, int* greatest) {
    *least = 0;
    *greatest = -5;
    return SUCCESS;
}
FAKE_CU cuCtxSetLimit(int, size_t) { return SUCCESS; }
FAKE_CU cuCtxGetLimit(size_t* out, int) {
    *out = 0;
    return SUCCESS;
}
FAKE_CU cuCtxSetCacheConfig(int) { return SUCCESS; }
FAKE_CU cuCtxGetCacheConfig(int* out) {
    *out = 0;
    return SUCCESS;
}
FAKE_CU cuProfilerStart() { return SUCCESS; }
FAKE_CU cuProfilerStop() { return SUCCESS; }
