//! Where a command runs: the device by name, and the threads of the CPU.

use crate::config::Dtype;
use crate::error::{Error, Result};

/// Checks that this build can run on the device asked for.
pub(super) fn choose(name: Option<&str>, dtype: Dtype) -> Result<()> {
    match name.unwrap_or("auto") {
        "cpu" => {}
        "auto" => tracing::info!("running on the CPU: this build has no GPU kernels"),
        other => {
            let what = format!("no device '{other}' in this build");
            return Err(Error::config("device", what, "use cpu or auto"));
        }
    }
    if dtype == Dtype::Bf16 {
        let what = "the CPU device computes in float32 only";
        return Err(Error::config("dtype", what, "use f32; bf16 weights are read and widened"));
    }
    Ok(())
}

/// Sets the number of threads; once per process, before any work.
pub(super) fn threads(threads: Option<usize>) -> Result<()> {
    let Some(threads) = threads else { return Ok(()) };
    rayon::ThreadPoolBuilder::new().num_threads(threads).build_global().map_err(|error| {
        Error::config("threads", format!("cannot start {threads} threads: {error}"), "ask for fewer")
    })
}
