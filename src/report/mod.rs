//! `report.html`: one page that opens from disk without a network, drawn from the artifacts of a
//! run folder alone. It may be deleted; it is always remade. Counts and overlaps of listed neurons
//! are its only arithmetic.

mod comparison;
mod experiment;
mod gather;
mod html;
mod layer_map;
pub mod overview;
mod pages;
mod plot;
mod probing;
mod probing_methods;
mod sheet;
mod short;
mod similarity;
mod steering;

use std::path::{Path, PathBuf};

use crate::artifact::atomic::write_bytes_atomic;
use crate::artifact::comparison::SOURCES;
use crate::artifact::effects::EFFECTS;
use crate::artifact::probing::PROBES;
use crate::artifact::similarity::SIMILARITY;
use crate::artifact::steering::STEER;
use crate::error::Result;

/// File name in a run folder.
pub const REPORT: &str = "report.html";

/// Writes `report.html` in `run_folder` from its manifest and tables, and returns its path. The tables
/// that are there say whether it was a run over a corpus, an experiment, a run of
/// probes, steered texts, or a comparison of models or of runs.
pub fn build(run_folder: &Path) -> Result<PathBuf> {
    let there = |name: &str| run_folder.join(name).exists();
    let page = match () {
        () if there(EFFECTS) => experiment::page(run_folder)?,
        () if there(PROBES) => probing::page(run_folder)?,
        () if there(SIMILARITY) => similarity::page(run_folder)?,
        () if there(SOURCES) => comparison::page(run_folder)?,
        () if there(STEER) => steering::page(run_folder)?,
        () => html::page(&gather::gather(run_folder)?),
    };
    let path = run_folder.join(REPORT);
    write_bytes_atomic(&path, page.as_bytes())?;
    Ok(path)
}
