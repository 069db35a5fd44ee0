//! Largest and smallest values of each neuron.
//! Oracle: all values sorted by (value, then lower row), the first k.

use electrode::device::statistics::{SiteStatistics, TopTokens};
use electrode::id::RowId;

use crate::laws::data::{Data, Random, data, plan};

fn check(data: &Data, ours: &TopTokens, smallest: bool) {
    for neuron in 0..data.neurons {
        let mut want = data.values(0, neuron);
        want.sort_by(|a, b| {
            let by_value = b.0.partial_cmp(&a.0).unwrap();
            (if smallest { by_value.reverse() } else { by_value }).then(a.1.cmp(&b.1))
        });
        want.truncate(ours.k);
        let (values, rows) = ours.list(neuron);
        let ours: Vec<(f32, RowId)> = values.iter().copied().zip(rows.iter().copied()).collect();
        assert_eq!(ours, want, "neuron {neuron}, smallest: {smallest}");
    }
}

#[test]
fn matches_a_full_sort() {
    for (rows, neurons) in [(0, 3), (3, 3), (6, 70), (300, 70)] {
        let (data, plan) = (data(rows as u64, rows, neurons), plan(neurons, 0));
        let ours = data.statistics(&plan, 0..rows);
        check(&data, &ours.top, false);
        check(&data, &ours.bottom, true);
    }
}

#[test]
fn order_of_rows_and_batches_does_not_matter() {
    let (mut data, plan) = (data(4, 200, 12), plan(12, 0));
    let want = data.statistics(&plan, 0..200);
    let mut random = Random(1);
    for batch in [1, 9, 200] {
        let mut order: Vec<usize> = (0..200).collect();
        random.shuffle(&mut order);
        let shuffled = order.iter().flat_map(|&row| data.x[row * 12..][..12].to_vec()).collect();
        data.ids = order.iter().map(|&row| data.ids[row]).collect();
        data.groups = order.iter().map(|&row| data.groups[row].clone()).collect();
        data.x = shuffled;
        let mut ours = SiteStatistics::new(&plan);
        data.fill(&plan, &mut ours, 0..200, batch);
        assert_eq!((&ours.top, &ours.bottom), (&want.top, &want.bottom));
        assert_eq!(ours.sample, want.sample);
    }
}

#[test]
fn equal_values_go_to_the_lower_row() {
    let mut data = data(5, 50, 2);
    data.x = vec![0.0; 100];
    data.x[2 * 30] = -0.0;
    let ours = data.statistics(&plan(2, 0), 0..50);
    check(&data, &ours.top, false);
    check(&data, &ours.bottom, true);
    assert_eq!(ours.top.list(0).1, &data.ids[..6]);
}

#[test]
fn values_that_are_not_finite_are_never_kept() {
    let mut data = data(6, 40, 3);
    for row in 0..38 {
        data.x[row * 3] = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY][row % 3];
    }
    let ours = data.statistics(&plan(3, 0), 0..40);
    check(&data, &ours.top, false);
    check(&data, &ours.bottom, true);
    assert_eq!(ours.top.len, [2, 6, 6]);
}
