//! top_tokens: the k largest (or smallest) values of every neuron with their rows (A8 of the
//! accumulators).
//!
//! A row is compared with the k-th value of each neuron; only a hit touches a list. Hits grow with
//! the logarithm of the rows: k (1 + ln(rows / k)) per neuron.

use super::statistics::{CHUNK, Packed};
use crate::device::statistics::TopTokens;
use crate::id::RowId;

/// The lists of some neighbouring neurons; `BOTTOM` keeps the smallest values.
pub(crate) struct TopChunk<'a, const BOTTOM: bool> {
    k: usize,
    len: &'a mut [u32],
    values: &'a mut [f32],
    rows: &'a mut [RowId],
}

/// What is kept largest: x, or -x for the smallest values.
#[inline(always)]
pub(crate) fn key<const BOTTOM: bool>(x: f32) -> f32 {
    if BOTTOM { -x } else { x }
}

impl<'a, const BOTTOM: bool> TopChunk<'a, BOTTOM> {
    /// Cuts the lists of a site into chunks of neurons; none if nothing is kept.
    pub(crate) fn split(lists: &'a mut TopTokens, chunk: usize) -> Vec<Self> {
        let k = lists.k;
        if k == 0 {
            return Vec::new();
        }
        lists
            .len
            .chunks_mut(chunk)
            .zip(lists.values.chunks_mut(chunk * k))
            .zip(lists.rows.chunks_mut(chunk * k))
            .map(|((len, values), rows)| Self { k, len, values, rows })
            .collect()
    }

    /// Adds a tile of rows, which are `ids`; `ascending` says that those ascend.
    #[inline(always)]
    pub(crate) fn update(&mut self, ids: &[RowId], ascending: bool, x: Packed<'_>) {
        // What a value must exceed to be of interest; columns that are not there never are.
        let mut threshold = [f32::INFINITY; CHUNK];
        for (neuron, threshold) in threshold[..x.len].iter_mut().enumerate() {
            *threshold = self.threshold(neuron);
        }
        // Where all rows are later than those kept, an equal value never wins. That matters for
        // neurons which are 0 almost everywhere.
        if ascending && ids.first() > self.latest_row() {
            for (values, &id) in x.rows.iter().zip(ids) {
                if any_hit(values, &threshold, |x, threshold| key::<BOTTOM>(x) > threshold) {
                    self.offer_row(&values[..x.len], id, &mut threshold);
                }
            }
        } else {
            for (values, &id) in x.rows.iter().zip(ids) {
                if any_hit(values, &threshold, |x, threshold| key::<BOTTOM>(x) >= threshold) {
                    self.offer_row(&values[..x.len], id, &mut threshold);
                }
            }
        }
    }

    /// The key of the k-th value, or -inf while there are fewer.
    fn threshold(&self, neuron: usize) -> f32 {
        if self.len[neuron] as usize == self.k {
            key::<BOTTOM>(self.values[(neuron + 1) * self.k - 1])
        } else {
            f32::NEG_INFINITY
        }
    }

    /// The last row in any list.
    fn latest_row(&self) -> Option<&RowId> {
        self.rows
            .chunks(self.k)
            .zip(self.len.iter())
            .filter_map(|(rows, &len)| rows[..len as usize].iter().max())
            .max()
    }

    #[cold]
    #[inline(never)]
    fn offer_row(&mut self, values: &[f32], id: RowId, threshold: &mut [f32; CHUNK]) {
        for (neuron, &value) in values.iter().enumerate() {
            if value.is_finite() && key::<BOTTOM>(value) >= threshold[neuron] {
                self.offer(neuron, value, id);
                threshold[neuron] = self.threshold(neuron);
            }
        }
    }

    /// Puts a finite value where it belongs in a neuron's list, if it does.
    fn offer(&mut self, neuron: usize, value: f32, id: RowId) {
        let list = neuron * self.k..(neuron + 1) * self.k;
        let (values, rows) = (&mut self.values[list.clone()], &mut self.rows[list]);
        let len = self.len[neuron] as usize;
        let full = len == self.k;
        if full && !precedes::<BOTTOM>((value, id), (values[len - 1], rows[len - 1])) {
            return;
        }
        let mut at = if full { len - 1 } else { len };
        while at > 0 && precedes::<BOTTOM>((value, id), (values[at - 1], rows[at - 1])) {
            values[at] = values[at - 1];
            rows[at] = rows[at - 1];
            at -= 1;
        }
        values[at] = value;
        rows[at] = id;
        if !full {
            self.len[neuron] += 1;
        }
    }
}

/// The total order of a list: better value first, then the lower row.
#[inline(always)]
pub(crate) fn precedes<const BOTTOM: bool>(a: (f32, RowId), b: (f32, RowId)) -> bool {
    let (left, right) = (key::<BOTTOM>(a.0), key::<BOTTOM>(b.0));
    left > right || (left == right && a.1 < b.1)
}

/// Whether any value is a hit.
#[inline(always)]
fn any_hit(
    values: &[f32; CHUNK],
    threshold: &[f32; CHUNK],
    hit: impl Fn(f32, f32) -> bool,
) -> bool {
    let mut hits = 0;
    for (&x, &threshold) in values.iter().zip(threshold) {
        hits |= u32::from(hit(x, threshold));
    }
    hits != 0
}
