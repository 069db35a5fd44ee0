//! Second moments: laws of their state, its bytes, and what is read out of it.
//! Oracle: one state over all rows; loops in f64 in two passes over the rows (O-brute).

use std::ops::Range;
use std::sync::Arc;

use electrode::accumulate::gram::{GramPlan, GramSite, GramState};
use electrode::accumulate::gram_summary::{Class, GramSummary};
use electrode::accumulate::{Merge as _, State as _};
use electrode::device::cpu::CpuDevice;
use electrode::device::moment_ops::MomentOps as _;
use electrode::engine::merge::{Node, Tree};
use electrode::id::{Site, SiteKind};
use proptest::prelude::*;

use super::data::{Data, Random, data};
use crate::tensors::tensor;

const WIDTHS: [usize; 2] = [19, 7];

fn left() -> Site {
    Site::global(SiteKind::Embeddings)
}

fn right() -> Site {
    Site::of_layer(1, SiteKind::MlpAct)
}

fn sites() -> Vec<GramSite> {
    let shift = |neurons: usize| (0..neurons).map(|neuron| neuron as f32 * 0.1).collect();
    vec![
        GramSite { site: left(), shift: shift(WIDTHS[0]) },
        GramSite { site: right(), shift: shift(WIDTHS[1]) },
    ]
}

/// Classes 2 and 0 of the first column of labels; the other rows are the rest.
fn plan() -> Arc<GramPlan> {
    Arc::new(GramPlan::new(sites(), &[(left(), right())], vec![2, 0]).unwrap())
}

fn both(seed: u64, rows: usize) -> [Data; 2] {
    [data(seed, rows, WIDTHS[0]), data(seed + 1, rows, WIDTHS[1])]
}

fn class_of(plan: &GramPlan, data: &Data, row: usize) -> usize {
    let asked = plan.groups().iter().position(|group| data.groups[row].contains(group));
    asked.map_or(0, |place| place + 1)
}

/// The state of some rows, as a device fills it.
fn state(plan: &Arc<GramPlan>, data: &[Data; 2], rows: Range<usize>) -> GramState {
    let mut state = GramState::new(plan);
    let classes: Vec<u32> = rows.clone().map(|row| class_of(plan, &data[0], row) as u32).collect();
    let names: Vec<u32> = (0..rows.len() as u32).collect();
    state.counts.rows = rows.len() as u64;
    classes.iter().for_each(|class| state.rows[*class as usize] += 1);
    let shifted = [0, 1].map(|at| {
        let cells = rows.start * data[at].neurons..rows.end * data[at].neurons;
        let mut x = tensor(&CpuDevice::F32, data[at].neurons, &data[at].x[cells]);
        let scale = vec![1.0; data[at].neurons];
        CpuDevice::F32.rescale(&plan.sites()[at].shift, &scale, &mut x);
        x
    });
    let ones = tensor(&CpuDevice::F32, 1, &vec![1.0; rows.len()]);
    let take = |left: usize, z: Option<&_>, width: Option<usize>| {
        let mut moments = CpuDevice::F32.moments(WIDTHS[left], width, plan.classes()).unwrap();
        CpuDevice::F32.add_moments(&mut moments, (&shifted[left], z), (&names, &classes));
        CpuDevice::F32.take_moments(moments).unwrap()
    };
    state.sums = [0, 1].map(|site| take(site, Some(&ones), Some(1))).to_vec();
    let pairs = plan.pairs().iter().map(|&(left, right)| match left == right {
        true => take(left, None, None),
        false => take(left, Some(&shifted[right]), Some(WIDTHS[right])),
    });
    state.products = pairs.collect();
    state
}

fn bytes(state: &GramState) -> Vec<u8> {
    let mut bytes = vec![];
    state.encode(&mut bytes);
    bytes
}

/// Equal but for the rounding of sums.
fn assert_close(ours: &GramState, want: &GramState) {
    assert_eq!((ours.counts, &ours.rows), (want.counts, &want.rows));
    let all = |state: &GramState| -> Vec<f64> {
        state.sums.iter().chain(&state.products).flatten().flatten().copied().collect()
    };
    for (ours, want) in all(ours).into_iter().zip(all(want)) {
        assert!((ours - want).abs() <= 1e-5 * want.abs().max(10.0), "{ours} {want}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, failure_persistence: None, ..<_>::default() })]

    #[test]
    fn split(seed in 0..u64::MAX - 1, rows in 0_usize..120, cut in 0.0..=1.0_f64) {
        let (data, plan) = (both(seed, rows), plan());
        let cut = (rows as f64 * cut) as usize;
        let mut ours = state(&plan, &data, 0..cut);
        ours.merge(state(&plan, &data, cut..rows)).unwrap();
        assert_close(&ours, &state(&plan, &data, 0..rows));
    }

    #[test]
    fn empty(seed in 0..u64::MAX - 1, rows in 0_usize..60) {
        let (data, plan) = (both(seed, rows), plan());
        let want = state(&plan, &data, 0..rows);
        let mut ours = want.clone();
        ours.merge(GramState::new(&plan)).unwrap();
        prop_assert_eq!(&ours, &want);
        let mut ours = GramState::new(&plan);
        ours.merge(want.clone()).unwrap();
        prop_assert_eq!(&ours, &want);
    }
}

#[test]
fn any_order_gives_the_same_bits() {
    let (plan, mut random) = (plan(), Random(3));
    for blocks in [1_usize, 2, 7, 33] {
        let data = both(1, blocks * 13);
        let mut order: Vec<usize> = (0..blocks).collect();
        let mut once = || {
            let mut tree = Tree::new();
            for &block in &order {
                let state = state(&plan, &data, block * 13..(block + 1) * 13);
                // Through bytes, as states wait on disk.
                let state = GramState::decode(&plan, &bytes(&state)).unwrap();
                tree.insert(Node::block(block as u32), state).unwrap();
            }
            random.shuffle(&mut order);
            tree.finish(blocks as u32).unwrap().unwrap()
        };
        let want = once();
        assert_eq!(want.counts.rows, blocks as u64 * 13);
        for _ in 0..3 {
            assert!(bytes(&once()) == bytes(&want), "{blocks} blocks");
        }
        assert_close(&want, &state(&plan, &data, 0..blocks * 13));
    }
}

#[test]
fn bytes_come_back_as_they_were_or_are_refused() {
    let (plan, data) = (plan(), both(1, 40));
    let state = state(&plan, &data, 0..40);
    let mut stored = bytes(&state);
    assert_eq!(GramState::decode(&plan, &stored).unwrap(), state);
    for length in 0..stored.len() {
        assert_eq!(GramState::decode(&plan, &stored[..length]).unwrap_err().exit_code(), 65);
    }
    let mut random = Random(9);
    let mut refused = 0;
    for _ in 0..3000 {
        let at = random.below(stored.len() as u64) as usize;
        let byte = std::mem::replace(&mut stored[at], random.next() as u8);
        match GramState::decode(&plan, &stored) {
            Err(error) => {
                assert_eq!(error.exit_code(), 65);
                refused += 1;
            }
            Ok(damaged) => drop(damaged.finish().correlation(left(), right(), Class::All)),
        }
        stored[at] = byte;
    }
    assert!(refused > 0);
    let mut other = sites();
    other[1].shift[3] = 7.0;
    let elsewhere = [
        GramPlan::new(other, &[(left(), right())], vec![2, 0]),
        GramPlan::new(sites(), &[], vec![2, 0]),
        GramPlan::new(sites(), &[(right(), left())], vec![2, 0]),
        GramPlan::new(sites(), &[(left(), right())], vec![0, 2]),
    ];
    for other in elsewhere {
        let error = GramState::decode(&Arc::new(other.unwrap()), &stored).unwrap_err();
        assert_eq!(error.exit_code(), 65);
    }
    stored[0] += 1;
    assert_eq!(GramState::decode(&plan, &stored).unwrap_err().exit_code(), 65);
}

#[test]
fn plans_that_contradict_themselves_are_refused() {
    let twice = [sites(), sites()].concat();
    assert_eq!(GramPlan::new(twice, &[], vec![]).unwrap_err().exit_code(), 2);
    assert_eq!(GramPlan::new(sites(), &[], vec![4, 4]).unwrap_err().exit_code(), 2);
    let missing = (left(), Site::of_layer(3, SiteKind::MlpAct));
    assert_eq!(GramPlan::new(sites(), &[missing], vec![]).unwrap_err().exit_code(), 2);
    let pairs = [(left(), right()), (right(), left()), (left(), left())];
    assert_eq!(GramPlan::new(sites(), &pairs, vec![]).unwrap().pairs().len(), 3);
}

/// Means, then covariance and correlation, by the definition in two passes.
fn expected(x: &Data, z: &Data, rows: &[usize]) -> (Vec<f64>, Vec<f64>, Vec<f64>) {
    let n = rows.len() as f64;
    let value = |data: &Data, row: usize, at: usize| f64::from(data.x[row * data.neurons + at]);
    let mean = |data: &Data, at: usize| rows.iter().map(|&r| value(data, r, at)).sum::<f64>() / n;
    let centred = |data: &Data, at: usize| -> Vec<f64> {
        let mean = mean(data, at);
        rows.iter().map(|&row| value(data, row, at) - mean).collect()
    };
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>() / n;
    let means = (0..x.neurons).map(|at| mean(x, at)).collect();
    let (mut covariance, mut correlation) = (vec![], vec![]);
    for (i, a) in (0..x.neurons).map(|at| (at, centred(x, at))) {
        for (j, b) in (0..z.neurons).map(|at| (at, centred(z, at))) {
            covariance.push(dot(&a, &b));
            let spread = (dot(&a, &a) * dot(&b, &b)).sqrt();
            let own = std::ptr::eq(x, z) && i == j;
            correlation.push(match () {
                () if own => 1.0,
                () if spread < 1e-9 => 0.0,
                () => dot(&a, &b) / spread,
            });
        }
    }
    (means, covariance, correlation)
}

fn check(summary: &GramSummary, data: &[Data; 2], class: Class, rows: &[usize]) {
    assert_eq!(summary.rows(class), Some(rows.len() as u64));
    let near = |ours: &[f64], want: &[f64], what: &str| {
        assert_eq!(ours.len(), want.len(), "{what}");
        for (ours, want) in ours.iter().zip(want) {
            assert!((ours - want).abs() <= 3e-5, "{class:?} {what}: {ours} {want}");
        }
    };
    let named = [(left(), &data[0]), (right(), &data[1])];
    for (left, x) in named {
        for (right, z) in named {
            let (means, covariance, correlation) = expected(x, z, rows);
            near(&summary.means(left, class).unwrap(), &means, "means");
            near(&summary.covariance(left, right, class).unwrap(), &covariance, "covariance");
            near(&summary.correlation(left, right, class).unwrap(), &correlation, "correlation");
            let scatter = summary.scatter(left, right, class).unwrap();
            let scatter: Vec<f64> = scatter.iter().map(|sum| sum / rows.len() as f64).collect();
            near(&scatter, &covariance, "scatter");
        }
    }
}

#[test]
fn what_is_read_out_is_the_definition() {
    let (plan, rows) = (plan(), 700);
    let mut data = both(5, rows);
    // A constant column of each, at its shift.
    for row in 0..rows {
        data[0].x[row * WIDTHS[0] + 4] = 0.4;
        data[1].x[row * WIDTHS[1] + 2] = 0.2;
    }
    let summary = state(&plan, &data, 0..rows).finish();
    check(&summary, &data, Class::All, &(0..rows).collect::<Vec<_>>());
    for (class, place) in [(Class::Other, 0), (Class::Group(2), 1), (Class::Group(0), 2)] {
        let own = (0..rows).filter(|row| class_of(&plan, &data[0], *row) == place);
        check(&summary, &data, class, &own.collect::<Vec<_>>());
    }
    let constant = summary.constant(left(), Class::All).unwrap();
    assert_eq!(constant.iter().filter(|&&one| one).count(), 1);
    assert!(constant[4]);
    assert_eq!(summary.rows(Class::Group(1)), None);
    assert_eq!(summary.means(Site::of_layer(2, SiteKind::MlpAct), Class::All), None);
}

#[test]
fn a_shift_keeps_what_an_offset_would_hide() {
    let rows = 600;
    let offset = 10_000.0;
    let mut data = both(6, rows);
    let values = data[0].x.clone();
    data[0].x.iter_mut().for_each(|x| *x += offset);
    let mut shifted = sites();
    shifted[0].shift.iter_mut().for_each(|shift| *shift += offset);
    let plan = Arc::new(GramPlan::new(shifted, &[], vec![]).unwrap());
    let summary = state(&plan, &data, 0..rows).finish();
    let want: Vec<f64> = (0..WIDTHS[0])
        .map(|at| values.iter().skip(at).step_by(WIDTHS[0]).map(|&x| f64::from(x)).sum::<f64>())
        .collect();
    let covariance = summary.covariance(left(), left(), Class::All).unwrap();
    let (_, exact, _) = expected(&data[0], &data[0], &(0..rows).collect::<Vec<_>>());
    for (ours, want) in covariance.iter().zip(&exact) {
        // 512 roundings of f32 at most; without the shift the error is about 50.
        assert!((ours - want).abs() <= 1e-4, "{ours} {want}");
    }
    for (ours, sum) in summary.means(left(), Class::All).unwrap().iter().zip(want) {
        assert!((ours - f64::from(offset) - sum / rows as f64).abs() <= 1e-3);
    }
}

#[test]
fn no_rows_are_no_moments() {
    let summary = GramState::new(&plan()).finish();
    assert_eq!(summary.rows(Class::All), Some(0));
    assert_eq!(summary.scatter(left(), right(), Class::All).unwrap(), [0.0; 19 * 7]);
    let own = summary.correlation(right(), right(), Class::Group(0)).unwrap();
    assert_eq!(own.iter().sum::<f64>(), 7.0);
    let shift: Vec<f64> = sites()[1].shift.iter().map(|&x| f64::from(x)).collect();
    assert_eq!(summary.means(right(), Class::All).unwrap(), shift);
}
