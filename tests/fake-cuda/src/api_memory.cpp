// Allocation, copies and fills. Ranges are checked when a call is made and again when it is done.
#include <string.h>

#include "driver.hpp"

using namespace fake;

FAKE_CU cuMemGetInfo_v2(size_t* free, size_t* total) {
    FAKE_NEED_DEVICE();
    const u64 all = memory_of(device), used = device->allocated;
    *total = all;
    *free = used < all ? all - used : 0;
    return SUCCESS;
}

FAKE_CU cuMemAlloc_v2(u64* out, size_t bytes) {
    FAKE_NEED_DEVICE();
    return allocate(device, bytes, out);
}

FAKE_CU cuMemFree_v2(u64 at) {
    FAKE_NEED_DEVICE();
    if (at == 0) return SUCCESS;
    drain(device);
    return release(at, false);
}

FAKE_CU cuMemAllocAsync(u64* out, size_t bytes, void* handle) {
    FAKE_NEED_DEVICE();
    Stream* stream = stream_of(handle);
    if (!stream) return INVALID_HANDLE;
    if (stream->capture) return CAPTURE_UNSUPPORTED;
    return allocate(stream->device, bytes, out);
}

FAKE_CU cuMemFreeAsync(u64 at, void* handle) {
    FAKE_NEED_DEVICE();
    Stream* stream = stream_of(handle);
    if (!stream) return INVALID_HANDLE;
    if (stream->capture) return CAPTURE_UNSUPPORTED;
    if (check_range(device, at, 0, "cuMemFreeAsync")) return INVALID_VALUE;
    Op op;
    op.run = [at] { release(at, false); };
    submit(stream, std::move(op));
    return SUCCESS;
}

FAKE_CU cuMemHostAlloc(void** out, size_t bytes, unsigned) {
    FAKE_NEED_DEVICE();
    return allocate_host(bytes, out);
}
FAKE_CU cuMemAllocHost_v2(void** out, size_t bytes) { return cuMemHostAlloc(out, bytes, 0); }
FAKE_CU cuMemHostGetDevicePointer_v2(u64*, void*, unsigned) { return NOT_SUPPORTED; }
FAKE_CU cuMemHostGetFlags(unsigned* out, void*) {
    *out = 0;
    return SUCCESS;
}
FAKE_CU cuMemFreeHost(void* at) {
    FAKE_NEED_DEVICE();
    drain(device);
    return release(reinterpret_cast<u64>(at), true);
}

// --- Copies ---

static void* host_side(u64 at) { return reinterpret_cast<void*>(at); }

static int to_device(u64 to, const void* from, size_t bytes, Stream* stream) {
    Device* device = stream->device;
    if (bytes == 0) return SUCCESS;
    if (int code = check_range(device, to, bytes, "a copy to the device")) return code;
    // Ordinary memory is read before the call returns, pinned memory when the copy is made.
    std::shared_ptr<std::vector<u8>> staged;
    if (state().settings.lazy && !is_pinned(from) && !stream->capture) {
        const u8* bytes_from = static_cast<const u8*>(from);
        staged = std::make_shared<std::vector<u8>>(bytes_from, bytes_from + bytes);
    }
    Op op;
    op.run = [=] {
        if (check_range(device, to, bytes, "a copy to the device")) return;
        memcpy(host_side(to), staged ? staged->data() : from, bytes);
        device->copied += bytes;
    };
    submit(stream, std::move(op));
    return SUCCESS;
}

static int to_host(void* to, u64 from, size_t bytes, Stream* stream) {
    Device* device = stream->device;
    if (bytes == 0) return SUCCESS;
    if (int code = check_range(device, from, bytes, "a copy from the device")) return code;
    Op op;
    op.run = [=] {
        if (check_range(device, from, bytes, "a copy from the device")) return;
        memcpy(to, host_side(from), bytes);
        device->copied += bytes;
    };
    const bool capturing = stream->capture != nullptr;
    submit(stream, std::move(op));
    // The driver waits for a copy into ordinary memory.
    if (!capturing && !is_pinned(to)) drain(stream);
    return SUCCESS;
}

static int within_device(u64 to, u64 from, size_t bytes, Stream* stream) {
    Device* device = stream->device;
    if (bytes == 0) return SUCCESS;
    if (int code = check_range(device, to, bytes, "a copy's destination")) return code;
    if (int code = check_range(device, from, bytes, "a copy's source")) return code;
    Op op;
    op.run = [=] {
        if (check_range(device, to, bytes, "a copy's destination")) return;
        if (check_range(device, from, bytes, "a copy's source")) return;
        memmove(host_side(to), host_side(from), bytes);
    };
    submit(stream, std::move(op));
    return SUCCESS;
}

FAKE_CU cuMemcpyHtoDAsync_v2(u64 to, const void* from, size_t bytes, void* handle) {
    FAKE_NEED_DEVICE();
    Stream* stream = stream_of(handle);
    return stream ? to_device(to, from, bytes, stream) : INVALID_HANDLE;
}
FAKE_CU cuMemcpyHtoD_v2(u64 to, const void* from, size_t bytes) {
    FAKE_NEED_DEVICE();
    const int code = to_device(to, from, bytes, device->null_stream);
    return code ? code : check(device);
}
FAKE_CU cuMemcpyDtoHAsync_v2(void* to, u64 from, size_t bytes, void* handle) {
    FAKE_NEED_DEVICE();
    Stream* stream = stream_of(handle);
    return stream ? to_host(to, from, bytes, stream) : INVALID_HANDLE;
}
FAKE_CU cuMemcpyDtoH_v2(void* to, u64 from, size_t bytes) {
    FAKE_NEED_DEVICE();
    const int code = to_host(to, from, bytes, device->null_stream);
    return code ? code : check(device);
}
FAKE_CU cuMemcpyDtoDAsync_v2(u64 to, u64 from, size_t bytes, void* handle) {
    FAKE_NEED_DEVICE();
    Stream* stream = stream_of(handle);
    return stream ? within_device(to, from, bytes, stream) : INVALID_HANDLE;
}
FAKE_CU cuMemcpyDtoD_v2(u64 to, u64 from, size_t bytes) {
    FAKE_NEED_DEVICE();
    return within_device(to, from, bytes, device->null_stream);
}
FAKE_CU cuMemcpyPeerAsync(u64 to, void*, u64 from, void*, size_t bytes, void* handle) {
    return cuMemcpyDtoDAsync_v2(to, from, bytes, handle);
}

// --- Fills ---

template <class T> static int fill(u64 at, T value, size_t count, Stream* stream) {
    if (!stream) return INVALID_HANDLE;
    if (count == 0) return SUCCESS;
    Device* device = stream->device;
    if (int code = check_range(device, at, count * sizeof(T), "a fill")) return code;
    Op op;
    op.run = [=] {
        if (check_range(device, at, count * sizeof(T), "a fill")) return;
        T* to = static_cast<T*>(host_side(at));
        for (size_t i = 0; i < count; ++i) to[i] = value;
    };
    submit(stream, std::move(op));
    return SUCCESS;
}

FAKE_CU cuMemsetD8Async(u64 at, u8 value, size_t count, void* handle) {
    FAKE_NEED_DEVICE();
    return fill(at, value, count, stream_of(handle));
}
FAKE_CU cuMemsetD8_v2(u64 at, u8 value, size_t count) {
    FAKE_NEED_DEVICE();
    return fill(at, value, count, device->null_stream);
}
FAKE_CU cuMemsetD32Async(u64 at, u32 value, size_t count, void* handle) {
    FAKE_NEED_DEVICE();
    return fill(at, value, count, stream_of(handle));
}
FAKE_CU cuMemsetD32_v2(u64 at, u32 value, size_t count) {
    FAKE_NEED_DEVICE();
    return fill(at, value, count, device->null_stream);
}

// --- Pools: every device has the one that cuMemAllocAsync uses, and it keeps nothing ---

FAKE_CU cuDeviceGetDefaultMemPool(void** out, int ordinal) {
    if (ordinal < 0 || ordinal >= state().settings.devices) return INVALID_DEVICE;
    *out = &state().devices[ordinal].allocated;
    return SUCCESS;
}
FAKE_CU cuDeviceGetMemPool(void** out, int ordinal) {
    return cuDeviceGetDefaultMemPool(out, ordinal);
}
FAKE_CU cuMemPoolSetAttribute(void*, int, void*) { return SUCCESS; }
FAKE_CU cuMemPoolGetAttribute(void*, int, void* out) {
    memset(out, 0, 8);
    return SUCCESS;
}
FAKE_CU cuMemPoolTrimTo(void*, size_t) { return SUCCESS; }
