//! The CUDA driver: the one module that calls cudarc's bindings. Every call here goes to a symbol of
//! [`SYMBOLS`], which [`super::probe()`] has found; before that, none may be made.
#![expect(unsafe_code, reason = "a C library")]

mod module;
mod stream;

pub(super) use module::{Function, Module, TensorMap, tensor_map};
pub(super) use stream::{Event, Pinned, Stream};

use std::cell::Cell;
use std::ffi::{CStr, CString};

use cudarc::driver::sys::{self, CUresult};

use crate::error::Error;

/// What the product calls. The probe looks all of them up first: cudarc panics at the first use of
/// one that an old driver does not have.
pub(super) const SYMBOLS: &[&str] = &[
    "cuInit",
    "cuDriverGetVersion",
    "cuGetErrorName",
    "cuGetErrorString",
    "cuDeviceGetCount",
    "cuDeviceGet",
    "cuDeviceGetName",
    "cuDeviceGetAttribute",
    "cuDeviceGetUuid_v2",
    "cuDeviceTotalMem_v2",
    "cuDevicePrimaryCtxRetain",
    "cuDevicePrimaryCtxRelease_v2",
    "cuCtxSetCurrent",
    "cuMemGetInfo_v2",
    "cuMemAlloc_v2",
    "cuMemFree_v2",
    "cuMemHostAlloc",
    "cuMemFreeHost",
    "cuMemcpyDtoH_v2",
    "cuMemcpyHtoDAsync_v2",
    "cuMemcpyDtoHAsync_v2",
    "cuMemcpyDtoDAsync_v2",
    "cuMemsetD32Async",
    "cuStreamCreate",
    "cuStreamDestroy_v2",
    "cuStreamSynchronize",
    "cuStreamWaitEvent",
    "cuEventCreate",
    "cuEventRecord",
    "cuEventSynchronize",
    "cuEventDestroy_v2",
    "cuModuleLoadData",
    "cuModuleUnload",
    "cuModuleGetFunction",
    "cuModuleGetGlobal_v2",
    "cuFuncSetAttribute",
    "cuLaunchKernel",
    "cuTensorMapEncodeTiled",
];

/// An address in a device's memory.
#[repr(transparent)]
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, bytemuck::Pod, bytemuck::Zeroable,
)]
pub(in crate::device) struct Ptr(pub(super) u64);

impl Ptr {
    /// No address.
    pub(in crate::device) const NULL: Self = Self(0);

    /// So many bytes further on.
    #[must_use]
    pub(in crate::device) fn offset(self, bytes: usize) -> Self {
        Self(self.0 + bytes as u64)
    }
}

/// What the driver answered: its number and its own words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Failure {
    pub(super) call: &'static str,
    pub(super) code: u32,
}

impl Failure {
    pub(super) fn is_memory(&self) -> bool {
        self.code == CUresult::CUDA_ERROR_OUT_OF_MEMORY as u32
    }

    /// As a failure of this device. Memory that others hold is no fault of it.
    pub(super) fn of_device(&self, device: &str) -> Error {
        let (device, what) = (device.to_owned(), self.to_string());
        match self.is_memory() {
            true => Error::DeviceMemory { device, what },
            false => Error::Device { device, what },
        }
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} failed: {}", self.call, error_name(self.code))
    }
}

pub(super) type Answer<T> = Result<T, Failure>;

/// Calls a function of the driver; its name goes into the failure.
macro_rules! call {
    ($name:ident($($arg:expr),* $(,)?)) => {{
        let result = sys::$name($($arg),*);
        if result == CUresult::CUDA_SUCCESS {
            Ok(())
        } else {
            Err(Failure { call: stringify!($name), code: result as u32 })
        }
    }};
}
use call;

/// Whether the library is there, and which of [`SYMBOLS`] it lacks.
pub(super) fn missing_symbols() -> Option<Vec<&'static str>> {
    // SAFETY: opening libcuda runs no code but its own constructors.
    if !unsafe { sys::is_culib_present() } {
        return None;
    }
    // SAFETY: it is there; the symbols are looked up and not called.
    let library = unsafe { sys::culib() };
    let lacks = |name: &&str| {
        let name = CString::new(*name).expect("a name without NUL");
        // SAFETY: as above.
        unsafe { library.get::<*const ()>(name.as_bytes_with_nul()) }.is_err()
    };
    Some(SYMBOLS.iter().copied().filter(lacks).collect())
}

/// "CUDA_ERROR_NO_DEVICE (100): no CUDA-capable device is detected".
pub(super) fn error_name(code: u32) -> String {
    let mut name = std::ptr::null();
    let mut text = std::ptr::null();
    // SAFETY: CUresult is a C enum of 32 bits; a code that came from the driver is one of its own,
    // and both answers are static strings or null.
    unsafe {
        let raw: CUresult = std::mem::transmute::<u32, CUresult>(code);
        let _ = sys::cuGetErrorName(raw, &raw mut name);
        let _ = sys::cuGetErrorString(raw, &raw mut text);
    }
    let read = |string: *const std::ffi::c_char| {
        if string.is_null() {
            return "unknown".to_owned();
        }
        // SAFETY: not null, and a static string of the driver.
        unsafe { CStr::from_ptr(string) }.to_string_lossy().into_owned()
    };
    format!("{} ({code}): {}", read(name), read(text))
}

/// Starts the driver; needed once per process, harmless again.
pub(super) fn init() -> Answer<()> {
    // SAFETY: the probe has found the symbol.
    unsafe { call!(cuInit(0)) }
}

/// 13000 for CUDA 13.0.
pub(super) fn version() -> Answer<i32> {
    let mut version = 0;
    // SAFETY: the pointer is to an integer of this frame.
    unsafe { call!(cuDriverGetVersion(&raw mut version)) }?;
    Ok(version)
}

pub(super) fn device_count() -> Answer<u32> {
    let mut count = 0;
    // SAFETY: as above.
    unsafe { call!(cuDeviceGetCount(&raw mut count)) }?;
    Ok(u32::try_from(count).unwrap_or(0))
}

/// A device by its number.
pub(super) fn device(index: u32) -> Answer<sys::CUdevice> {
    let mut device = 0;
    let index = i32::try_from(index).unwrap_or(i32::MAX);
    // SAFETY: as above; a number that is none is an error of the driver.
    unsafe { call!(cuDeviceGet(&raw mut device, index)) }?;
    Ok(device)
}

pub(super) fn device_name(device: sys::CUdevice) -> Answer<String> {
    let mut name = [0_u8; 256];
    // SAFETY: the driver writes at most 256 bytes, NUL included.
    unsafe { call!(cuDeviceGetName(name.as_mut_ptr().cast(), 256, device)) }?;
    let name = CStr::from_bytes_until_nul(&name).map(CStr::to_string_lossy);
    Ok(name.map_or_else(|_| "?".to_owned(), std::borrow::Cow::into_owned))
}

/// As `nvidia-smi -L` prints it.
pub(super) fn device_uuid(device: sys::CUdevice) -> Answer<String> {
    let mut uuid = sys::CUuuid { bytes: [0; 16] };
    // SAFETY: the pointer is to a struct of this frame.
    unsafe { call!(cuDeviceGetUuid_v2(&raw mut uuid, device)) }?;
    let hex: Vec<String> =
        uuid.bytes.iter().map(|byte| format!("{:02x}", byte.to_ne_bytes()[0])).collect();
    let part = |range: std::ops::Range<usize>| hex[range].concat();
    Ok(format!("GPU-{}-{}-{}-{}-{}", part(0..4), part(4..6), part(6..8), part(8..10), part(10..16)))
}

pub(super) fn device_memory(device: sys::CUdevice) -> Answer<u64> {
    let mut bytes = 0;
    // SAFETY: the pointer is to an integer of this frame.
    unsafe { call!(cuDeviceTotalMem_v2(&raw mut bytes, device)) }?;
    Ok(bytes as u64)
}

pub(super) fn device_attribute(
    device: sys::CUdevice,
    attribute: sys::CUdevice_attribute,
) -> Answer<u32> {
    let mut value = 0;
    // SAFETY: as above.
    unsafe { call!(cuDeviceGetAttribute(&raw mut value, attribute, device)) }?;
    Ok(u32::try_from(value).unwrap_or(0))
}

/// Compute capability: (9, 0) for Hopper.
pub(super) fn device_arch(device: sys::CUdevice) -> Answer<(u32, u32)> {
    use sys::CUdevice_attribute_enum as Attribute;
    let major = Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR;
    let minor = Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR;
    Ok((device_attribute(device, major)?, device_attribute(device, minor)?))
}

/// Multiprocessors of a device.
pub(super) fn processors(device: sys::CUdevice) -> Answer<u32> {
    use sys::CUdevice_attribute_enum as Attribute;
    device_attribute(device, Attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)
}

/// Most dynamic shared memory that a block may ask for.
pub(super) fn shared_memory(device: sys::CUdevice) -> Answer<u32> {
    use sys::CUdevice_attribute_enum as Attribute;
    device_attribute(device, Attribute::CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN)
}

/// Reads a module's variable.
pub(super) fn read_now(from: Ptr, to: &mut [u8]) -> Answer<()> {
    // SAFETY: the destination has as many bytes; an address that is none is the driver's error.
    unsafe { call!(cuMemcpyDtoH_v2(to.as_mut_ptr().cast(), from.0, to.len())) }
}

/// The primary context of a device; released when dropped.
#[derive(Debug)]
pub(super) struct Primary {
    device: sys::CUdevice,
    raw: sys::CUcontext,
}

// SAFETY: the driver's handles may be used from any thread; the current context is set per thread.
unsafe impl Send for Primary {}
// SAFETY: as above.
unsafe impl Sync for Primary {}

thread_local! {
    static CURRENT: Cell<sys::CUcontext> = const { Cell::new(std::ptr::null_mut()) };
}

impl Primary {
    pub(super) fn retain(device: sys::CUdevice) -> Answer<Self> {
        let mut raw = std::ptr::null_mut();
        // SAFETY: the pointer is to a handle of this frame.
        unsafe { call!(cuDevicePrimaryCtxRetain(&raw mut raw, device)) }?;
        Ok(Self { device, raw })
    }

    /// Makes it the context of this thread's next calls.
    pub(super) fn enter(&self) -> Answer<()> {
        if CURRENT.get() == self.raw {
            return Ok(());
        }
        // SAFETY: the context is retained.
        unsafe { call!(cuCtxSetCurrent(self.raw)) }?;
        CURRENT.set(self.raw);
        Ok(())
    }
}

impl Drop for Primary {
    fn drop(&mut self) {
        CURRENT.set(std::ptr::null_mut());
        // SAFETY: retained once, released once.
        let _ = unsafe { call!(cuDevicePrimaryCtxRelease_v2(self.device)) };
    }
}

/// Free and total bytes of the current device.
pub(super) fn memory_info() -> Answer<(u64, u64)> {
    let (mut free, mut total) = (0, 0);
    // SAFETY: the pointers are to integers of this frame.
    unsafe { call!(cuMemGetInfo_v2(&raw mut free, &raw mut total)) }?;
    Ok((free as u64, total as u64))
}

pub(super) fn allocate(bytes: usize) -> Answer<Ptr> {
    let mut address = 0;
    // SAFETY: as above.
    unsafe { call!(cuMemAlloc_v2(&raw mut address, bytes.max(1))) }?;
    Ok(Ptr(address))
}

/// # Safety
/// `memory` came from [`allocate`] in this context, and nothing under way uses it.
pub(super) unsafe fn free(memory: Ptr) -> Answer<()> {
    // SAFETY: as the caller promises.
    unsafe { call!(cuMemFree_v2(memory.0)) }
}
