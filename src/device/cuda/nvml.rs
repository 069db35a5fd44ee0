//! What GPUs are doing, as their driver says by NVML (`libnvidia-ml.so.1`): load, memory, power,
//! energy. For people to look at: whatever is missing, from the library to a single sensor, is
//! `None`, and nothing depends on it. Names and layouts are those of `nvml.h` (NVML API reference).
#![expect(unsafe_code, reason = "a C library")]

use std::ffi::{CString, c_char, c_int, c_uint, c_ulonglong, c_void};
use std::mem::MaybeUninit;
use std::path::Path;

use libloading::Library;

/// The library of the driver.
pub const LIBRARY: &str = "libnvidia-ml.so.1";

/// `nvmlReturn_t` of a call that did what it was asked.
const SUCCESS: c_int = 0;
/// `NVML_TEMPERATURE_GPU`.
const ON_DIE: c_uint = 0;
/// `NVML_CLOCK_SM`.
const SM: c_uint = 1;
/// NVML counts milliwatts and millijoules.
const MILLI: f64 = 1e-3;

/// `nvmlDevice_t`.
type Handle = *mut c_void;

/// `nvmlUtilization_t`: percent of the last sampling period.
#[repr(C)]
struct Utilization {
    gpu: c_uint,
    memory: c_uint,
}

/// `nvmlMemory_t`, in bytes.
#[repr(C)]
struct Memory {
    total: c_ulonglong,
    free: c_ulonglong,
    used: c_ulonglong,
}

/// A GPU at one moment; `None` for what the driver does not say.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct GpuState {
    /// Percent of the last sampling period in which a kernel ran.
    pub utilisation: Option<u32>,
    /// Bytes of memory in use, by all processes.
    pub memory: Option<u64>,
    /// Watts.
    pub power: Option<f64>,
    /// Joules since the driver was loaded.
    pub energy: Option<f64>,
    /// Degrees Celsius.
    pub temperature: Option<u32>,
    /// Clock of the multiprocessors, MHz.
    pub clock: Option<u32>,
}

/// The library, started, with the devices that it is asked about.
pub struct Nvml {
    library: Library,
    devices: Vec<Option<Handle>>,
}

// SAFETY: NVML may be called from any thread (API reference, "Thread safety"), and its handles are
// no pointers into this process's own data.
unsafe impl Send for Nvml {}

impl std::fmt::Debug for Nvml {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Nvml").field("devices", &self.devices.len()).finish_non_exhaustive()
    }
}

impl Nvml {
    /// Starts the library at `path` ([`LIBRARY`], for which the system looks) for the devices with
    /// these UUIDs, as `nvidia-smi -L` prints them. None where there is no such library or it does
    /// not start.
    pub fn open(path: impl AsRef<Path>, uuids: &[&str]) -> Option<Self> {
        // SAFETY: the driver's library runs no code on loading but its own constructors.
        let library = unsafe { Library::new(path.as_ref().as_os_str()) }.ok()?;
        let mut nvml = Self { library, devices: Vec::new() };
        // SAFETY: this is the signature of nvml.h; the symbol is called while the library is loaded.
        let started = unsafe {
            let start = nvml.library.get::<unsafe extern "C" fn() -> c_int>(b"nvmlInit_v2\0");
            start.is_ok_and(|start| start() == SUCCESS)
        };
        if !started {
            return None;
        }
        nvml.devices = uuids.iter().map(|uuid| nvml.handle(uuid)).collect();
        Some(nvml)
    }

    fn handle(&self, uuid: &str) -> Option<Handle> {
        let uuid = CString::new(uuid).ok()?;
        let name = b"nvmlDeviceGetHandleByUUID\0";
        type Find = unsafe extern "C" fn(*const c_char, *mut Handle) -> c_int;
        let mut handle = std::ptr::null_mut();
        // SAFETY: as nvml.h declares it; a text that ends with NUL, and a handle of this frame.
        let code = unsafe {
            let find = self.library.get::<Find>(name).ok()?;
            find(uuid.as_ptr(), &raw mut handle)
        };
        (code == SUCCESS).then_some(handle)
    }

    /// What each device does now, in the order of the UUIDs.
    pub fn read(&self) -> Vec<GpuState> {
        let state = |device: &Option<Handle>| device.map(|device| self.state(device));
        self.devices.iter().map(|device| state(device).unwrap_or_default()).collect()
    }

    fn state(&self, device: Handle) -> GpuState {
        let utilisation = self.ask::<Utilization>(b"nvmlDeviceGetUtilizationRates\0", device);
        let memory = self.ask::<Memory>(b"nvmlDeviceGetMemoryInfo\0", device);
        let power = self.ask::<c_uint>(b"nvmlDeviceGetPowerUsage\0", device);
        let energy = self.ask::<c_ulonglong>(b"nvmlDeviceGetTotalEnergyConsumption\0", device);
        GpuState {
            utilisation: utilisation.map(|rates| rates.gpu),
            memory: memory.map(|memory| memory.used),
            power: power.map(|power| f64::from(power) * MILLI),
            energy: energy.map(|energy| energy as f64 * MILLI),
            temperature: self.ask_of(b"nvmlDeviceGetTemperature\0", device, ON_DIE),
            clock: self.ask_of(b"nvmlDeviceGetClockInfo\0", device, SM),
        }
    }

    /// A call of the form `f(device, &answer)`; `T` is what nvml.h has there.
    fn ask<T>(&self, name: &[u8], device: Handle) -> Option<T> {
        type Ask<T> = unsafe extern "C" fn(Handle, *mut T) -> c_int;
        let mut answer = MaybeUninit::<T>::zeroed();
        // SAFETY: the callers name functions of this form with the answer that nvml.h declares, and
        // zeros are a value of each of these plain structs and integers.
        unsafe {
            let ask = self.library.get::<Ask<T>>(name).ok()?;
            (ask(device, answer.as_mut_ptr()) == SUCCESS).then(|| answer.assume_init())
        }
    }

    /// A call of the form `f(device, which, &number)`.
    fn ask_of(&self, name: &[u8], device: Handle, which: c_uint) -> Option<u32> {
        type Ask = unsafe extern "C" fn(Handle, c_uint, *mut c_uint) -> c_int;
        let mut answer = 0;
        // SAFETY: the callers name functions of this form; the number is of this frame.
        let code = unsafe {
            let ask = self.library.get::<Ask>(name).ok()?;
            ask(device, which, &raw mut answer)
        };
        (code == SUCCESS).then_some(answer)
    }
}

impl Drop for Nvml {
    fn drop(&mut self) {
        // SAFETY: as nvml.h declares it; the library is still loaded.
        unsafe {
            if let Ok(end) = self.library.get::<unsafe extern "C" fn() -> c_int>(b"nvmlShutdown\0")
            {
                end();
            }
        }
    }
}
