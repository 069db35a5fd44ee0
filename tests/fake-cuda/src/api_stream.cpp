// Streams, events, and graphs captured from streams.
#include "driver.hpp"

using namespace fake;

// An event's handle holds a share of it: work under way may outlive the handle.
struct EventHandle {
    SharedEvent event;
};

static SharedEvent event_of(void* handle) {
    std::lock_guard<std::mutex> guard(state().lock);
    return state().events.count(handle) ? static_cast<EventHandle*>(handle)->event : nullptr;
}

// --- Streams ---

FAKE_CU cuStreamCreateWithPriority(void** out, unsigned flags, int) {
    FAKE_NEED_DEVICE();
    Stream* stream = new Stream;
    stream->device = device;
    stream->blocking = !(flags & 1);
    std::lock_guard<std::mutex> guard(state().lock);
    state().streams.insert(stream);
    *out = stream;
    return SUCCESS;
}
FAKE_CU cuStreamCreate(void** out, unsigned flags) {
    return cuStreamCreateWithPriority(out, flags, 0);
}

FAKE_CU cuStreamDestroy_v2(void* handle) {
    FAKE_NEED_DEVICE();
    Stream* stream = stream_of(handle);
    if (!stream || stream == device->null_stream) return INVALID_HANDLE;
    drain(stream);
    std::lock_guard<std::mutex> guard(state().lock);
    state().streams.erase(stream);
    delete stream;
    return SUCCESS;
}

FAKE_CU cuStreamSynchronize(void* handle) {
    FAKE_NEED_DEVICE();
    Stream* stream = stream_of(handle);
    if (!stream) return INVALID_HANDLE;
    if (stream->capture) return CAPTURE_UNSUPPORTED;
    drain(stream);
    // Another host thread may be running this stream's work.
    { std::lock_guard<std::mutex> guard(stream->running); }
    return check(stream->device);
}

FAKE_CU cuStreamQuery(void* handle) {
    FAKE_NEED_DEVICE();
    Stream* stream = stream_of(handle);
    if (!stream) return INVALID_HANDLE;
    progress();
    if (int code = check(stream->device)) return code;
    return stream->queue.empty() ? SUCCESS : NOT_READY;
}

FAKE_CU cuStreamGetCtx(void* handle, void** out) {
    Stream* stream = stream_of(handle);
    if (!stream) return INVALID_HANDLE;
    *out = stream->device;
    return SUCCESS;
}

FAKE_CU cuLaunchHostFunc(void* handle, void (*function)(void*), void* data) {
    FAKE_NEED_DEVICE();
    Stream* stream = stream_of(handle);
    if (!stream) return INVALID_HANDLE;
    Op op;
    op.run = [=] { function(data); };
    submit(stream, std::move(op));
    return SUCCESS;
}

// --- Events ---

FAKE_CU cuEventCreate(void** out, unsigned flags) {
    FAKE_NEED_DEVICE();
    EventHandle* handle = new EventHandle{std::make_shared<Event>()};
    handle->event->timed = !(flags & 2);
    std::lock_guard<std::mutex> guard(state().lock);
    state().events.insert(handle);
    *out = handle;
    return SUCCESS;
}

FAKE_CU cuEventDestroy_v2(void* handle) {
    FAKE_NEED_DEVICE();
    std::lock_guard<std::mutex> guard(state().lock);
    if (!state().events.erase(handle)) return INVALID_HANDLE;
    delete static_cast<EventHandle*>(handle);
    return SUCCESS;
}

FAKE_CU cuEventRecord(void* handle, void* stream_handle) {
    FAKE_NEED_DEVICE();
    const SharedEvent event = event_of(handle);
    Stream* stream = stream_of(stream_handle);
    if (!event || !stream) return INVALID_HANDLE;
    event->capture = stream->capture;
    // Work that was captured runs in its captured order: the graph needs no events.
    if (stream->capture) return SUCCESS;
    Op op;
    op.record = event;
    op.generation = ++event->recorded;
    submit(stream, std::move(op));
    return SUCCESS;
}
FAKE_CU cuEventRecordWithFlags(void* event, void* stream, unsigned) {
    return cuEventRecord(event, stream);
}

FAKE_CU cuStreamWaitEvent(void* stream_handle, void* handle, unsigned) {
    FAKE_NEED_DEVICE();
    const SharedEvent event = event_of(handle);
    Stream* stream = stream_of(stream_handle);
    if (!event || !stream) return INVALID_HANDLE;
    if (event->capture) {
        stream->capture = event->capture;
        return SUCCESS;
    }
    Op op;
    op.wait = event;
    op.generation = event->recorded;
    submit(stream, std::move(op));
    return SUCCESS;
}

FAKE_CU cuEventSynchronize(void* handle) {
    FAKE_NEED_DEVICE();
    const SharedEvent event = event_of(handle);
    if (!event) return INVALID_HANDLE;
    drain(event);
    return check(device);
}

FAKE_CU cuEventQuery(void* handle) {
    FAKE_NEED_DEVICE();
    const SharedEvent event = event_of(handle);
    if (!event) return INVALID_HANDLE;
    progress();
    if (int code = check(device)) return code;
    return event->completed >= event->recorded ? SUCCESS : NOT_READY;
}

FAKE_CU cuEventElapsedTime_v2(float* milliseconds, void* first, void* last) {
    FAKE_NEED_DEVICE();
    const SharedEvent a = event_of(first), b = event_of(last);
    if (!a || !b || !a->timed || !b->timed || !a->recorded || !b->recorded) return INVALID_HANDLE;
    if (a->completed < a->recorded || b->completed < b->recorded) return NOT_READY;
    *milliseconds = (float)((b->seconds - a->seconds) * 1e3);
    return SUCCESS;
}
FAKE_CU cuEventElapsedTime(float* milliseconds, void* first, void* last) {
    return cuEventElapsedTime_v2(milliseconds, first, last);
}

// --- Graphs ---

FAKE_CU cuStreamBeginCapture_v2(void* handle, int) {
    FAKE_NEED_DEVICE();
    Stream* stream = stream_of(handle);
    if (!stream || stream == device->null_stream) return INVALID_HANDLE;
    if (stream->capture) return CAPTURE_UNSUPPORTED;
    stream->capture = new Graph;
    stream->capture->origin = stream;
    return SUCCESS;
}

FAKE_CU cuStreamEndCapture(void* handle, void** out) {
    FAKE_NEED_DEVICE();
    Stream* stream = stream_of(handle);
    if (!stream) return INVALID_HANDLE;
    Graph* graph = stream->capture;
    if (!graph || graph->origin != stream) return CAPTURE_UNMATCHED;
    std::lock_guard<std::mutex> guard(state().lock);
    for (void* other : state().streams) {
        Stream* joined = static_cast<Stream*>(other);
        if (joined->capture == graph) joined->capture = nullptr;
    }
    for (void* other : state().events) {
        const SharedEvent& event = static_cast<EventHandle*>(other)->event;
        if (event->capture == graph) event->capture = nullptr;
    }
    state().graphs.insert(graph);
    *out = graph;
    return SUCCESS;
}

FAKE_CU cuStreamIsCapturing(void* handle, int* out) {
    Stream* stream = stream_of(handle);
    if (!stream) return INVALID_HANDLE;
    *out = stream->capture != nullptr;
    return SUCCESS;
}

static Graph* graph_of(void* handle) {
    std::lock_guard<std::mutex> guard(state().lock);
    return state().graphs.count(handle) ? static_cast<Graph*>(handle) : nullptr;
}

FAKE_CU cuGraphInstantiateWithFlags(void** out, void* handle, u64) {
    FAKE_NEED_DEVICE();
    const Graph* graph = graph_of(handle);
    if (!graph) return INVALID_HANDLE;
    Graph* made = new Graph(*graph);
    std::lock_guard<std::mutex> guard(state().lock);
    state().graphs.insert(made);
    *out = made;
    return SUCCESS;
}

FAKE_CU cuGraphLaunch(void* handle, void* stream_handle) {
    FAKE_NEED_DEVICE();
    const Graph* graph = graph_of(handle);
    Stream* stream = stream_of(stream_handle);
    if (!graph || !stream) return INVALID_HANDLE;
    for (const Op& op : graph->ops) {
        if (op.kernel) ++stream->device->launches;
        submit(stream, op);
    }
    return SUCCESS;
}
FAKE_CU cuGraphUpload(void* handle, void*) { return graph_of(handle) ? SUCCESS : INVALID_HANDLE; }

FAKE_CU cuGraphDestroy(void* handle) {
    std::lock_guard<std::mutex> guard(state().lock);
    if (!state().graphs.erase(handle)) return INVALID_HANDLE;
    delete static_cast<Graph*>(handle);
    return SUCCESS;
}
FAKE_CU cuGraphExecDestroy(void* handle) { return cuGraphDestroy(handle); }
