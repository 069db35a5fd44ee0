//! The threads of the CPU.

use crate::error::{Error, Result};

/// Sets the number of threads; once per process, before any work.
pub(super) fn threads(threads: Option<usize>) -> Result<()> {
    let Some(threads) = threads else { return Ok(()) };
    rayon::ThreadPoolBuilder::new().num_threads(threads).build_global().map_err(|error| {
        Error::config(
            "threads",
            format!("cannot start {threads} threads: {error}"),
            "ask for fewer",
        )
    })
}
