//! Where activations wait between passes: the cheapest place that has room for them.

use std::fmt;

use super::{Cache, Probing};
use crate::artifact::machine::available_memory;
use crate::error::{Error, Result};
use crate::run::devices::Devices;
use crate::run::probing::config::SolverName;

/// Share of the free memory that activations may take.
const SHARE: f64 = 0.5;
/// Bytes a second: a disk, and a rate of operations a second, both modest. Only their ratio decides.
const DISK: f64 = 5e8;
const CPU: f64 = 1e11;
const GPU: f64 = 1e14;
/// Passes of a probe that is moved to its optimum, about.
const FISTA_PASSES: f64 = 200.0;

/// Where activations wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    /// In the memory of each device, so many bytes.
    Memory(u64),
    /// In files of the run folder, so many bytes.
    Disk(u64),
    /// Nowhere: the model runs at each pass.
    Nowhere,
}

impl fmt::Display for Kept {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mebibytes = |bytes: &u64| bytes.div_ceil(1 << 20);
        match self {
            Self::Memory(bytes) => write!(out, "kept in memory ({} MiB)", mebibytes(bytes)),
            Self::Disk(bytes) => write!(out, "kept in files ({} MiB)", mebibytes(bytes)),
            Self::Nowhere => write!(out, "not kept, the model runs at each pass"),
        }
    }
}

/// The place for so many rows: as the file says, or the cheapest. `pieces` are the sites of each device, by
/// number.
pub(super) fn choose(probing: &Probing, rows: usize, pieces: &[Vec<usize>]) -> Result<Kept> {
    let prepared = &probing.prepared;
    let places = probing.places();
    let columns: usize = places.iter().map(|place| place.width).sum();
    let joined = probing.config.probes.all_sites;
    let held = |sites: &Vec<usize>| match sites.contains(&places.len()) {
        // All sites side by side are a copy, made by way of the host.
        true => 3 * columns,
        false => sites.iter().map(|site| places[*site].width).sum(),
    };
    let bytes = |columns: usize| 4 * (rows * columns) as u64;
    let memory = bytes(pieces.iter().map(held).max().unwrap_or(0));
    let disk = bytes(columns);
    Ok(match probing.config.probes.cache {
        Cache::Memory => Kept::Memory(memory),
        Cache::Disk => Kept::Disk(disk),
        Cache::None => Kept::Nowhere,
        Cache::Auto if fits(&prepared.devices, memory) => Kept::Memory(memory),
        Cache::Auto if probing.config.probes.shuffle => {
            let what = "there is no room in memory for the activations, and rows in files come in \
                        the order of the corpus";
            let remedy =
                "set shuffle = false, watch fewer sites, or cache = \"memory\" all the same";
            return Err(Error::config("probes.shuffle", what, remedy));
        }
        Cache::Auto if joined || !rerun_is_cheaper(probing, disk)? => Kept::Disk(disk),
        Cache::Auto => Kept::Nowhere,
    })
}

fn fits(devices: &Devices, bytes: u64) -> bool {
    let free = match devices {
        Devices::Cpu => available_memory(),
        Devices::Cuda(found) => found.iter().map(|gpu| gpu.free).min(),
    };
    free.is_none_or(|free| bytes as f64 <= SHARE * free as f64)
}

/// Whether running the model at each pass costs less than writing activations once and reading them
/// back at each.
fn rerun_is_cheaper(probing: &Probing, bytes: u64) -> Result<bool> {
    let (prepared, probes) = (&probing.prepared, &probing.config.probes);
    let passes = match probes.solver {
        SolverName::Adam => f64::from(probes.epochs),
        SolverName::Fista => FISTA_PASSES.min(f64::from(probes.iterations)),
    };
    let cost = prepared.model.cost(prepared.limits.sequence)?;
    // About a token for every four bytes of text.
    let tokens = prepared.plan.bytes as f64 / 4.0;
    let rate = if prepared.devices == Devices::Cpu { CPU } else { GPU };
    let run = tokens * cost.flops.total() as f64 / rate;
    let transfer = bytes as f64 / DISK;
    Ok((passes - 1.0) * run < (passes + 1.0) * transfer)
}
