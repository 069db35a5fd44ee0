//! sample_rows: the rows with the smallest hashes. The host knows which rows enter; the device
//! keeps their activations.
#![expect(unsafe_code, reason = "launches a kernel")]

use super::arena::Buffer;
use super::buffer::Tensor;
use super::context::{Context, args};
use super::driver::Ptr;
use super::grid::count;
use super::statistics::Rows;
use crate::device::cpu::sample_rows::row_hash;
use crate::device::rows::BatchRows;
use crate::device::statistics::{RowSample, SiteStatistics, StatisticsPlan};
use crate::error::Result;
use crate::id::RowId;

args! {
    /// See `kernels/sample_rows.cu`.
    struct SampleRowsArgs { x: Ptr, picks: Ptr, out: Ptr, stride: u32, neurons: u32 }
}

/// Columns of a block.
const COLUMNS: u32 = 1024;

/// A row of the sample.
#[derive(Clone, Debug)]
struct Kept {
    hash: u64,
    row: RowId,
    groups: Vec<u32>,
    /// Where its activations are, or the row of the batch that they come from.
    place: Place,
}

#[derive(Clone, Copy, Debug)]
enum Place {
    Device(u32),
    Batch(usize),
}

/// The sample of a site.
#[derive(Debug)]
pub(super) struct Sample {
    /// Ascending by (hash, row).
    kept: Vec<Kept>,
    /// `[capacity, N]`.
    values: Buffer,
    capacity: usize,
    neurons: u32,
    seed: u64,
}

impl Sample {
    /// None where no row is kept.
    pub(super) fn new(context: &Context, plan: &StatisticsPlan) -> Result<Option<Self>> {
        if plan.sample == 0 {
            return Ok(None);
        }
        Ok(Some(Self {
            kept: Vec::new(),
            values: context.buffer(plan.sample * plan.neurons * 4)?,
            capacity: plan.sample,
            neurons: count(plan.neurons),
            seed: plan.sample_seed,
        }))
    }

    /// Adds a batch.
    pub(super) fn update(
        &mut self,
        context: &Context,
        (batch, rows): (&BatchRows, &Rows<'_>),
        x: &Tensor,
    ) {
        let picks = self.choose(batch);
        let args = SampleRowsArgs {
            x: x.start(),
            picks: context.upload(&picks),
            out: self.values.start(),
            stride: rows.stride,
            neurons: self.neurons,
        };
        let kernel = x.element().pick(["sample_rows_f32", "sample_rows_bf16"]);
        let grid = [count(picks.len() / 2), self.neurons.div_ceil(COLUMNS), 1];
        // SAFETY: places are below the capacity, tokens within `x` (`Statistics::update`).
        unsafe { context.launch(kernel, (grid, 0), &args) }
    }

    /// Takes the rows of a batch that belong to the sample: the token and the place of each.
    fn choose(&mut self, batch: &BatchRows) -> Vec<u32> {
        let full = self.kept.len() == self.capacity;
        let worst = self.kept.last().filter(|_| full).map(|kept| (kept.hash, kept.row));
        let mut chosen: Vec<(u64, RowId, usize)> = batch
            .ids
            .iter()
            .enumerate()
            .map(|(at, &row)| (row_hash(self.seed, row), row, at))
            .filter(|&(hash, row, _)| worst.is_none_or(|worst| (hash, row) < worst))
            .collect();
        chosen.sort_unstable();
        chosen.truncate(self.capacity);
        self.kept.extend(chosen.into_iter().map(|(hash, row, at)| Kept {
            hash,
            row,
            groups: batch.groups_of(at).to_vec(),
            place: Place::Batch(at),
        }));
        // Stable: of a row that is there twice the earlier stays first, as on the CPU.
        self.kept.sort_by_key(|kept| (kept.hash, kept.row));
        self.kept.truncate(self.capacity);
        let mut taken = vec![false; self.capacity];
        for kept in &self.kept {
            if let Place::Device(place) = kept.place {
                taken[place as usize] = true;
            }
        }
        let mut free = (0..).zip(taken).filter(|(_, taken)| !taken).map(|(place, _)| place);
        let mut picks = Vec::new();
        for kept in &mut self.kept {
            if let Place::Batch(at) = kept.place {
                let place = free.next().expect("a place for each row kept");
                picks.extend([batch.source[at], place]);
                kept.place = Place::Device(place);
            }
        }
        picks
    }

    /// Brings the sample to the host.
    pub(super) fn take(&self, context: &Context, out: &mut SiteStatistics) -> Result<()> {
        let neurons = self.neurons as usize;
        let mut values = vec![0.0_f32; self.capacity * neurons];
        context.download(&self.values, &mut values)?;
        let sample = &mut out.sample;
        *sample = RowSample::new(self.capacity);
        for kept in &self.kept {
            sample.hashes.push(kept.hash);
            sample.rows.push(kept.row);
            sample.groups.extend_from_slice(&kept.groups);
            sample
                .group_starts
                .push(u32::try_from(sample.groups.len()).expect("a sample is small"));
            if let Place::Device(place) = kept.place {
                let start = place as usize * neurons;
                sample.values.extend_from_slice(&values[start..start + neurons]);
            }
        }
        Ok(())
    }
}
