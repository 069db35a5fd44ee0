//! Streams, events, and the host memory that copies beside the threads need.
#![expect(unsafe_code, reason = "a C library")]

use std::ffi::c_void;

use cudarc::driver::sys::{self, CUresult};

use super::{Answer, Failure, Function, Ptr, call};

/// Page-locked memory of the host, which copies that run beside the threads need.
#[derive(Debug)]
pub(in super::super) struct Pinned {
    start: *mut u8,
    len: usize,
}

// SAFETY: plain memory with one owner.
unsafe impl Send for Pinned {}

impl Pinned {
    pub(in super::super) fn new(len: usize) -> Answer<Self> {
        let mut start: *mut c_void = std::ptr::null_mut();
        // SAFETY: the pointer is to a pointer of this frame; flags 0 is cached memory.
        unsafe { call!(cuMemHostAlloc(&raw mut start, len.max(1), 0)) }?;
        Ok(Self { start: start.cast(), len })
    }

    pub(in super::super) fn len(&self) -> usize {
        self.len
    }

    pub(in super::super) fn bytes(&self) -> &[u8] {
        // SAFETY: `len` bytes from `start` are ours; they are written through `bytes_mut` only,
        // and by downloads that the owner has waited for.
        unsafe { std::slice::from_raw_parts(self.start, self.len) }
    }

    pub(in super::super) fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above, and borrowed alone.
        unsafe { std::slice::from_raw_parts_mut(self.start, self.len) }
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        // SAFETY: it came from cuMemHostAlloc; the owner has waited for the copies.
        let _ = unsafe { call!(cuMemFreeHost(self.start.cast())) };
    }
}

/// A queue of work in order.
#[derive(Debug)]
pub(in super::super) struct Stream(sys::CUstream);

// SAFETY: as for `Primary`.
unsafe impl Send for Stream {}
// SAFETY: as for `Primary`.
unsafe impl Sync for Stream {}

impl Stream {
    pub(in super::super) fn new() -> Answer<Self> {
        let mut raw = std::ptr::null_mut();
        let flags = sys::CUstream_flags::CU_STREAM_NON_BLOCKING as u32;
        // SAFETY: the pointer is to a handle of this frame.
        unsafe { call!(cuStreamCreate(&raw mut raw, flags)) }?;
        Ok(Self(raw))
    }

    /// Until everything asked of it is done.
    pub(in super::super) fn wait(&self) -> Answer<()> {
        // SAFETY: the stream is alive.
        unsafe { call!(cuStreamSynchronize(self.0)) }
    }

    /// Later work of this stream waits for `event`.
    pub(in super::super) fn wait_for(&self, event: &Event) -> Answer<()> {
        // SAFETY: both are alive.
        unsafe { call!(cuStreamWaitEvent(self.0, event.0, 0)) }
    }

    /// # Safety
    /// `to` has room for the bytes on this device; `from` stays as it is until the copy is done.
    pub(in super::super) unsafe fn upload(&self, from: &[u8], to: Ptr) -> Answer<()> {
        let start = from.as_ptr().cast();
        // SAFETY: as the caller promises.
        unsafe { call!(cuMemcpyHtoDAsync_v2(to.0, start, from.len(), self.0)) }
    }

    /// # Safety
    /// `from` holds as many bytes; `to` is not touched until the copy is done.
    pub(in super::super) unsafe fn download(&self, from: Ptr, to: &mut [u8]) -> Answer<()> {
        let start = to.as_mut_ptr().cast();
        // SAFETY: as the caller promises.
        unsafe { call!(cuMemcpyDtoHAsync_v2(start, from.0, to.len(), self.0)) }
    }

    /// # Safety
    /// Both hold `bytes` bytes and do not overlap.
    pub(in super::super) unsafe fn copy(&self, from: Ptr, to: Ptr, bytes: usize) -> Answer<()> {
        // SAFETY: as the caller promises.
        unsafe { call!(cuMemcpyDtoDAsync_v2(to.0, from.0, bytes, self.0)) }
    }

    /// # Safety
    /// `to` holds `words` words of 4 bytes.
    pub(in super::super) unsafe fn fill_words(
        &self,
        to: Ptr,
        value: u32,
        words: usize,
    ) -> Answer<()> {
        // SAFETY: as the caller promises.
        unsafe { call!(cuMemsetD32Async(to.0, value, words, self.0)) }
    }

    /// # Safety
    /// `args` is the struct the kernel takes, and all it points to is there until the kernel ends.
    pub(in super::super) unsafe fn launch<A>(
        &self,
        function: &Function,
        (grid, threads, shared): ([u32; 3], u32, u32),
        args: &A,
    ) -> Answer<()> {
        let mut arguments = [std::ptr::from_ref(args).cast_mut().cast::<c_void>()];
        let [x, y, z] = grid;
        let (raw, stream) = (function.0, self.0);
        let arguments = arguments.as_mut_ptr();
        let none = std::ptr::null_mut();
        // SAFETY: as the caller promises; the driver copies the arguments before it returns.
        unsafe {
            call!(cuLaunchKernel(raw, x, y, z, threads, 1, 1, shared, stream, arguments, none))
        }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        // SAFETY: created once, destroyed once; the driver finishes its work first.
        let _ = unsafe { call!(cuStreamDestroy_v2(self.0)) };
    }
}

/// A point in a stream.
#[derive(Debug)]
pub(in super::super) struct Event(sys::CUevent);

// SAFETY: as for `Primary`.
unsafe impl Send for Event {}
// SAFETY: as for `Primary`.
unsafe impl Sync for Event {}

impl Event {
    pub(in super::super) fn new() -> Answer<Self> {
        let mut raw = std::ptr::null_mut();
        let flags = sys::CUevent_flags::CU_EVENT_DISABLE_TIMING as u32;
        // SAFETY: the pointer is to a handle of this frame.
        unsafe { call!(cuEventCreate(&raw mut raw, flags)) }?;
        Ok(Self(raw))
    }

    pub(in super::super) fn record(&self, stream: &Stream) -> Answer<()> {
        // SAFETY: both are alive.
        unsafe { call!(cuEventRecord(self.0, stream.0)) }
    }

    /// Until everything before it is done; at once if it was never recorded.
    pub(in super::super) fn wait(&self) -> Answer<()> {
        // SAFETY: the event is alive.
        unsafe { call!(cuEventSynchronize(self.0)) }
    }
}

impl Drop for Event {
    fn drop(&mut self) {
        // SAFETY: created once, destroyed once.
        let _ = unsafe { call!(cuEventDestroy_v2(self.0)) };
    }
}
