//! The page of an experiment, drawn from its tables alone.

use std::path::{Path, PathBuf};

use crate::error::Result;
use crate::report;

/// Writes `report.html` and returns its path.
pub(super) fn build(folder: &Path) -> Result<PathBuf> {
    report::experiment::build(folder)
}
