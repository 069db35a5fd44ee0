//! What GPUs there are. Stands in for `device::cuda::probe` until that is here.

use std::fmt;

/// Why no GPU can be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Missing {
    /// There is no driver library.
    NoLibrary,
    /// The driver lacks functions that we call.
    OldDriver {
        /// Their names.
        missing: Vec<&'static str>,
    },
    /// The driver is there and does not start.
    Init {
        /// Its error.
        code: u32,
        /// The name of it.
        name: String,
    },
    /// The driver is well and knows of no GPU.
    NoDevices,
    /// We have no kernels for this GPU.
    NoKernels {
        /// Its compute capability.
        arch: (u32, u32),
        /// Why they could not be had.
        why: String,
    },
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("this build has no GPU kernels\n  remedy: use --device cpu")
    }
}

/// A GPU that can be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Its number in the driver's order.
    pub index: u32,
    /// As the driver calls it.
    pub name: String,
    /// Compute capability.
    pub arch: (u32, u32),
    /// Bytes of memory.
    pub total: u64,
    /// Bytes of it that are free.
    pub free: u64,
    /// What it is called on every machine.
    pub uuid: String,
}

/// Looks for GPUs.
pub fn probe() -> Result<Vec<Found>, Missing> {
    Err(Missing::NoLibrary)
}
