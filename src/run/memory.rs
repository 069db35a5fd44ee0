//! What a run will hold in memory, counted before it starts.

use super::devices::{Devices, device_name};
use super::prepare::Prepared;
use crate::config::Dtype;
use crate::error::Result;
use crate::model::{ModelSpec, Param};

/// States on the host beside those of the devices: a finished node, the one that comes in, the half
/// it merges with, and a node as bytes.
const STATES: u64 = 4;

/// Bytes by purpose; all fixed by the run file and the devices, none by the length of the corpus.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemoryPlan {
    /// Weights, on each device.
    pub weights: u64,
    /// Buffers of the forward pass, on each device.
    pub workspace: u64,
    /// The statistics of one block.
    pub statistics: u64,
    /// How many of those the host may hold at once, see `STATES`.
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
    /// On the host, and all of it without GPUs.
    pub fn total(&self) -> u64 {
        let states = self.statistics * self.states;
        if self.gpus.is_empty() { self.weights + self.workspace + states } else { states }
    }

    /// On each GPU: one block's statistics are there while they are filled.
    pub fn on_gpu(&self) -> u64 {
        self.weights + self.workspace + self.statistics
    }

    /// GPUs without room for batches of the size asked for. They get smaller ones.
    pub fn too_small(&self) -> impl Iterator<Item = &Room> {
        self.gpus.iter().filter(|room| room.free < self.on_gpu())
    }
}

/// Counts the memory of a run with so many tokens in a batch.
pub fn memory_plan(prepared: &Prepared, tokens: usize) -> Result<MemoryPlan> {
    let spec = &prepared.model.spec;
    let tokens = tokens as u64;
    let number = match prepared.config.model.dtype {
        Dtype::F32 => 4,
        Dtype::Bf16 => 2,
    };
    let gpus = match &prepared.devices {
        Devices::Cpu => Vec::new(),
        Devices::Cuda(found) => {
            found.iter().map(|gpu| Room { device: device_name(gpu), free: gpu.free }).collect()
        }
    };
    Ok(MemoryPlan {
        weights: prepared.model.cost(prepared.limits.sequence)?.parameters * number,
        workspace: tokens * number * columns(spec) as u64,
        statistics: prepared
            .sites
            .iter()
            .map(|site| statistics_bytes(prepared, spec.site_width(*site) as u64))
            .sum(),
        states: STATES + gpus.len().max(1) as u64,
        gpus,
    })
}

/// Columns of all buffers of the forward pass, see `device/workspace.rs`.
fn columns(spec: &ModelSpec) -> usize {
    let attention = &spec.attention;
    let heads = (2 * attention.heads + 2 * attention.kv_heads) * attention.head_width;
    let mlp = spec.mlp.width * if spec.mlp.gated { 3 } else { 2 };
    let narrow = spec.shape(Param::EmbeddingProject).map_or(0, |_| 2 * spec.embedding.width);
    3 * spec.width + heads + mlp + narrow
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
        let cpu =
            MemoryPlan { weights: 100, workspace: 20, statistics: 3, states: 5, gpus: vec![] };
        assert_eq!((cpu.total(), cpu.too_small().count()), (135, 0));
        let gpus = MemoryPlan { states: 6, gpus: vec![room(122), room(123)], ..cpu };
        assert_eq!((gpus.total(), gpus.on_gpu()), (18, 123));
        assert_eq!(gpus.too_small().collect::<Vec<_>>(), [&room(122)]);
    }
}
