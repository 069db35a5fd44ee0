//! Banks of probes on the CPU device.
//! Oracle: plain f64 loops (`probe_reference.rs`); for cuts of rows and numbers of threads, equal bits.

use electrode::device::cpu::CpuDevice;
use electrode::device::probe_ops::{Feed, Head, Measures, ProbeLoss, ProbeOps};
use electrode::device::probe_solve::{Stop, largest_eigenvalue, solve, step_length};

use super::probe_reference::{Problem, assert_weights, head, problem};

const LOSSES: [ProbeLoss; 3] = [ProbeLoss::Softmax, ProbeLoss::Logistic, ProbeLoss::Squared];

/// Heads of every kind: three tasks, two that share a unit, one wider than a panel.
pub(crate) fn heads() -> Vec<Head> {
    let [softmax, logistic, squared] = LOSSES;
    vec![
        Head { l1: 1e-3, l2: 1e-2, rate: 2e-3, ..head(0, 5, softmax) },
        Head { l2: 5e-2, norm: true, ..head(0, 17, softmax) },
        Head { l1: 1e-2, ..head(1, 1, logistic) },
        Head { l2: 1e-2, norm: true, l1: 1e-3, ..head(1, 1, logistic) },
        Head { l2: 1e-2, ..head(2, 1, squared) },
        head(0, 70, softmax),
    ]
}

/// What a bank holds after epochs of Adam, its rows in calls of so many.
pub(crate) fn trained<D: ProbeOps>(
    device: &D,
    problem: &Problem,
    (batch, epochs, call): (usize, usize, usize),
) -> (Vec<f32>, Vec<f32>) {
    let (mut bank, x) = (problem.bank(device), problem.tensor(device));
    for _ in 0..epochs {
        problem.feed(device, &mut bank, (&x, call), Feed::Train { batch });
    }
    device.read_bank(&bank).expect("a download")
}

#[test]
fn adam_is_that_of_plain_loops() {
    // Less than a tile, a piece and some, a block and some; batches of a part and of more than a chunk.
    for (inputs, batch) in [(1, 7), (37, 32), (100, 150), (400, 64)] {
        let mut problem = problem(inputs as u64, (203, inputs), heads());
        // Far from 0, where the sign of a weight hangs on its last digits.
        for w in &mut problem.weights {
            *w += 0.05_f32.copysign(*w);
        }
        let ours = trained(&CpuDevice::F32, &problem, (batch, 2, 1000));
        let mut probes = problem.probes();
        probes.iter_mut().for_each(|probe| probe.adam(2, batch));
        assert_weights(&ours, &probes, (2e-5, &format!("{inputs} inputs, batches of {batch}")));
    }
}

#[test]
fn a_weight_of_zero_bears_no_penalty() {
    let heads = [false, true].map(|norm| Head { l1: 0.1, l2: 1.0, norm, ..head(0, 3, LOSSES[0]) });
    let mut problem = problem(3, (40, 20), heads.to_vec());
    problem.weights.fill(0.0);
    let ours = trained(&CpuDevice::F32, &problem, (1000, 1, 1000));
    let mut probes = problem.probes();
    probes.iter_mut().for_each(|probe| probe.adam(1, 1000));
    assert_weights(&ours, &probes, (1e-6, "from zero"));
    assert!(probes.iter().all(|probe| probe.w.iter().all(|w| *w != 0.0)), "all have moved");
}

/// Everything a bank can tell.
fn all(problem: &Problem, call: usize) -> (Vec<f32>, Vec<f32>, Vec<f64>, Vec<Measures>) {
    let device = CpuDevice::F32;
    let (mut bank, x) = (problem.bank(&device), problem.tensor(&device));
    for _ in 0..2 {
        problem.feed(&device, &mut bank, (&x, call), Feed::Train { batch: 48 });
    }
    problem.feed(&device, &mut bank, (&x, call), Feed::Measure);
    let measures = device.take_measures(&mut bank).expect("no download");
    let (mut w, mut b) = device.read_bank(&bank).expect("no download");
    let smooth: Vec<Head> =
        problem.plan.heads.iter().map(|head| Head { norm: false, ..*head }).collect();
    let plan = electrode::device::probe_ops::BankPlan { heads: smooth, ..problem.plan.clone() };
    let mut bank = device.bank(&plan, &w, &b).expect("memory");
    let mut progress = Vec::new();
    for _ in 0..3 {
        problem.feed(&device, &mut bank, (&x, call), Feed::Gradient);
        let steps = vec![0.01; problem.plan.heads.len()];
        for one in device.proximal(&mut bank, &steps).expect("no download") {
            progress.extend([one.loss, one.change, one.residual]);
        }
    }
    let (more, biases) = device.read_bank(&bank).expect("no download");
    w.extend(more);
    b.extend(biases);
    (w, b, progress, measures)
}

#[test]
fn neither_calls_nor_threads_change_a_bit() {
    // More rows than a run of a gradient holds.
    let problem = problem(8, (1400, 130), heads());
    let within = |threads: usize, call: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads");
        pool.install(|| all(&problem, call))
    };
    let want = within(1, 5000);
    assert!(want.2.iter().all(|x| x.is_finite()));
    for (threads, call) in [(1, 1), (1, 7), (1, 128), (1, 1000), (2, 5000), (16, 5000), (16, 100)] {
        assert!(within(threads, call) == want, "{threads} threads, calls of {call}");
    }
}

/// A bank saved after each pass, and each time taken up by a new one.
pub(crate) fn assert_goes_on<D: ProbeOps>(device: &D, problem: &Problem, what: Feed) {
    let x = problem.tensor(device);
    let steps = vec![0.01; problem.plan.heads.len()];
    let pass = |bank: &mut D::Bank| {
        problem.feed(device, bank, (&x, 33), what);
        if what == Feed::Gradient {
            device.proximal(bank, &steps).expect("a download");
        }
    };
    let (mut whole, mut cut) = (problem.bank(device), problem.bank(device));
    for _ in 0..3 {
        pass(&mut whole);
        pass(&mut cut);
        let state = device.save_bank(&cut).expect("a download");
        cut = problem.bank(device);
        let mut wrong = state.clone();
        wrong.arrays.pop();
        assert!(!device.restore_bank(&mut cut, &wrong).expect("no failure"), "a state cut short");
        assert!(device.restore_bank(&mut cut, &state).expect("an upload"));
        assert_eq!(device.save_bank(&cut).expect("a download"), state);
        let [a, b] = [&whole, &cut].map(|bank| device.read_bank(bank).expect("a download"));
        assert!(a == b, "{what:?}");
    }
}

#[test]
fn a_bank_goes_on_where_another_was_left() {
    let mut problem = problem(9, (203, 37), heads());
    assert_goes_on(&CpuDevice::F32, &problem, Feed::Train { batch: 32 });
    problem.plan.heads.iter_mut().for_each(|head| head.norm = false);
    assert_goes_on(&CpuDevice::F32, &problem, Feed::Gradient);
}

#[test]
fn one_unit_is_divided_among_threads() {
    for heads in [vec![heads()[0]], vec![heads()[5]]] {
        let problem = problem(9, (300, 250), heads);
        let within = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
            pool.expect("threads").install(|| all(&problem, 170))
        };
        let want = within(1);
        assert!([2, 5].into_iter().all(|threads| within(threads) == want));
    }
}

#[test]
fn steps_of_fista_are_those_of_plain_loops() {
    let mut heads = heads();
    heads.iter_mut().for_each(|head| head.norm = false);
    let mut problem = problem(4, (700, 23), heads);
    let masks = (0..problem.weights.len()).map(|i| f32::from(u8::from(i % 7 != 2)));
    problem.plan.masks = Some(masks.collect());
    let problem = problem;
    let device = CpuDevice::F32;
    let (mut bank, x) = (problem.bank(&device), problem.tensor(&device));
    let mut probes = problem.probes();
    let steps: Vec<f32> = vec![0.05; problem.plan.heads.len()];
    let mut told = Vec::new();
    for _ in 0..12 {
        problem.feed(&device, &mut bank, (&x, 300), Feed::Gradient);
        told.push(device.proximal(&mut bank, &steps).expect("no download"));
    }
    let want: Vec<_> =
        probes.iter_mut().map(|probe| probe.fista(f64::from(steps[0]), 12)).collect();
    for (h, want) in want.iter().enumerate() {
        for (ours, (loss, residual)) in told.iter().map(|told| told[h]).zip(want) {
            assert!((ours.loss - loss).abs() <= 1e-6 * loss.max(1.0), "head {h}: {ours:?} {loss}");
            assert!((ours.residual - residual).abs() <= 2e-5, "head {h}: {ours:?} {residual}");
        }
    }
    assert_weights(&device.read_bank(&bank).expect("no download"), &probes, (1e-5, "FISTA"));
}

/// The largest eigenvalue of the rows of a task, with the column of the bias.
pub(crate) fn largest(problem: &Problem, task: usize) -> f64 {
    let n = problem.plan.inputs;
    let rows = &problem.tasks[task].0;
    let mut moments = vec![0.0; (n + 1) * (n + 1)];
    for row in rows {
        let x = problem.x[*row as usize * n..][..n].iter().map(|&x| f64::from(x));
        let x: Vec<f64> = x.chain([1.0]).collect();
        for (moments, a) in moments.chunks_exact_mut(n + 1).zip(&x) {
            moments.iter_mut().zip(&x).for_each(|(m, b)| *m += a * b / rows.len() as f64);
        }
    }
    largest_eigenvalue(&moments, n + 1)
}

#[test]
fn solving_ends_at_the_optimum() {
    let mut heads = heads();
    for (h, head) in heads.iter_mut().enumerate() {
        (head.norm, head.l1, head.l2) = (false, 0.01 * (h % 3) as f32, 0.02);
    }
    let mut problem = problem(5, (300, 30), heads);
    problem.weights.fill(0.0);
    problem.biases.fill(0.0);
    let device = CpuDevice::F32;
    let (mut bank, x) = (problem.bank(&device), problem.tensor(&device));
    let steps: Vec<f32> = problem
        .plan
        .heads
        .iter()
        .map(|head| step_length(head, largest(&problem, head.task)))
        .collect();
    let stop = Stop { tolerance: 1e-5, passes: 2000, scales: None };
    let solved = solve(&device, &mut bank, &steps, &stop, |bank, what| {
        problem.feed(&device, bank, (&x, 1000), what);
        Ok(())
    });
    let solved = solved.expect("no download");
    let (w, b) = device.read_bank(&bank).expect("no download");
    let (mut w, mut b) = (w.iter().map(|&w| f64::from(w)), b.iter().map(|&b| f64::from(b)));
    for (mut probe, solved) in problem.probes().into_iter().zip(&solved) {
        assert!(solved.converged && solved.passes < 2000, "{solved:?}");
        let (columns, cells) = (probe.b.len(), probe.w.len());
        probe.w = w.by_ref().take(cells).collect();
        probe.b = b.by_ref().take(columns).collect();
        let off = probe.violation();
        // The point the last step began from is not where it ended: 2 gradients' worth.
        assert!(off <= 3e-5 * solved.scale, "{off} of {}", solved.scale);
        assert!(probe.head.l1 == 0.0 || probe.w.contains(&0.0), "a penalty that cuts");
    }
}

#[test]
fn masks_keep_zeros_and_a_penalty_above_the_gradient_all() {
    let [softmax, ..] = LOSSES;
    let heads = vec![head(0, 4, softmax), Head { l1: 10.0, ..head(0, 3, softmax) }];
    let mut problem = problem(6, (100, 19), heads);
    problem.tasks[0].1.iter_mut().for_each(|class| *class = class.min(2.0));
    let masked = |i: usize| i % 3 == 1;
    let masks = (0..problem.weights.len()).map(|i| if masked(i) { 0.0 } else { 1.0 });
    problem.plan.masks = Some(masks.collect());
    let (w, _) = trained(&CpuDevice::F32, &problem, (16, 3, 33));
    assert!(w.iter().enumerate().all(|(i, w)| (*w == 0.0) == masked(i)));
    let device = CpuDevice::F32;
    let (mut bank, x) = (problem.bank(&device), problem.tensor(&device));
    for _ in 0..2 {
        problem.feed(&device, &mut bank, (&x, 64), Feed::Gradient);
        device.proximal(&mut bank, &[0.3, 0.3]).expect("no download");
    }
    let (w, b) = device.read_bank(&bank).expect("no download");
    let first = 4 * 19;
    assert!(w[..first].iter().enumerate().all(|(i, w)| (*w == 0.0) == masked(i)));
    assert!(w[first..].iter().all(|w| *w == 0.0), "10 is above any gradient times the step");
    assert!(b.iter().all(|b| *b != 0.0), "biases go free");
}
