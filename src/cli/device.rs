//! Where a command runs, as far as several commands are told it alike.

use std::fmt;

use clap::ValueEnum;

use crate::config::Dtype;
use crate::error::{Error, Result};

/// `--dtype`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum DtypeArg {
    /// float32 throughout.
    F32,
    /// bfloat16 weights and activations.
    Bf16,
}

impl From<DtypeArg> for Dtype {
    fn from(dtype: DtypeArg) -> Self {
        match dtype {
            DtypeArg::F32 => Self::F32,
            DtypeArg::Bf16 => Self::Bf16,
        }
    }
}

impl fmt::Display for DtypeArg {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
        })
    }
}

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
