//! Sums, squares, ranges and firing counts of the CPU device.
//! Oracle: the definition in f64, two passes over the values (O-brute); counts and ranges exact.

use std::sync::Arc;

use electrode::accumulate::Accumulator;
use electrode::accumulate::site::SiteAccumulator;
use electrode::device::cpu::statistics::{Activations, update_all};
use electrode::device::statistics::{SiteStatistics, StatisticsPlan};
use electrode::id::{RowId, Site, SiteKind};

use crate::laws::data::{Data, GROUPS, Random, batch_rows, data, plan, relative};

/// Compares everything that `class_sums` fills, and what `finish` makes of it.
fn check(data: &Data, plan: &StatisticsPlan, statistics: SiteStatistics) {
    let mut accumulator =
        SiteAccumulator::new(Site::global(SiteKind::Embeddings), &Arc::new(plan.clone()));
    accumulator.statistics = statistics.clone();
    let summary = accumulator.finish();
    for group in 0..=GROUPS {
        assert_eq!(statistics.rows[group], data.rows_of(group) as u64);
        for neuron in 0..data.neurons {
            let cell = group * data.neurons + neuron;
            let values: Vec<f32> = data.values(group, neuron).iter().map(|v| v.0).collect();
            let n = values.len() as f64;
            assert_eq!(summary.count[cell], values.len() as u64, "count of {group}, {neuron}");
            let firing = values.iter().filter(|&&x| x > 0.0).count();
            assert_eq!(statistics.firing[cell], firing as u64);
            let min = values.iter().copied().fold(f32::INFINITY, f32::min);
            let max = values.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            assert_eq!((statistics.min[cell], statistics.max[cell]), (min, max));
            let shift = f64::from(plan.shift[neuron]);
            let sum: f64 = values.iter().map(|&x| f64::from(x) - shift).sum();
            let square: f64 = values.iter().map(|&x| (f64::from(x) - shift).powi(2)).sum();
            assert!(relative(statistics.sum[cell], sum, 1.0) <= 1e-12);
            assert!(relative(statistics.square[cell], square, 1e-300) <= 1e-12);
            if values.is_empty() {
                assert_eq!((summary.mean[cell], summary.variance[cell]), (0.0, 0.0));
                continue;
            }
            let mean = values.iter().map(|&x| f64::from(x)).sum::<f64>() / n;
            let variance = values.iter().map(|&x| (f64::from(x) - mean).powi(2)).sum::<f64>() / n;
            assert!(relative(summary.mean[cell], mean, 1e-3) <= 1e-6);
            assert!(relative(summary.variance[cell], variance, 1e-6) <= 1e-6);
        }
    }
}

#[test]
fn matches_the_double_loop() {
    // 1, a part of a register, one register, one and a part, a chunk, a chunk and more.
    for (neurons, rows) in [(1, 40), (5, 90), (16, 33), (19, 61), (64, 50), (150, 70), (3, 0)] {
        let data = data(neurons as u64, rows, neurons);
        let plan = plan(neurons, 8);
        check(&data, &plan, data.statistics(&plan, 0..rows));
    }
}

#[test]
fn bits_do_not_depend_on_batches_or_threads() {
    let (data, plan) = (data(5, 300, 150), plan(150, 8));
    let want = data.statistics(&plan, 0..300);
    for threads in [1, 2, 7] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        for batch in [1, 7, 300] {
            let mut ours = SiteStatistics::new(&plan);
            pool.install(|| data.fill(&plan, &mut ours, 0..300, batch));
            assert_eq!(ours, want, "{threads} threads, batches of {batch}");
        }
    }
}

#[test]
fn rows_are_taken_from_where_they_stand() {
    let (data, plan) = (data(6, 20, 18), plan(18, 8));
    let want = data.statistics(&plan, 0..20);
    // The same rows spread backwards over a wider matrix, full of NaN elsewhere.
    let stride = 23;
    let mut x = vec![f32::NAN; 60 * stride];
    let source: Vec<u32> = (0..20).map(|row| 59 - 3 * row).collect();
    for (row, &at) in source.iter().enumerate() {
        x[at as usize * stride..][..18].copy_from_slice(&data.x[row * 18..][..18]);
    }
    let mut starts = vec![0];
    let groups = data.groups.concat();
    for of in &data.groups {
        starts.push(starts.last().unwrap() + of.len() as u32);
    }
    let rows = batch_rows(&data.ids, Some(&source), (starts, groups), GROUPS);
    let mut ours = SiteStatistics::new(&plan);
    update_all(&plan, &mut ours, &rows, Activations { x: &x, stride });
    assert_eq!(ours, want);
}

#[test]
fn values_that_are_not_finite_are_counted_and_kept_out() {
    let clean = data(7, 120, 70);
    let plan = plan(70, 8);
    let untouched = clean.statistics(&plan, 0..120);
    let mut random = Random(8);
    for _ in 0..30 {
        let mut data = clean.clone();
        let mut placed = vec![0; (GROUPS + 1) * 70];
        for _ in 0..1 + random.below(5) {
            let (row, neuron) = (random.below(120) as usize, random.below(70) as usize);
            let bad = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY][random.below(3) as usize];
            if std::mem::replace(&mut data.x[row * 70 + neuron], bad).is_finite() {
                placed[neuron] += 1;
                for &group in &data.groups[row] {
                    placed[(group as usize + 1) * 70 + neuron] += 1;
                }
            }
        }
        let ours = data.statistics(&plan, 0..120);
        assert_eq!(ours.non_finite, placed);
        for cell in (0..placed.len()).filter(|cell| placed[cell % 70] == 0) {
            assert_eq!(ours.sum[cell].to_bits(), untouched.sum[cell].to_bits());
            assert_eq!(ours.square[cell].to_bits(), untouched.square[cell].to_bits());
        }
        check(&data, &plan, ours);
    }
}

#[test]
fn negative_zero_and_denormals_are_values() {
    let values = [-0.0, 0.0, f32::MIN_POSITIVE / 4.0, -f32::MIN_POSITIVE / 4.0, f32::MAX];
    let mut data = data(9, values.len(), 1);
    data.x = values.to_vec();
    let plan = plan(1, 8);
    let ours = data.statistics(&plan, 0..values.len());
    check(&data, &plan, ours.clone());
    assert_eq!(ours.firing[0], 2);
    assert!(ours.square[0].is_finite());
}

#[test]
fn variance_survives_an_offset_of_a_hundred_million_spreads() {
    // float32 steps at 1e4 are 1e-3 apart: a spread of 1e-4 is a rare step up or down.
    let mut random = Random(10);
    let rows = 4000;
    let mut data = data(10, rows, 2);
    for row in 0..rows {
        let step = f32::from(random.below(100) == 0) * 0.000_976_562_5;
        data.x[row * 2] = 1.0e4 + step;
        data.x[row * 2 + 1] = -1.0e4 - step;
    }
    let mut plan = plan(2, 8);
    // As calibration finds it: the mean of a part of the rows, in float32.
    plan.shift = vec![1.0e4, -1.0e4];
    let ours = data.statistics(&plan, 0..rows);
    let mut accumulator = SiteAccumulator::new(Site::global(SiteKind::Embeddings), &Arc::new(plan));
    accumulator.statistics = ours;
    let summary = accumulator.finish();
    for neuron in 0..2 {
        let values = data.values(0, neuron);
        let mean = values.iter().map(|v| f64::from(v.0)).sum::<f64>() / rows as f64;
        let variance = values.iter().map(|v| (f64::from(v.0) - mean).powi(2)).sum::<f64>();
        let variance = variance / rows as f64;
        assert!(variance > 1e-9, "the data vary");
        assert!((summary.mean[neuron] - mean).abs() <= 1e-11 * mean.abs());
        assert!(relative(summary.variance[neuron], variance, 0.0) <= 1e-5);
    }
}

#[test]
#[should_panic(expected = "beyond the activations")]
fn a_row_outside_the_activations_is_a_broken_invariant() {
    let plan = plan(2, 0);
    let rows = batch_rows(&[RowId(0)], Some(&[3]), (vec![0, 0], vec![]), GROUPS);
    let x = Activations { x: &[0.0; 6], stride: 2 };
    update_all(&plan, &mut SiteStatistics::new(&plan), &rows, x);
}
