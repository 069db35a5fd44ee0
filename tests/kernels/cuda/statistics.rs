//! class_sums, histogram, top_tokens, sample_rows: batches of a site into its statistics.
//! Oracle: the CPU device on the values as the GPU holds them, bit for bit.

use std::sync::Arc;

use electrode::device::cpu::CpuDevice;
use electrode::device::cuda::{CudaDevice, Element};
use electrode::device::ops::Ops;
use electrode::device::rows::BatchRows;
use electrode::device::statistics::{SiteStatistics, StatisticsPlan, TopTokens};
use electrode::id::RowId;

use crate::cuda::on_both;
use crate::laws::data::{Random, batch_rows};
use crate::tensors::{read, tensor};

/// What is collected from how many rows, and how those are cut into batches.
#[derive(Clone, Copy)]
struct Case {
    rows: usize,
    neurons: usize,
    groups: usize,
    bins: usize,
    /// Kept largest values, and one more than the kept smallest.
    top: usize,
    sample: usize,
    /// Rows of a batch, of the next one twice as many, and so on.
    batch: usize,
}

const SMALL: Case =
    Case { rows: 90, neurons: 33, groups: 5, bins: 64, top: 7, sample: 9, batch: 90 };

/// Rows with their groups.
struct Corpus {
    x: Vec<f32>,
    ids: Vec<RowId>,
    groups: Vec<Vec<u32>>,
}

/// Neurons that are smooth, 0 half of the time (of either sign), rounded, tiny, huge or constant.
fn value(random: &mut Random, neuron: usize) -> f32 {
    let x = random.normal();
    match neuron % 7 {
        0 | 1 => x + neuron as f32 * 0.1,
        2 if x < 0.0 => [0.0, -0.0][random.below(2) as usize],
        2 => x,
        3 => (2.0 * x).round(),
        4 => x * 1e-40,
        5 => x * 8e37,
        _ => 0.25,
    }
}

/// Rows with no group, one, or several; values that are not finite where asked for.
fn corpus(case: &Case, not_finite: bool) -> Corpus {
    let mut random = Random(case.rows as u64 * 31 + case.neurons as u64);
    let mut corpus = Corpus { x: vec![], ids: vec![], groups: vec![] };
    for row in 0..case.rows {
        corpus.ids.push(RowId::new(row as u64 / 9, row as u64 % 9 * 3));
        let mut groups: Vec<u32> = (0..random.below(4))
            .filter(|_| case.groups > 0)
            // The first group has more than half of all rows.
            .map(|_| random.below(2 * case.groups as u64).saturating_sub(case.groups as u64) as u32)
            .collect();
        groups.sort_unstable();
        groups.dedup();
        corpus.groups.push(groups);
        for neuron in 0..case.neurons {
            let bad = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY][random.below(3) as usize];
            let x = value(&mut random, neuron);
            corpus.x.push(if not_finite && random.below(50) == 0 { bad } else { x });
        }
    }
    corpus
}

fn plan(case: &Case) -> Arc<StatisticsPlan> {
    let edge = |neuron: usize, bin: usize| match neuron % 7 {
        4 => (bin as f32 - 5.0) * 1e-41,
        5 => (bin as f32 / case.bins as f32 - 0.5) * 2e38,
        _ => (bin as f32 / case.bins as f32 - 0.5) * 5.0,
    };
    let bins = 1..case.bins.max(1);
    Arc::new(StatisticsPlan {
        neurons: case.neurons,
        groups: case.groups,
        bins: case.bins,
        edges: (0..case.neurons).flat_map(|n| bins.clone().map(move |b| edge(n, b))).collect(),
        shift: (0..case.neurons).map(|neuron| neuron as f32 * 0.1 - 0.3).collect(),
        top: case.top,
        bottom: case.top.saturating_sub(1),
        sample: case.sample,
        sample_seed: 5,
    })
}

/// Rows `range` of a corpus, as rows of a batch that stand in another order, after a row of large
/// values and one of NaN that no list names.
fn batch(corpus: &Corpus, case: &Case, range: std::ops::Range<usize>) -> (BatchRows, Vec<f32>) {
    let (len, cols) = (range.len(), case.neurons);
    let mut starts = vec![0];
    for of in &corpus.groups[range.clone()] {
        starts.push(starts.last().expect("one") + of.len() as u32);
    }
    let groups = corpus.groups[range.clone()].concat();
    let source: Vec<u32> = (0..len as u32).rev().map(|row| row + 2).collect();
    let mut x = vec![f32::NAN; (len + 2) * cols];
    x[..cols].fill(3e38);
    for (row, &at) in range.clone().zip(&source) {
        let to = at as usize * cols;
        x[to..to + cols].copy_from_slice(&corpus.x[row * cols..(row + 1) * cols]);
    }
    (batch_rows(&corpus.ids[range], Some(&source), (starts, groups), case.groups), x)
}

/// The same batches on the GPU and on the CPU.
fn both(device: &CudaDevice, case: &Case, corpus: &Corpus) -> [SiteStatistics; 2] {
    let plan = plan(case);
    let mut ours = device.statistics(&plan).expect("memory");
    let mut wanted = CpuDevice::F32.statistics(&plan).expect("memory");
    let (mut start, mut size) = (0, case.batch);
    while start < case.rows {
        let end = (start + size).min(case.rows);
        let (rows, x) = batch(corpus, case, start..end);
        let x = tensor(device, case.neurons, &x);
        device.update_statistics(&mut ours, &rows, &x);
        // The values as the device holds them.
        let x = tensor(&CpuDevice::F32, case.neurons, &read(device, &x));
        CpuDevice::F32.update_statistics(&mut wanted, &rows, &x);
        device.check().expect("the batch went well");
        (start, size) = (end, size * 2);
    }
    [
        device.take_statistics(ours).expect("a download"),
        CpuDevice::F32.take_statistics(wanted).expect("on the host"),
    ]
}

/// Equal to the bit: zeros have signs, and rows of a sample may hold NaN.
fn assert_same(got: &SiteStatistics, want: &SiteStatistics, what: &str) {
    let doubles = |x: &[f64]| x.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
    let floats = |x: &[f32]| x.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
    assert_eq!(got.rows, want.rows, "{what}");
    assert_eq!(got.non_finite, want.non_finite, "{what}");
    assert_eq!(got.firing, want.firing, "{what}");
    assert_eq!(floats(&got.min), floats(&want.min), "min, {what}");
    assert_eq!(floats(&got.max), floats(&want.max), "max, {what}");
    assert_eq!(doubles(&got.sum), doubles(&want.sum), "sum, {what}");
    assert_eq!(doubles(&got.square), doubles(&want.square), "square, {what}");
    assert!(got.histogram == want.histogram, "histogram, {what}");
    let lists = |x: &TopTokens| (x.k, x.len.clone(), x.rows.clone(), floats(&x.values));
    assert_eq!(lists(&got.top), lists(&want.top), "top, {what}");
    assert_eq!(lists(&got.bottom), lists(&want.bottom), "bottom, {what}");
    let (ours, wanted) = (&got.sample, &want.sample);
    assert_eq!((&ours.hashes, &ours.rows), (&wanted.hashes, &wanted.rows), "{what}");
    assert_eq!((&ours.group_starts, &ours.groups), (&wanted.group_starts, &wanted.groups));
    // A NaN keeps its kind in f32, and only that in bf16.
    for (x, y) in ours.values.iter().zip(&wanted.values) {
        assert!(x.to_bits() == y.to_bits() || (x.is_nan() && y.is_nan()), "sample, {what}");
    }
    assert_eq!(ours.values.len(), wanted.values.len());
}

fn check(case: Case) {
    for not_finite in [false, true] {
        let corpus = corpus(&case, not_finite);
        on_both(|device, element: Element| {
            let [ours, wanted] = both(device, &case, &corpus);
            let Case { rows, neurons, groups, bins, top, batch, .. } = case;
            let what = format!(
                "{rows} x {neurons}, {groups} groups, {bins} bins, top {top}, batches of {batch}, \
                 {element:?}, not finite: {not_finite}"
            );
            assert_same(&ours, &wanted, &what);
        });
    }
}

#[test]
fn statistics_are_those_of_the_cpu() {
    check(Case { rows: 1, neurons: 1, groups: 0, bins: 2, top: 1, sample: 1, batch: 1 });
    check(Case { rows: 61, neurons: 1, batch: 20, ..SMALL });
    check(Case { rows: 9, neurons: 32, groups: 1, bins: 1, batch: 4, ..SMALL });
    check(SMALL);
    check(Case { groups: 0, bins: 65, ..SMALL });
}

#[test]
fn several_tiles_and_batches() {
    check(Case { rows: 1500, bins: 64, top: 20, sample: 100, batch: 1500, ..SMALL });
    check(Case { rows: 1500, top: 1, batch: 190, ..SMALL });
}

#[test]
fn many_groups_share_a_block_of_fewer_neurons() {
    check(Case { rows: 300, neurons: 34, groups: 130, bins: 100, batch: 77, ..SMALL });
}

#[test]
fn counts_and_lists_beyond_shared_memory() {
    check(Case { rows: 60, neurons: 5, groups: 1000, bins: 64, batch: 40, ..SMALL });
    check(Case { rows: 500, neurons: 3, top: 400, bins: 0, batch: 200, ..SMALL });
}

#[test]
fn more_neurons_than_blocks_at_a_time() {
    check(Case { rows: 10, neurons: 4300, groups: 2, bins: 0, top: 2, sample: 3, batch: 10 });
}

#[test]
fn moments_alone() {
    check(Case { bins: 0, top: 0, sample: 0, batch: 31, ..SMALL });
}

#[test]
fn bits_do_not_depend_on_how_rows_are_cut() {
    let case = Case { rows: 700, neurons: 40, top: 5, ..SMALL };
    for not_finite in [false, true] {
        let corpus = corpus(&case, not_finite);
        on_both(|device, element| {
            let whole = Case { batch: 700, ..case };
            let [want, _] = both(device, &whole, &corpus);
            for batch in [1, 13, 333] {
                let [got, _] = both(device, &Case { batch, ..case }, &corpus);
                assert_same(&got, &want, &format!("{element:?}, batches of {batch}"));
            }
        });
    }
}

#[test]
fn rows_out_of_order_tie_as_on_the_cpu() {
    let case = Case { rows: 200, batch: 40, ..SMALL };
    let mut corpus = corpus(&case, false);
    Random(3).shuffle(&mut corpus.ids);
    on_both(|device, element| {
        let [ours, wanted] = both(device, &case, &corpus);
        assert_same(&ours, &wanted, &format!("shuffled rows, {element:?}"));
    });
}

#[test]
fn no_rows_are_no_statistics() {
    on_both(|device, _| {
        let [ours, wanted] = both(device, &Case { rows: 0, ..SMALL }, &corpus(&SMALL, false));
        assert_same(&ours, &wanted, "no rows");
        let plan = plan(&SMALL);
        let mut ours = device.statistics(&plan).expect("memory");
        let (rows, x) = batch(&corpus(&SMALL, false), &SMALL, 0..0);
        device.update_statistics(&mut ours, &rows, &tensor(device, 33, &x));
        assert_same(&device.take_statistics(ours).expect("a download"), &wanted, "an empty batch");
    });
}
