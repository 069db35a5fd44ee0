//! What banks of probes tell of the rows they are held against.
//! Oracle: by hand, and f64 loops (`probe_reference.rs`).

use electrode::device::cpu::CpuDevice;
use electrode::device::probe_ops::{BankPlan, Feed, Measures, ProbeLoss, ProbeOps, TaskRows};

use super::probe_reference::{Problem, head, problem};
use crate::tensors::tensor;

/// Measures of a problem's rows, in calls of so many, must be those of its probes in f64.
pub(crate) fn assert_measures<D: ProbeOps>(device: &D, problem: &Problem, call: usize) {
    let (mut bank, x) = (problem.bank(device), problem.tensor(device));
    problem.feed(device, &mut bank, (&x, call), Feed::Measure);
    let measures = device.take_measures(&mut bank).expect("a download");
    for (probe, ours) in problem.probes().iter().zip(&measures) {
        let targets = &probe.labelled().1;
        let classes = ours.seen.len();
        let mut want = Measures {
            rows: targets.len() as u64,
            loss: 0.0,
            seen: vec![0; classes],
            right: vec![0; classes],
            said: vec![0; classes],
        };
        for (i, target) in targets.iter().enumerate() {
            let z = probe.logits((&probe.w, &probe.b), i);
            want.loss += probe.loss(&z, *target).0;
            if classes > 0 {
                let top = z.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                let said = match z[..] {
                    [z] => usize::from(z > 0.0),
                    _ => z.iter().position(|z| *z == top).expect("finite logits"),
                };
                want.seen[*target as usize] += 1;
                want.said[said] += 1;
                want.right[*target as usize] += u64::from(said == *target as usize);
            }
        }
        assert!((ours.loss - want.loss).abs() <= 2e-6 * want.loss, "{} {}", ours.loss, want.loss);
        assert_eq!(*ours, Measures { loss: ours.loss, ..want }, "counts");
    }
    let again = device.take_measures(&mut bank).expect("a download");
    assert!(again.iter().all(|one| one.rows == 0 && one.loss == 0.0), "taken once");
}

#[test]
fn measures_are_those_of_plain_loops() {
    assert_measures(&CpuDevice::F32, &problem(1, (500, 40), super::probe_bank::heads()), 130);
}

/// Equal logits: the first class is said; a logit of 0 says no.
pub(crate) fn assert_ties<D: ProbeOps>(device: &D) {
    let heads = vec![
        head(0, 3, ProbeLoss::Softmax),
        head(0, 70, ProbeLoss::Softmax),
        head(1, 1, ProbeLoss::Logistic),
    ];
    let plan = BankPlan { inputs: 2, tasks: 2, heads, masks: None };
    // Columns 1 and 2 of the first and 1 and 69 of the second head answer to the first input.
    let mut weights = vec![0.0; plan.columns() * 2];
    for column in [1, 2, 3 + 1, 3 + 69] {
        weights[column * 2] = 1.0;
    }
    let mut bank = device.bank(&plan, &weights, &vec![0.0; plan.columns()]).expect("memory");
    let x = tensor(device, 2, &[1.0, 0.0, 0.0, 5.0, -1.0, 0.0]);
    let tasks = [
        TaskRows { rows: &[0, 1, 2, 0], targets: &[1.0, 0.0, 0.0, 2.0] },
        TaskRows { rows: &[1, 2], targets: &[1.0, 0.0] },
    ];
    device.feed(&mut bank, &x, &tasks, Feed::Measure);
    let told = device.take_measures(&mut bank).expect("a download");
    assert_eq!((told[0].seen[..].to_vec(), told[0].said.clone()), (vec![2, 1, 1], vec![2, 2, 0]));
    assert_eq!(told[0].right, [2, 1, 0]);
    assert_eq!((told[1].right[..3].to_vec(), told[1].said[69]), (vec![2, 1, 0], 0));
    assert_eq!((&told[2].said[..], &told[2].right[..]), (&[2, 0][..], &[1, 0][..]));
    let log = |x: f64| x.ln();
    let e = 1f64.exp();
    let want = 2.0 * log(1.0 + 2.0 * e) - 2.0 + log(3.0) + log(1.0 + 2.0 / e);
    assert!((told[0].loss - want).abs() <= 1e-6, "{} {want}", told[0].loss);
    assert!((told[2].loss - 2.0 * log(2.0)).abs() <= 1e-7);
}

#[test]
fn of_equal_logits_the_first_is_said() {
    assert_ties(&CpuDevice::F32);
}

#[test]
fn numbers_that_are_not_finite_are_seen() {
    let mut problem = problem(2, (30, 10), super::probe_bank::heads());
    problem.plan.heads.iter_mut().for_each(|head| head.norm = false);
    problem.x[37] = f32::NAN;
    let device = CpuDevice::F32;
    let (mut bank, x) = (problem.bank(&device), problem.tensor(&device));
    problem.feed(&device, &mut bank, (&x, 100), Feed::Gradient);
    let steps = vec![0.1; problem.plan.heads.len()];
    let progress = device.proximal(&mut bank, &steps).expect("no download");
    assert!(progress.iter().all(|one| one.residual.is_nan()), "{progress:?}");
}

#[test]
#[should_panic(expected = "a class beyond")]
fn classes_beyond_a_head_are_refused() {
    let plan =
        BankPlan { inputs: 1, tasks: 1, heads: vec![head(0, 2, ProbeLoss::Softmax)], masks: None };
    let mut bank = CpuDevice::F32.bank(&plan, &[0.0; 2], &[0.0; 2]).expect("memory");
    let x = tensor(&CpuDevice::F32, 1, &[1.0]);
    CpuDevice::F32.feed(&mut bank, &x, &[TaskRows { rows: &[0], targets: &[2.0] }], Feed::Measure);
}
