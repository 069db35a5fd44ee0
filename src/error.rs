//! What can go wrong outside our control. A broken invariant is a panic, not a variant.

use std::io;
use std::path::{Path, PathBuf};

/// The exit code of damaged or refused input.
pub const DAMAGED: u8 = 65;

/// The result of everything that can meet bad input, a bad disk or a bad configuration.
pub type Result<T> = std::result::Result<T, Error>;

/// One failure, with the facts a user needs to mend it.
///
/// Each variant has its own exit code, see [`Error::exit_code`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Wrong usage or configuration: `place` is the file and key, or the argument.
    #[error("{place}: {what}\n  remedy: {remedy}")]
    Config {
        /// The file and key, or the command line argument, at fault.
        place: String,
        /// What is wrong with it.
        what: String,
        /// What the user can do.
        remedy: String,
    },
    /// Damaged or refused input: a checkpoint, a corpus, a tokenizer, a label file.
    #[error("{}: {what}\n  remedy: {remedy}", path.display())]
    Input {
        /// The file at fault.
        path: PathBuf,
        /// What is wrong with it, with its line or key.
        what: String,
        /// What the user can do.
        remedy: String,
    },
    /// The operating system refused to read or write.
    #[error("{}: cannot {action}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The verb: `read`, `write`, `create`, `rename`, `sync`.
        action: &'static str,
        /// The system's own words.
        source: io::Error,
    },
    /// Two things that must agree do not, and neither is the user's doing.
    #[error("internal contradiction: {what}")]
    Contradiction {
        /// Both sides of it.
        what: String,
    },
    /// A device is at fault, or lost: another one may do.
    #[error(
        "{device}: {what}\n  remedy: run on another device or node; the driver's log says more"
    )]
    Device {
        /// Which one.
        device: String,
        /// What the driver said, and about which call.
        what: String,
    },
    /// A device has too little memory for what was asked.
    #[error(
        "{device}: {what}\n  remedy: make room on the device and run the same command again, or \
         watch fewer sites with fewer statistics.bins"
    )]
    DeviceMemory {
        /// Which one.
        device: String,
        /// What was asked and what there was.
        what: String,
    },
    /// The run stopped before its last block; the same command goes on from there.
    #[error("unfinished: {what}\n  remedy: run the same command again, it resumes")]
    Unfinished {
        /// What is missing.
        what: String,
    },
}

impl Error {
    /// A wrong argument or configuration value.
    pub fn config(
        place: impl Into<String>,
        what: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self::Config { place: place.into(), what: what.into(), remedy: remedy.into() }
    }

    /// A damaged or refused input file.
    pub fn input(
        path: impl AsRef<Path>,
        what: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self::Input { path: path.as_ref().to_path_buf(), what: what.into(), remedy: remedy.into() }
    }

    /// For `map_err` on an I/O call: `File::open(p).map_err(Error::io(p, "read"))`.
    pub fn io(path: impl AsRef<Path>, action: &'static str) -> impl FnOnce(io::Error) -> Self {
        let path = path.as_ref().to_path_buf();
        move |source| Self::Io { path, action, source }
    }

    /// The process exit code: 1 failed, 2 configuration, 65 input, 70 contradiction, 74 I/O,
    /// 75 unfinished or out of device memory, 76 device at fault. A file that is named but does
    /// not exist counts as configuration.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Config { .. } => 2,
            Self::Input { .. } => DAMAGED,
            Self::Io { source, action: "read", .. } if source.kind() == io::ErrorKind::NotFound => {
                2
            }
            Self::Io { .. } => 74,
            Self::Contradiction { .. } => 70,
            Self::Unfinished { .. } | Self::DeviceMemory { .. } => 75,
            Self::Device { .. } => 76,
        }
    }

    /// Whether the device is at fault, so that another one may do what this one could not.
    pub fn is_of_device(&self) -> bool {
        matches!(self, Self::Device { .. } | Self::DeviceMemory { .. })
    }
}

/// `"; did you mean 'x'?"` for the candidate nearest to `given`, or nothing if none is near.
pub fn did_you_mean<'a>(given: &str, candidates: impl IntoIterator<Item = &'a str>) -> String {
    candidates
        .into_iter()
        .map(|candidate| (strsim::jaro_winkler(given, candidate), candidate))
        .filter(|(similarity, _)| *similarity > 0.75)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, candidate)| format!("; did you mean '{candidate}'?"))
        .unwrap_or_default()
}
