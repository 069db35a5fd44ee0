//! Statistics as bytes and back. All numbers are little-endian and in the order of the struct;
//! lengths follow from the plan, which is stored beside them and compared, or are checked against
//! what is left before anything is allocated.

use bytemuck::{NoUninit, Pod};

use super::run::damaged;
use crate::device::statistics::{RowSample, SiteStatistics, StatisticsPlan, TopTokens};
use crate::error::Result;
use crate::id::RowId;

const _: () = assert!(cfg!(target_endian = "little"), "states are little-endian");

/// Appends numbers.
pub fn put<T: NoUninit>(out: &mut Vec<u8>, values: &[T]) {
    out.extend_from_slice(bytemuck::cast_slice(values));
}

/// Appends a length.
pub fn put_len(out: &mut Vec<u8>, len: usize) {
    put(out, &[len as u64]);
}

/// Reads numbers from bytes that may be damaged.
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// At the first of these bytes.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// The next `count` numbers.
    pub fn take<T: Pod>(&mut self, count: usize) -> Result<Vec<T>> {
        let (head, rest) = count
            .checked_mul(size_of::<T>())
            .and_then(|bytes| self.rest.split_at_checked(bytes))
            .ok_or_else(|| damaged("ends before its time".into()))?;
        self.rest = rest;
        let mut values = vec![T::zeroed(); count];
        bytemuck::cast_slice_mut(&mut values).copy_from_slice(head);
        Ok(values)
    }

    /// The next length; it cannot exceed the bytes that are left, for every element takes one.
    pub fn length(&mut self) -> Result<usize> {
        let len = self.take::<u64>(1)?[0];
        usize::try_from(len)
            .ok()
            .filter(|&len| len <= self.rest.len())
            .ok_or_else(|| damaged(format!("claims {len} elements")))
    }

    /// Checks that nothing is left.
    pub fn finish(self) -> Result<()> {
        match self.rest.len() {
            0 => Ok(()),
            left => Err(damaged(format!("{left} bytes too many"))),
        }
    }
}

impl SiteStatistics {
    /// Appends the state: its shape, then array after array.
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        put(out, &self.shape());
        put(out, &self.rows);
        put(out, &self.non_finite);
        put(out, &self.sum);
        put(out, &self.square);
        put(out, &self.min);
        put(out, &self.max);
        put(out, &self.firing);
        put(out, &self.histogram);
        encode_lists(out, &self.top);
        encode_lists(out, &self.bottom);
        encode_sample(out, &self.sample);
    }

    /// Fills fresh statistics with what [`Self::encode`] wrote.
    pub(super) fn decode(&mut self, from: &mut Reader<'_>, plan: &StatisticsPlan) -> Result<()> {
        let shape = from.take::<u64>(6)?;
        if shape != self.shape() {
            return Err(damaged(format!("shape {shape:?}, the plan says {:?}", self.shape())));
        }
        self.rows = from.take(self.rows.len())?;
        self.non_finite = from.take(self.non_finite.len())?;
        self.sum = from.take(self.sum.len())?;
        self.square = from.take(self.square.len())?;
        self.min = from.take(self.min.len())?;
        self.max = from.take(self.max.len())?;
        self.firing = from.take(self.firing.len())?;
        self.histogram = from.take(self.histogram.len())?;
        decode_lists(from, &mut self.top)?;
        decode_lists(from, &mut self.bottom)?;
        self.sample = decode_sample(from, plan)?;
        let cells = self.non_finite.chunks(plan.neurons.max(1)).zip(&self.rows);
        for (non_finite, &rows) in cells {
            if rows > u64::from(u32::MAX) || non_finite.iter().any(|&n| u64::from(n) > rows) {
                return Err(damaged("counts contradict each other".into()));
            }
        }
        Ok(())
    }

    /// What must agree with the plan: groups, neurons times groups, bins in all, kept lists.
    fn shape(&self) -> [u64; 6] {
        [
            self.rows.len() as u64,
            self.sum.len() as u64,
            self.histogram.len() as u64,
            self.top.k as u64,
            self.bottom.k as u64,
            self.sample.capacity as u64,
        ]
    }
}

/// Lengths, then the filled entries alone.
fn encode_lists(out: &mut Vec<u8>, lists: &TopTokens) {
    put(out, &lists.len);
    for neuron in 0..lists.len.len() {
        put(out, lists.list(neuron).0);
    }
    for neuron in 0..lists.len.len() {
        lists.list(neuron).1.iter().for_each(|row| put(out, &[row.0]));
    }
}

fn decode_lists(from: &mut Reader<'_>, lists: &mut TopTokens) -> Result<()> {
    let len = from.take::<u32>(lists.len.len())?;
    if len.iter().any(|&len| len as usize > lists.k) {
        return Err(damaged("a list is longer than its plan allows".into()));
    }
    let filled = len.iter().map(|&len| len as usize).sum();
    let values = from.take::<f32>(filled)?;
    let rows = from.take::<u64>(filled)?;
    let mut next = 0;
    for (neuron, &len) in len.iter().enumerate() {
        for place in 0..len as usize {
            lists.values[neuron * lists.k + place] = values[next];
            lists.rows[neuron * lists.k + place] = RowId(rows[next]);
            next += 1;
        }
    }
    lists.len = len;
    Ok(())
}

fn encode_sample(out: &mut Vec<u8>, sample: &RowSample) {
    put_len(out, sample.hashes.len());
    put(out, &sample.hashes);
    sample.rows.iter().for_each(|row| put(out, &[row.0]));
    put(out, &sample.group_starts);
    put(out, &sample.groups);
    put(out, &sample.values);
}

fn decode_sample(from: &mut Reader<'_>, plan: &StatisticsPlan) -> Result<RowSample> {
    let len = from.length()?;
    if len > plan.sample {
        return Err(damaged(format!("a sample of {len} rows, the plan says {}", plan.sample)));
    }
    let hashes = from.take(len)?;
    let rows = from.take::<u64>(len)?.into_iter().map(RowId).collect();
    let group_starts = from.take::<u32>(len + 1)?;
    if group_starts[0] != 0 || !group_starts.is_sorted() {
        return Err(damaged("the sample's groups are out of order".into()));
    }
    let groups = from.take::<u32>(group_starts[len] as usize)?;
    if groups.iter().any(|&group| group as usize >= plan.groups) {
        return Err(damaged("the sample names a group that is not there".into()));
    }
    let values = from.take(len * plan.neurons)?;
    Ok(RowSample { capacity: plan.sample, hashes, rows, group_starts, groups, values })
}
