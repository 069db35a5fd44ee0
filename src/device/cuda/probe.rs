//! What there is to run on: the driver and its devices, or exactly what is missing. Never panics,
//! and asks nothing of the driver before it has been found whole. A device that does not answer
//! takes no other with it.

use super::driver;
use super::images::Images;

/// A GPU.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Its number, as in `cuda:0`.
    pub index: u32,
    /// The maker's name.
    pub name: String,
    /// Compute capability, (9, 0) for Hopper.
    pub arch: (u32, u32),
    /// Bytes of memory.
    pub total: u64,
    /// Bytes of it that are free.
    pub free: u64,
    /// As `nvidia-smi -L` prints it.
    pub uuid: String,
}

/// A GPU that is there and cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unusable {
    /// Its number.
    pub index: u32,
    /// What is wrong with it.
    pub why: String,
    /// Whether it does not answer; otherwise it does, and is not for us.
    pub broken: bool,
}

impl std::fmt::Display for Unusable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "cuda:{}: {}", self.index, self.why)
    }
}

/// What the probe found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    /// The devices, in the driver's order; at least one.
    pub devices: Vec<Found>,
    /// Devices that the others do without.
    pub unusable: Vec<Unusable>,
    /// 13000 for a driver of CUDA 13.0.
    pub driver: i32,
    /// Where the kernels' machine code comes from.
    pub kernels: &'static str,
}

/// Why there is no GPU to run on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Missing {
    /// No libcuda.
    #[error("no NVIDIA driver: libcuda.so.1 is not on this machine (or not in the container)")]
    NoLibrary,
    /// A driver without what we call.
    #[error("the NVIDIA driver is too old: it lacks {}; install version 570 or later", .missing.join(", "))]
    OldDriver {
        /// The symbols it lacks.
        missing: Vec<&'static str>,
    },
    /// The driver does not start.
    #[error("the NVIDIA driver does not start: {what}{}", init_hint(*.code))]
    Init {
        /// CUresult.
        code: u32,
        /// The driver's own words.
        what: String,
    },
    /// A driver without devices.
    #[error("the NVIDIA driver has no device (is CUDA_VISIBLE_DEVICES set to nothing?)")]
    NoDevices,
    /// Devices, and none that answers and has code.
    #[error("no GPU can be used: {}", list(.0))]
    Unusable(Vec<Unusable>),
    /// No machine code for any of the devices.
    #[error("no kernels for {device}: {why}")]
    NoKernels {
        /// Name and architecture.
        device: String,
        /// What is wanting.
        why: String,
    },
}

fn list(unusable: &[Unusable]) -> String {
    unusable.iter().map(Unusable::to_string).collect::<Vec<_>>().join("; ")
}

fn init_hint(code: u32) -> &'static str {
    match code {
        STUB => "; this is the toolkit's stub library: take its folder out of LD_LIBRARY_PATH",
        100 => "; no GPU is visible to this process",
        803 => {
            "; the library belongs to another version than the kernel module: restart, or mend \
                the container's mounts"
        }
        _ => "",
    }
}

/// CUDA_ERROR_STUB_LIBRARY.
const STUB: u32 = 34;
/// The oldest compute capability there is code for.
const OLDEST: (u32, u32) = (8, 0);
const TOO_OLD: &str = "and the kernels need compute capability 8.0 (Ampere) or later";

/// Looks for GPUs.
pub fn probe(images: &Images) -> Result<Probe, Missing> {
    let lacking = driver::missing_symbols().ok_or(Missing::NoLibrary)?;
    if !lacking.contains(&"cuInit") {
        match driver::init() {
            // A stub library lacks nearly everything, the names of errors with it; what it says to
            // cuInit tells more.
            Err(failure) if failure.code == STUB => {
                let what = "cuInit failed: CUDA_ERROR_STUB_LIBRARY".to_owned();
                return Err(Missing::Init { code: STUB, what });
            }
            Err(failure) if lacking.is_empty() => return Err(failed(&failure)),
            _ => {}
        }
    }
    if !lacking.is_empty() {
        return Err(Missing::OldDriver { missing: lacking });
    }
    let count = driver::device_count().map_err(|failure| failed(&failure))?;
    if count == 0 {
        return Err(Missing::NoDevices);
    }
    let (mut devices, mut unusable) = (Vec::new(), Vec::new());
    for index in 0..count {
        match found(index) {
            Ok(found) if found.arch < OLDEST => {
                let why = format!("{}, {TOO_OLD}", described(&found));
                unusable.push(Unusable { index, why, broken: false });
            }
            Ok(found) => devices.push(found),
            Err(failure) => {
                unusable.push(Unusable { index, why: failure.to_string(), broken: true });
            }
        }
    }
    let Some(first) = devices.first() else { return Err(Missing::Unusable(unusable)) };
    let kernels =
        images.origin().map_err(|why| Missing::NoKernels { device: described(first), why })?;
    let driver = driver::version().map_err(|failure| failed(&failure))?;
    Ok(Probe { devices, unusable, driver, kernels })
}

/// "NVIDIA H200 (sm_90)".
fn described(gpu: &Found) -> String {
    format!("{} (sm_{}{})", gpu.name, gpu.arch.0, gpu.arch.1)
}

fn found(index: u32) -> driver::Answer<Found> {
    let device = driver::device(index)?;
    let total = driver::device_memory(device)?;
    let context = driver::Primary::retain(device)?;
    context.enter()?;
    let (free, _) = driver::memory_info()?;
    Ok(Found {
        index,
        name: driver::device_name(device)?,
        arch: driver::device_arch(device)?,
        total,
        free,
        uuid: driver::device_uuid(device)?,
    })
}

fn failed(failure: &driver::Failure) -> Missing {
    Missing::Init { code: failure.code, what: failure.to_string() }
}
