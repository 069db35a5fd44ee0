//! Moments of hard data, and values that are no numbers.
//! Oracle: exact sums of whole numbers (`exact.rs`); plain loops over the values that are finite.

use electrode::accumulate::Accumulator as _;
use electrode::accumulate::site::SiteAccumulator;
use electrode::device::statistics::{SiteStatistics, StatisticsPlan};
use electrode::id::{RowId, Site, SiteKind};
use rayon::prelude::*;
use std::sync::Arc;

use crate::data::{Data, Random, data, plan};
use crate::exact::Exact;
use crate::figures::{cases, folder, hold};

/// Half the distance between 1 and the next f64.
const U: f64 = f64::EPSILON / 2.0;
/// Kinds of hard data.
const KINDS: u64 = 8;

/// One set, by its kind.
fn hard(kind: u64, rows: usize, random: &mut Random) -> Vec<f32> {
    let scale = 10.0_f32.powi(random.below(60) as i32 - 30);
    let large = random.below(rows as u64) as usize;
    let mut value = |at: usize| {
        let x = random.normal();
        match kind {
            // Ten steps of f32 around an offset of 10^4.
            0 => 1e4 + 1e-2 * x,
            1 => {
                if at.is_multiple_of(2) {
                    1e30
                } else {
                    -1e30
                }
            }
            2 => {
                if at == large {
                    1e30
                } else {
                    x
                }
            }
            3 => scale * x,
            4 => 3e38 * x.clamp(-1.0, 1.0),
            // Denormal numbers.
            5 => f32::from_bits(random.below(1 << 20) as u32),
            6 => scale * (1.0 + 1e-3 * x),
            // As a ReLU gives them.
            _ => x.max(0.0),
        }
    };
    (0..rows).map(&mut value).collect()
}

/// What a calibration takes for the shift: the mean of the first rows, as f32.
fn shift(values: &[f32]) -> f32 {
    let first = &values[..values.len().min(32)];
    let sum: f64 = first.iter().map(|x| f64::from(*x)).sum();
    (sum / first.len() as f64) as f32
}

/// Mean and variance by the real accumulator on the CPU, block by block and merged.
fn moments(values: &[f32], cuts: usize, shift: f32) -> (f64, f64) {
    let rows = values.len();
    let plan = Arc::new(StatisticsPlan {
        neurons: 1,
        groups: 0,
        bins: 0,
        edges: Vec::new(),
        shift: vec![shift],
        top: 0,
        bottom: 0,
        sample: 0,
        sample_seed: 0,
    });
    let ids = (0..rows as u64).map(|at| RowId::new(at, 0)).collect();
    let data = Data { neurons: 1, ids, groups: vec![Vec::new(); rows], x: values.to_vec() };
    let mut whole = SiteStatistics::new(&plan);
    for part in 0..cuts {
        let mut block = SiteStatistics::new(&plan);
        data.fill(&plan, &mut block, part * rows / cuts..(part + 1) * rows / cuts, 50);
        whole.merge(block, &plan).expect("of one plan");
    }
    let site = Site::global(SiteKind::Embeddings);
    let summary = SiteAccumulator { site, plan, statistics: whole }.finish();
    (summary.mean[0], summary.variance[0])
}

/// How far one set is from its exact moments, in units of what the table accepts and of what is promised
/// for any data of so many rows.
struct Distance {
    mean: f64,
    variance: f64,
    promised: f64,
}

fn distance(seed: u64) -> Distance {
    let mut random = Random(seed);
    let rows = [3, 10, 32, 100, 300][random.below(5) as usize] + random.below(3) as usize;
    let values = hard(seed % KINDS, rows, &mut random);
    let shift = shift(&values);
    let (mean, variance) = moments(&values, 1 + random.below(4) as usize, shift);
    let exact = Exact::of(&values);
    let (want_mean, want) = (exact.mean(), exact.variance());
    let largest = values.iter().fold(0.0_f64, |most, x| most.max(f64::from(x.abs())));
    let relative = if want > 0.0 { (variance - want).abs() / want } else { variance };
    let kappa = if want > 0.0 { (1.0 + want_mean * want_mean / want).sqrt() } else { 1.0 };
    // Shifted sums of n terms: each loses at most n + 2 half units of Σd² and, through the mean, of
    // (Σ|d|)² / n (Chan, Golub and LeVeque 1983, equation 2.3 with Higham's gamma).
    let off = want_mean - f64::from(shift);
    let condition = if want > 0.0 { 1.0 + off * off / want } else { 1.0 };
    let n = rows as f64;
    Distance {
        // Nothing but zeros has no distance, and no bound either.
        mean: if mean == want_mean { 0.0 } else { (mean - want_mean).abs() / (4.0 * U * largest) },
        variance: relative / (16.0 * kappa * U),
        promised: relative / ((3.0 * n + 8.0) * condition * U),
    }
}

#[test]
fn moments_of_hard_data() {
    let count = cases(1_000, 100_000);
    let all: Vec<Distance> = (0..count).into_par_iter().map(distance).collect();
    let most = |of: fn(&Distance) -> f64| all.iter().map(of).fold(0.0, f64::max);
    let beyond = all.len() - all.iter().filter(|one| one.variance <= 1.0).count();
    eprintln!(
        "mean at most {:.3} of 4u max|x|; variance at most {:.2} of 16 kappa u, {beyond} of {count} beyond it; \
         at most {:.3} of what is promised for n rows",
        most(|one| one.mean),
        most(|one| one.variance),
        most(|one| one.promised)
    );
    let wrong: Vec<String> = all
        .iter()
        .enumerate()
        .filter(|(_, one)| !(one.mean <= 1.0 && one.promised <= 1.0))
        .map(|(seed, one)| format!("{seed}: {} {}", one.mean, one.promised))
        .collect();
    hold("hard data against exact sums: mean and variance within their bounds", count, &wrong);
}

/// What a neuron has, group by group: everything but the sample of rows.
fn of_neuron(statistics: &SiteStatistics, plan: &StatisticsPlan, neuron: usize) -> Vec<u64> {
    let (n, groups) = (plan.neurons, plan.groups + 1);
    let mut out = Vec::new();
    for cell in (0..groups).map(|group| group * n + neuron) {
        out.extend([
            statistics.non_finite[cell].into(),
            statistics.sum[cell].to_bits(),
            statistics.square[cell].to_bits(),
            statistics.min[cell].to_bits().into(),
            statistics.max[cell].to_bits().into(),
            statistics.firing[cell],
        ]);
    }
    let bins = groups * plan.bins;
    out.extend(statistics.histogram[neuron * bins..][..bins].iter().map(|&count| u64::from(count)));
    for lists in [&statistics.top, &statistics.bottom] {
        let (values, rows) = lists.list(neuron);
        out.extend(values.iter().map(|x| u64::from(x.to_bits())));
        out.extend(rows.iter().map(|row| row.0));
    }
    out
}

/// Sums of one neuron's finite values in one group by a plain loop, and how many are none.
fn by_hand(data: &Data, plan: &StatisticsPlan, (group, neuron): (usize, usize)) -> [u64; 3] {
    let (mut sum, mut square, mut bad) = (0.0_f64, 0.0_f64, 0);
    let shift = f64::from(plan.shift[neuron]);
    for row in 0..data.ids.len() {
        let inside = group == 0 || data.groups[row].contains(&(group as u32 - 1));
        let x = data.x[row * data.neurons + neuron];
        match (inside, x.is_finite()) {
            (true, true) => {
                let d = f64::from(x) - shift;
                sum += d;
                square += d * d;
            }
            (true, false) => bad += 1,
            (false, _) => {}
        }
    }
    [bad, sum.to_bits(), square.to_bits()]
}

/// Odd values at some places of a small set.
fn placed(seed: u64) -> Option<String> {
    const ODD: [f32; 8] =
        [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, -0.0, 1e-45, -1e-45, 1.1e-38, f32::MAX];
    let mut random = Random(seed ^ 0xdd);
    let plan = plan(19, 6);
    let clean = data(seed % 16, 24, 19);
    let mut odd = clean.clone();
    let mut touched = [false; 19];
    for _ in 0..1 + random.below(6) {
        let (row, neuron) = (random.below(24) as usize, random.below(19) as usize);
        odd.x[row * 19 + neuron] = ODD[random.below(8) as usize];
        touched[neuron] = true;
    }
    let batch = 1 + random.below(24) as usize;
    let fill = |data: &Data| {
        let mut statistics = SiteStatistics::new(&plan);
        data.fill(&plan, &mut statistics, 0..24, batch);
        statistics
    };
    let (want, ours) = (fill(&clean), fill(&odd));
    if want.rows != ours.rows {
        return Some(format!("seed {seed}: rows"));
    }
    let wrong = |neuron: usize| {
        if !touched[neuron] {
            return of_neuron(&want, &plan, neuron) != of_neuron(&ours, &plan, neuron);
        }
        (0..=plan.groups).any(|group| {
            let cell = group * 19 + neuron;
            let sums = [ours.sum[cell].to_bits(), ours.square[cell].to_bits()];
            let got = [u64::from(ours.non_finite[cell]), sums[0], sums[1]];
            got != by_hand(&odd, &plan, (group, neuron))
        })
    };
    (0..19).find(|&neuron| wrong(neuron)).map(|neuron| format!("seed {seed}: neuron {neuron}"))
}

#[test]
fn values_that_are_no_numbers() {
    let count = cases(10_000, 1_000_000);
    let wrong: Vec<String> = (0..count).into_par_iter().filter_map(placed).collect();
    hold(
        "NaN, infinities, -0 and denormals anywhere: counts exact, other neurons the same",
        count,
        &wrong,
    );
}

/// One weight that is no number stops a model before it runs: nothing is left of such a run.
#[test]
fn weights_that_are_no_numbers_are_refused() {
    let place = folder();
    let mut tensors = crate::checkpoints::gpt2_tensors();
    tensors[3].2[1] = f32::NAN;
    let config = crate::checkpoints::gpt2_config().to_string();
    std::fs::write(place.path().join("config.json"), config).expect("written");
    let bytes = crate::checkpoints::safetensors_bytes(&tensors);
    std::fs::write(place.path().join("model.safetensors"), bytes).expect("written");
    let model =
        electrode::model::Model::open(place.path().to_str().expect("a path")).expect("opens");
    let mut params = model.spec.params();
    let error = params.find_map(|(param, _)| model.tensor(param).err()).expect("one is no number");
    assert_eq!(error.exit_code(), 65);
}
