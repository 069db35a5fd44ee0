//! class_sums: sums, sums of squares, range and firing counts of every neuron in every group
//! (A1 to A4 of the accumulators).
//!
//! For one group and 16 neurons the running values stay in registers while the group's rows go
//! by; each value is read once per group it belongs to, from the second-level cache.
//! Cost per value and group: 2 conversions, 2 differences, 2 products, 4 sums (in vectors of 8),
//! min, max and a compare.

use std::ops::Range;

use super::simd::{ColumnBlock, split_columns};
use super::statistics::{CHUNK, Packed};
use crate::device::rows::Tile;
use crate::device::statistics::StatisticsPlan;

/// Neurons whose running values are held in registers.
const LANES: usize = 16;

/// The class sums of some neighbouring neurons.
pub(crate) struct ClassSums<'a> {
    shift: &'a [f32],
    sum: ColumnBlock<'a, f64>,
    square: ColumnBlock<'a, f64>,
    min: ColumnBlock<'a, f32>,
    max: ColumnBlock<'a, f32>,
    firing: ColumnBlock<'a, u64>,
    non_finite: ColumnBlock<'a, u32>,
}

/// Running values of `L` neurons in one group.
#[derive(Clone, Copy)]
struct Running<const L: usize> {
    sum: [f64; L],
    square: [f64; L],
    min: [f32; L],
    max: [f32; L],
    firing: [u32; L],
}

impl<const L: usize> Running<L> {
    /// Adds one row of finite values.
    #[expect(clippy::needless_range_loop, reason = "lane by lane, as the vectors will do it")]
    #[inline(always)]
    fn add(&mut self, x: &[f32; L], shift: &[f64; L]) {
        // One short loop per field: each becomes one or two vector instructions on registers.
        let mut difference = [0.0; L];
        for i in 0..L {
            difference[i] = f64::from(x[i]) - shift[i];
        }
        for i in 0..L {
            self.sum[i] += difference[i];
        }
        for i in 0..L {
            self.square[i] += difference[i] * difference[i];
        }
        for i in 0..L {
            self.min[i] = if x[i] < self.min[i] { x[i] } else { self.min[i] };
        }
        for i in 0..L {
            self.max[i] = if x[i] > self.max[i] { x[i] } else { self.max[i] };
        }
        for i in 0..L {
            self.firing[i] += u32::from(x[i] > 0.0);
        }
    }
}

impl<'a> ClassSums<'a> {
    /// Cuts the arrays of a site, `[G1, N]` each, into chunks of neurons.
    pub(crate) fn split(
        plan: &'a StatisticsPlan,
        sums: (&'a mut [f64], &'a mut [f64]),
        range: (&'a mut [f32], &'a mut [f32]),
        counts: (&'a mut [u64], &'a mut [u32]),
    ) -> Vec<Self> {
        let n = plan.neurons;
        let mut square = split_columns(sums.1, n, CHUNK).into_iter();
        let mut min = split_columns(range.0, n, CHUNK).into_iter();
        let mut max = split_columns(range.1, n, CHUNK).into_iter();
        let mut firing = split_columns(counts.0, n, CHUNK).into_iter();
        let mut non_finite = split_columns(counts.1, n, CHUNK).into_iter();
        let same = "all arrays have the same columns";
        split_columns(sums.0, n, CHUNK)
            .into_iter()
            .zip(plan.shift.chunks(CHUNK))
            .map(|(sum, shift)| Self {
                shift,
                sum,
                square: square.next().expect(same),
                min: min.next().expect(same),
                max: max.next().expect(same),
                firing: firing.next().expect(same),
                non_finite: non_finite.next().expect(same),
            })
            .collect()
    }

    /// Adds a tile of rows.
    #[inline(always)]
    pub(crate) fn update(&mut self, tile: &Tile, x: Packed<'_>) {
        let whole = x.len / LANES * LANES;
        for at in (0..whole).step_by(LANES) {
            self.update_lanes::<LANES>(tile, x, at);
        }
        for at in whole..x.len {
            self.update_lanes::<1>(tile, x, at);
        }
    }

    /// Adds a tile to `L` neurons from the `at`-th on.
    #[inline(always)]
    fn update_lanes<const L: usize>(&mut self, tile: &Tile, x: Packed<'_>, at: usize) {
        for group in 0..tile.groups1() {
            let members = tile.members(group);
            if group + 1 < tile.groups1() {
                self.expect(group + 1, at..at + L);
            }
            // Group 0 sees every row: were all its values finite, so are those of the others.
            if !members.is_empty() && !self.add_finite::<L>(group, members, x, at) {
                return self.update_checked::<L>(tile, x, at);
            }
        }
    }

    /// Adds the members of a group. One value that is not finite makes the sum of squares so
    /// for good (finite float32 values cannot overflow it): nothing is then kept and false says so.
    #[inline(always)]
    fn add_finite<const L: usize>(
        &mut self,
        group: usize,
        members: &[u32],
        x: Packed<'_>,
        at: usize,
    ) -> bool {
        let shift = self.shift_lanes::<L>(at);
        let mut running = Running {
            sum: lanes(self.sum.row(group), at),
            square: lanes(self.square.row(group), at),
            min: lanes(self.min.row(group), at),
            max: lanes(self.max.row(group), at),
            firing: [0; L],
        };
        for &row in members {
            running.add(&lanes(&x.rows[row as usize], at), &shift);
        }
        if !running.square.iter().all(|square| square.is_finite()) {
            return false;
        }
        self.sum.row(group)[at..at + L].copy_from_slice(&running.sum);
        self.square.row(group)[at..at + L].copy_from_slice(&running.square);
        self.min.row(group)[at..at + L].copy_from_slice(&running.min);
        self.max.row(group)[at..at + L].copy_from_slice(&running.max);
        for (firing, add) in self.firing.row(group)[at..at + L].iter_mut().zip(running.firing) {
            *firing += u64::from(add);
        }
        true
    }

    /// Adds the tile value by value, counting those that are not finite and keeping them out.
    #[cold]
    #[inline(never)]
    fn update_checked<const L: usize>(&mut self, tile: &Tile, x: Packed<'_>, at: usize) {
        let shift = self.shift_lanes::<L>(at);
        for group in 0..tile.groups1() {
            for &row in tile.members(group) {
                let values: [f32; L] = lanes(&x.rows[row as usize], at);
                for lane in 0..L {
                    if values[lane].is_finite() {
                        self.add_one(group, at + lane, values[lane], shift[lane]);
                    } else {
                        self.non_finite.row(group)[at + lane] += 1;
                    }
                }
            }
        }
    }

    /// Adds one finite value, with the same operations as [`Running::add`].
    fn add_one(&mut self, group: usize, neuron: usize, x: f32, shift: f64) {
        let mut one = Running {
            sum: [self.sum.row(group)[neuron]],
            square: [self.square.row(group)[neuron]],
            min: [self.min.row(group)[neuron]],
            max: [self.max.row(group)[neuron]],
            firing: [0],
        };
        one.add(&[x], &[shift]);
        self.sum.row(group)[neuron] = one.sum[0];
        self.square.row(group)[neuron] = one.square[0];
        self.min.row(group)[neuron] = one.min[0];
        self.max.row(group)[neuron] = one.max[0];
        self.firing.row(group)[neuron] += u64::from(one.firing[0]);
    }

    /// The rows of groups lie pages apart: the processor does not ask for the next one by itself.
    #[inline(always)]
    fn expect(&self, group: usize, columns: Range<usize>) {
        self.sum.expect(group, columns.clone());
        self.square.expect(group, columns.clone());
        self.min.expect(group, columns.clone());
        self.max.expect(group, columns.clone());
        self.firing.expect(group, columns);
    }

    #[inline(always)]
    fn shift_lanes<const L: usize>(&self, at: usize) -> [f64; L] {
        lanes::<f32, L>(self.shift, at).map(f64::from)
    }
}

/// `L` elements from the `at`-th on.
#[inline(always)]
fn lanes<T: Copy, const L: usize>(row: &[T], at: usize) -> [T; L] {
    *row[at..].first_chunk().expect("a chunk has all its lanes")
}
