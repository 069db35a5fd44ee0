//! What a run will hold in memory, counted before it starts.

use super::prepare::Prepared;
use crate::error::Result;
use crate::model::{ModelSpec, Param};

/// The running block, a finished node, the half it merges with, and a node as bytes.
const STATES: u64 = 4;

/// Bytes by purpose; all fixed by the run file, none by the length of the corpus.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryPlan {
    /// Weights in float32.
    pub weights: u64,
    /// Buffers of the forward pass.
    pub workspace: u64,
    /// The statistics of one block.
    pub statistics: u64,
    /// How many of those may be alive at once, see `STATES`.
    pub states: u64,
}

impl MemoryPlan {
    /// All together.
    pub fn total(&self) -> u64 {
        self.weights + self.workspace + self.statistics * self.states
    }
}

/// Counts the memory of a run.
pub fn memory_plan(prepared: &Prepared) -> Result<MemoryPlan> {
    let spec = &prepared.model.spec;
    let tokens = prepared.limits.tokens as u64;
    Ok(MemoryPlan {
        weights: prepared.model.cost(prepared.limits.sequence)?.f32_bytes,
        workspace: tokens * 4 * columns(spec) as u64,
        statistics: prepared
            .sites
            .iter()
            .map(|site| statistics_bytes(prepared, spec.site_width(*site) as u64))
            .sum(),
        states: STATES,
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
