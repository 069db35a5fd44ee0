//! What a run or an experiment will hold in memory, counted before it starts.

use super::devices::{Devices, device_name};
use super::prepare::Prepared;
use crate::config::Dtype;
use crate::device::cpu::waiting_bins;
use crate::device::sizes::forward_columns;
use crate::error::Result;

/// States on the host for so many devices. Each has one in the making, and one finished node may stay for each;
/// of several, each may have one more that waits to be taken in. One comes in, meets the half it merges
/// with, and up to four are packed for the disk at a time.
fn states_of(devices: u64) -> u64 {
    let waiting = if devices > 1 { devices } else { 0 };
    2 * devices + waiting + 2 + devices.min(4)
}

/// Bytes by purpose; all fixed by the run file and the devices, none by the length of the corpus.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemoryPlan {
    /// Weights, on each device.
    pub weights: u64,
    /// Copies of them, transposed or packed for gradients, on each device.
    pub transposed: u64,
    /// Buffers of the forward pass, and of the way back, on each device.
    pub workspace: u64,
    /// What is kept of batches beside those buffers, on each device.
    pub kept: u64,
    /// The statistics of one block, on each device while they are filled.
    pub statistics: u64,
    /// What one block leaves on the host.
    pub state: u64,
    /// How many of those the host may hold at once.
    pub states: u64,
    /// The GPUs; none where the host's memory is the device's.
    pub gpus: Vec<Room>,
}

/// The memory of a GPU.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Room {
    /// What people call it.
    pub device: String,
    /// Bytes that were free when it was looked at.
    pub free: u64,
}

impl MemoryPlan {
    /// On the host, and all of it without GPUs: a state that is filled is the block's then.
    pub fn total(&self) -> u64 {
        let states = self.state * self.states;
        if self.gpus.is_empty() { self.model() + states } else { states }
    }

    /// On each GPU: one block's statistics are there while they are filled.
    pub fn on_gpu(&self) -> u64 {
        self.model() + self.statistics
    }

    /// The model with all its buffers.
    fn model(&self) -> u64 {
        self.weights + self.transposed + self.workspace + self.kept
    }

    /// GPUs without room for batches of the size asked for. They get smaller ones.
    pub fn too_small(&self) -> impl Iterator<Item = &Room> {
        self.gpus.iter().filter(|room| room.free < self.on_gpu())
    }

    /// Says which GPUs these are.
    pub(super) fn warn(&self) {
        for Room { device, free } in self.too_small() {
            let needed = self.on_gpu();
            tracing::warn!(
                device,
                free,
                needed,
                "not all fits: where it does not, batches get smaller"
            );
        }
    }
}

/// Bytes of a number on a device.
pub(super) fn number_bytes(dtype: Dtype) -> u64 {
    match dtype {
        Dtype::F32 => 4,
        Dtype::Bf16 => 2,
    }
}

/// The GPUs, and how many states the host may hold with so many devices.
pub(super) fn rooms(devices: &Devices) -> (Vec<Room>, u64) {
    let gpus: Vec<Room> = match devices {
        Devices::Cpu => Vec::new(),
        Devices::Cuda(found) => {
            found.iter().map(|gpu| Room { device: device_name(gpu), free: gpu.free }).collect()
        }
    };
    let states = states_of(gpus.len().max(1) as u64);
    (gpus, states)
}

/// Counts the memory of a run with so many tokens in a batch.
pub fn memory_plan(prepared: &Prepared, tokens: usize) -> Result<MemoryPlan> {
    let spec = &prepared.model.spec;
    let tokens = tokens as u64;
    let number = number_bytes(prepared.config.model.dtype);
    let (gpus, states) = rooms(&prepared.devices);
    let sites = prepared.sites.iter();
    let neurons: Vec<u64> = sites.map(|site| spec.site_width(*site) as u64).collect();
    let statistics = neurons.iter().map(|&neurons| statistics_bytes(prepared, neurons)).sum();
    let waiting = match prepared.devices {
        Devices::Cpu => {
            let groups1 = prepared.plan.labels.groups() + 1;
            waiting_bins::bytes(groups1, prepared.config.statistics.bins) as u64
        }
        Devices::Cuda(_) => 0,
    };
    Ok(MemoryPlan {
        weights: prepared.model.cost(prepared.limits.sequence)?.parameters * number,
        transposed: 0,
        workspace: tokens * number * forward_columns(spec) as u64,
        kept: waiting * neurons.iter().sum::<u64>(),
        statistics,
        state: statistics,
        states,
        gpus,
    })
}

/// One site's statistics, see `device/statistics.rs`.
fn statistics_bytes(prepared: &Prepared, neurons: u64) -> u64 {
    let config = &prepared.config.statistics;
    let groups = prepared.plan.labels.groups() as u64 + 1;
    let by_group = 4 + 8 + 8 + 4 + 4 + 8 + 4 * config.bins as u64;
    let lists = (config.top + config.bottom) as u64 * 12;
    neurons * (groups * by_group + lists + config.sample as u64 * 4 + config.bins as u64 * 4)
}

#[cfg(test)]
mod tests {
    //! Oracle: by hand.
    use super::*;

    #[test]
    fn a_gpu_holds_the_model_and_the_host_the_states() {
        let room = |free| Room { device: format!("with {free}"), free };
        let cpu = MemoryPlan {
            weights: 100,
            transposed: 0,
            workspace: 20,
            kept: 0,
            statistics: 3,
            state: 3,
            states: 5,
            gpus: vec![],
        };
        assert_eq!((cpu.total(), cpu.too_small().count()), (135, 0));
        let gpus = MemoryPlan { states: 6, gpus: vec![room(122), room(123)], ..cpu };
        assert_eq!((gpus.total(), gpus.on_gpu()), (18, 123));
        assert_eq!(gpus.too_small().collect::<Vec<_>>(), [&room(122)]);
        let asked = MemoryPlan { transposed: 90, kept: 7, statistics: 0, ..gpus };
        assert_eq!((asked.total(), asked.on_gpu()), (18, 217));
    }
}
