//! Histograms of the CPU device.
//! Oracle: the definition, bin = number of edges e with x > e, value by value; counts exact.

use std::sync::Arc;

use electrode::device::cpu::CpuDevice;
use electrode::device::ops::Ops as _;
use electrode::device::statistics::StatisticsPlan;
use electrode::hash::mix;
use electrode::id::RowId;

use crate::laws::data::{Data, GROUPS, batch_rows, data, plan};

fn brute(data: &Data, plan: &StatisticsPlan) -> Vec<u32> {
    let mut counts = vec![0; data.neurons * (GROUPS + 1) * plan.bins];
    for neuron in 0..data.neurons {
        let edges = &plan.edges[neuron * (plan.bins - 1)..(neuron + 1) * (plan.bins - 1)];
        for group in 0..=GROUPS {
            for (x, _) in data.values(group, neuron) {
                let bin = edges.iter().filter(|&&edge| x > edge).count();
                counts[(neuron * (GROUPS + 1) + group) * plan.bins + bin] += 1;
            }
        }
    }
    counts
}

#[test]
fn matches_the_definition() {
    // Few rows and many take different roads; 65 bins and more are searched otherwise.
    for (neurons, rows) in [(1, 3), (17, 40), (70, 600)] {
        for bins in [1, 2, 8, 63, 64, 65, 200] {
            let data = data(bins as u64, rows, neurons);
            let plan = plan(neurons, bins);
            for batch in [50, rows] {
                let mut ours = electrode::device::statistics::SiteStatistics::new(&plan);
                data.fill(&plan, &mut ours, 0..rows, batch);
                assert!(ours.histogram == brute(&data, &plan), "{bins} bins, {rows} rows");
            }
        }
    }
}

#[test]
fn a_tile_border_loses_no_row() {
    let (data, plan) = (data(3, 4100, 2), plan(2, 64));
    let mut ours = electrode::device::statistics::SiteStatistics::new(&plan);
    data.fill(&plan, &mut ours, 0..4100, 4100);
    assert!(ours.histogram == brute(&data, &plan));
}

#[test]
fn an_edge_belongs_to_the_bin_below_it() {
    let mut data = data(1, 3, 1);
    let mut plan = plan(1, 2);
    plan.edges = vec![1.0];
    data.x = vec![1.0, 1.0_f32.next_up(), 1.0_f32.next_down()];
    assert_eq!(data.statistics(&plan, 0..3).histogram[..2], [2, 1]);
}

#[test]
fn values_that_are_not_finite_have_no_bin() {
    let mut data = data(2, 200, 20);
    for (at, bad) in [(0, f32::NAN), (45, f32::INFINITY), (1999, f32::NEG_INFINITY)] {
        data.x[at] = bad;
    }
    for bins in [8, 100] {
        let plan = plan(20, bins);
        assert!(data.statistics(&plan, 0..200).histogram == brute(&data, &plan));
    }
}

#[test]
fn bins_that_wait_are_counted_as_those_that_do_not() {
    // 151 groups of 64 bins are counted 8,192 rows at a time: several fillings, a batch that does not
    // fit into the rest of one, and a rest at the end. 10 groups are counted at once.
    for (groups, bins, neurons) in [(151_u32, 64, 19), (100, 255, 2), (100, 256, 2), (10, 64, 3)] {
        let rows = 18_500_usize;
        let hash = |a: usize, b: u64| mix(mix(a as u64 + 1) ^ b);
        let value = |row: usize, neuron: usize| match hash(row, neuron as u64) {
            0..=0x000f_ffff_ffff_ffff => f32::NAN,
            bits => (bits >> 44) as f32 / 20_000.0,
        };
        let edge = |at: usize| (at / (bins - 1) + at % (bins - 1)) as f32;
        let plan = Arc::new(StatisticsPlan {
            neurons,
            groups: groups as usize,
            bins,
            edges: (0..neurons * (bins - 1)).map(edge).collect(),
            shift: vec![0.0; neurons],
            top: 0,
            bottom: 0,
            sample: 0,
            sample_seed: 0,
        });
        // Two label columns, the groups of one below those of the other; some rows have neither.
        let groups_of = |row: usize| {
            let (one, two) = (hash(row, 77) as u32 % groups, hash(row, 78) as u32 % groups);
            let first = (one < groups / 2).then_some(one);
            first.into_iter().chain((two >= groups / 2).then_some(two)).collect::<Vec<_>>()
        };
        let mut want = vec![0_u32; neurons * (groups as usize + 1) * bins];
        for (row, neuron) in (0..rows).flat_map(|row| (0..neurons).map(move |n| (row, n))) {
            let x = value(row, neuron);
            if !x.is_finite() {
                continue;
            }
            let edges = &plan.edges[neuron * (bins - 1)..][..bins - 1];
            let bin = edges.iter().filter(|&&edge| x > edge).count();
            for group in std::iter::once(0).chain(groups_of(row).into_iter().map(|g| g + 1)) {
                want[(neuron * (groups as usize + 1) + group as usize) * bins + bin] += 1;
            }
        }
        let device = CpuDevice::F32;
        let mut running = device.statistics(&plan).expect("memory");
        let mut start = 0;
        for size in [3000, 5000, 400, 9000, 1, 1099] {
            let rows = start..start + size;
            let (mut starts, mut list) = (vec![0], Vec::new());
            for row in rows.clone() {
                list.extend(groups_of(row));
                starts.push(list.len() as u32);
            }
            let ids: Vec<RowId> = rows.clone().map(|row| RowId(row as u64)).collect();
            let batch = batch_rows(&ids, None, (starts, list), groups as usize);
            let values: Vec<f32> =
                rows.clone().flat_map(|row| (0..neurons).map(move |n| value(row, n))).collect();
            let mut x = device.tensor(size, neurons).expect("memory");
            device.set_rows(&mut x, size);
            device.write(&mut x, &values).expect("a tensor");
            device.update_statistics(&mut running, &batch, &x);
            start += size;
        }
        assert_eq!(start, rows);
        let ours = device.take_statistics(running).expect("statistics");
        assert!(ours.non_finite.iter().sum::<u32>() > 0);
        assert!(ours.histogram == want, "{groups} groups, {bins} bins");
    }
}
