//! Histograms of the CPU device.
//! Oracle: the definition, bin = number of edges e with x > e, value by value; counts exact.

use electrode::device::statistics::StatisticsPlan;

use crate::laws::data::{Data, GROUPS, data, plan};

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
