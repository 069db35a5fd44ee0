//! Banks of probes on a GPU.
//! Oracle: plain f64 loops (`probe_reference.rs`) and the CPU device; for cuts of rows, equal bits.

use electrode::device::cpu::CpuDevice;
use electrode::device::cuda::Element;
use electrode::device::ops::Ops;
use electrode::device::probe_ops::{BankPlan, Feed, Head, ProbeOps};

use super::rows::{assert_refused, kept};
use crate::cuda::{device, on_both};
use crate::kernels::probe_bank::{assert_goes_on, heads, trained};
use crate::kernels::probe_measures::{assert_measures, assert_ties};
use crate::kernels::probe_reference::{Problem, assert_weights, problem};

/// Rows that the type can hold, and masks.
fn typed(seed: u64, shape: (usize, usize), heads: Vec<Head>, element: Element) -> Problem {
    let mut problem = problem(seed, shape, heads);
    problem.x.iter_mut().for_each(|x| *x = kept(element, *x));
    // Far from 0, where the sign of a weight hangs on its last digits.
    problem.weights.iter_mut().for_each(|w| *w += 0.05_f32.copysign(*w));
    let masks = (0..problem.weights.len()).map(|i| f32::from(u8::from(i % 11 != 3)));
    problem.plan.masks = Some(masks.collect());
    problem
}

#[test]
fn adam_is_that_of_plain_loops() {
    on_both(|gpu, element| {
        // A part of a pack, a tile less the bias, more than two tiles; batches within and beyond a chunk.
        for (inputs, batch) in [(1, 7), (63, 32), (131, 100)] {
            let problem = typed(inputs as u64, (150, inputs), heads(), element);
            let ours = trained(gpu, &problem, (batch, 2, 1000));
            let mut probes = problem.probes();
            probes.iter_mut().for_each(|probe| probe.adam(2, batch));
            let what = format!("{element:?}, {inputs} inputs, batches of {batch}");
            assert_weights(&ours, &probes, (2e-5, &what));
            let cpu = trained(&CpuDevice::F32, &problem, (batch, 2, 1000));
            let error = ours.0.iter().zip(&cpu.0).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(error <= 2e-5, "{what}: {error} from the CPU");
        }
    });
}

#[test]
fn a_bank_goes_on_where_another_was_left() {
    on_both(|gpu, element| {
        let mut problem = typed(9, (120, 37), heads(), element);
        assert_goes_on(gpu, &problem, Feed::Train { batch: 32 });
        problem.plan.heads.iter_mut().for_each(|head| head.norm = false);
        assert_goes_on(gpu, &problem, Feed::Gradient);
    });
}

#[test]
fn calls_change_no_bit() {
    on_both(|gpu, element| {
        let problem = typed(2, (230, 70), heads(), element);
        let want = trained(gpu, &problem, (48, 1, 1000));
        for call in [1, 33, 128] {
            assert!(trained(gpu, &problem, (48, 1, call)) == want, "calls of {call}");
        }
        gpu.check().expect("no failure");
    });
}

#[test]
fn steps_of_fista_are_those_of_the_cpu_and_of_plain_loops() {
    on_both(|gpu, element| {
        let mut heads = heads();
        heads.iter_mut().for_each(|head| head.norm = false);
        // More rows than a run.
        let problem = typed(4, (700, 23), heads, element);
        let (mut ours, x) = (problem.bank(gpu), problem.tensor(gpu));
        let (mut cpu, cpu_x) = (problem.bank(&CpuDevice::F32), problem.tensor(&CpuDevice::F32));
        let mut steps = vec![0.05; problem.plan.heads.len()];
        let passes = 4;
        for pass in 0..passes {
            problem.feed(gpu, &mut ours, (&x, [1000, 300][pass % 2]), Feed::Gradient);
            problem.feed(&CpuDevice::F32, &mut cpu, (&cpu_x, 1000), Feed::Gradient);
            let told = gpu.proximal(&mut ours, &steps).expect("a download");
            let want = CpuDevice::F32.proximal(&mut cpu, &steps).expect("no download");
            for (a, b) in told.iter().zip(&want) {
                assert!((a.loss - b.loss).abs() <= 2e-6 * b.loss.max(1.0), "{a:?} {b:?}");
                assert!((a.residual - b.residual).abs() <= 2e-5, "{a:?} {b:?}");
                assert!((a.change - b.change).abs() <= 2e-6, "{a:?} {b:?}");
            }
        }
        let mut probes = problem.probes();
        probes.iter_mut().for_each(|probe| drop(probe.fista(0.05, passes)));
        let before = gpu.read_bank(&ours).expect("a download");
        assert_weights(&before, &probes, (1e-5, "FISTA"));
        // A head with a step of 0 stays.
        steps[1] = 0.0;
        problem.feed(gpu, &mut ours, (&x, 1000), Feed::Gradient);
        let told = gpu.proximal(&mut ours, &steps).expect("a download");
        let after = gpu.read_bank(&ours).expect("a download");
        let own = 5 * 23..22 * 23;
        assert!(before.0[own.clone()] == after.0[own.clone()] && told[1].change == 0.0);
        assert!(before.0[own.end..] != after.0[own.end..]);
    });
}

#[test]
fn measures_are_those_of_plain_loops() {
    on_both(|gpu, element| {
        let mut problem = typed(5, (150, 40), heads(), element);
        problem.plan.masks = None;
        assert_measures(gpu, &problem, 70);
    });
}

#[test]
fn of_equal_logits_the_first_is_said() {
    on_both(|gpu, _| assert_ties(gpu));
}

#[test]
fn a_bank_goes_from_one_solver_to_the_other() {
    let Some(gpu) = device(Element::F32) else { return };
    let mut problem = typed(6, (90, 12), heads(), Element::F32);
    problem.plan.heads.iter_mut().for_each(|head| head.norm = false);
    fn both<D: ProbeOps>(device: &D, problem: &Problem) -> (Vec<f32>, Vec<f32>) {
        let (mut bank, x) = (problem.bank(device), problem.tensor(device));
        let steps = vec![0.05; problem.plan.heads.len()];
        problem.feed(device, &mut bank, (&x, 50), Feed::Train { batch: 16 });
        for _ in 0..2 {
            problem.feed(device, &mut bank, (&x, 50), Feed::Gradient);
            device.proximal(&mut bank, &steps).expect("a download");
        }
        problem.feed(device, &mut bank, (&x, 50), Feed::Train { batch: 16 });
        device.read_bank(&bank).expect("a download")
    }
    let (ours, cpu) = (both(&gpu, &problem), both(&CpuDevice::F32, &problem));
    let error = ours.0.iter().zip(&cpu.0).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(error <= 2e-5, "{error}");
}

#[test]
fn passes_that_have_not_ended_are_refused() {
    let Some(gpu) = device(Element::F32) else { return };
    let problem = typed(7, (20, 5), vec![heads()[0]], Element::F32);
    let (mut bank, x) = (problem.bank(&gpu), problem.tensor(&gpu));
    let rows = [electrode::device::probe_ops::TaskRows { rows: &[1, 2], targets: &[0.0, 1.0] }];
    gpu.feed(&mut bank, &x, &rows, Feed::Train { batch: 8 });
    assert_refused("ended", || gpu.feed(&mut bank, &x, &rows, Feed::Gradient));
    let plan = BankPlan { heads: vec![Head { norm: true, ..heads()[0] }], ..problem.plan.clone() };
    let mut bank = gpu.bank(&plan, &problem.weights, &problem.biases).expect("memory");
    gpu.feed(&mut bank, &x, &rows, Feed::Gradient);
    gpu.end_pass(&mut bank, Feed::Gradient);
    assert_refused("smooth", || drop(gpu.proximal(&mut bank, &[0.1])));
}
