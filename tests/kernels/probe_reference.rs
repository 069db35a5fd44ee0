//! Probes by their definitions: losses, gradients, Adam and FISTA in plain f64 loops, one head at a time.
//! What the devices are held against.

use electrode::device::ops::Ops;
use electrode::device::probe_ops::{BankPlan, Feed, Head, ProbeLoss, ProbeOps, TaskRows};

use crate::laws::data::Random;

/// Rows of a site with labels of some tasks, and probes of them.
pub(crate) struct Problem {
    pub(crate) plan: BankPlan,
    pub(crate) rows: usize,
    pub(crate) x: Vec<f32>,
    /// Row and target of each labelled row, by task.
    pub(crate) tasks: Vec<(Vec<u32>, Vec<f32>)>,
    pub(crate) weights: Vec<f32>,
    pub(crate) biases: Vec<f32>,
}

/// A head without penalties.
pub(crate) fn head(task: usize, columns: usize, loss: ProbeLoss) -> Head {
    Head { task, columns, loss, l1: 0.0, l2: 0.0, norm: false, rate: 1e-3 }
}

/// Random rows; of each task some have labels, in no order. Targets of a task are what its first head can
/// say. Weights are random too.
pub(crate) fn problem(seed: u64, (rows, inputs): (usize, usize), heads: Vec<Head>) -> Problem {
    let mut random = Random(seed);
    let tasks = heads.iter().map(|head| head.task + 1).max().unwrap_or(0);
    let labels = (0..tasks).map(|task| {
        let first = heads.iter().find(|head| head.task == task).expect("a head of each task");
        let mut own: Vec<u32> = (0..rows as u32).filter(|row| row % 5 != task as u32).collect();
        random.shuffle(&mut own);
        let target = |random: &mut Random| match first.loss {
            ProbeLoss::Softmax => random.below(first.columns as u64) as f32,
            ProbeLoss::Logistic => random.below(2) as f32,
            ProbeLoss::Squared => random.normal(),
        };
        let targets = own.iter().map(|_| target(&mut random)).collect();
        (own, targets)
    });
    let tasks: Vec<_> = labels.collect();
    let plan = BankPlan { inputs, tasks: tasks.len(), heads, masks: None };
    let mut normal = |n: usize, scale: f32| (0..n).map(|_| scale * random.normal()).collect();
    Problem {
        x: normal(rows * inputs, 1.0),
        weights: normal(plan.columns() * inputs, 0.2),
        biases: normal(plan.columns(), 0.2),
        rows,
        tasks,
        plan,
    }
}

impl Problem {
    /// Feeds its rows in calls of so many.
    pub(crate) fn feed<D: ProbeOps>(
        &self,
        device: &D,
        bank: &mut D::Bank,
        (x, call): (&D::Tensor, usize),
        what: Feed,
    ) {
        let most = self.tasks.iter().map(|(rows, _)| rows.len()).max().unwrap_or(0);
        for first in (0..most).step_by(call) {
            let part = |all: usize| first.min(all)..(first + call).min(all);
            let tasks: Vec<TaskRows<'_>> = self
                .tasks
                .iter()
                .map(|(rows, targets)| {
                    let part = part(rows.len());
                    TaskRows { rows: &rows[part.clone()], targets: &targets[part] }
                })
                .collect();
            device.feed(bank, x, &tasks, what);
        }
        device.end_pass(bank, what);
    }

    pub(crate) fn tensor<D: Ops>(&self, device: &D) -> D::Tensor {
        let mut x = device.tensor(self.rows, self.plan.inputs).expect("memory");
        device.set_rows(&mut x, self.rows);
        device.write(&mut x, &self.x).expect("an upload");
        x
    }

    pub(crate) fn bank<D: ProbeOps>(&self, device: &D) -> D::Bank {
        device.bank(&self.plan, &self.weights, &self.biases).expect("memory")
    }

    /// Its probes in f64.
    pub(crate) fn probes(&self) -> Vec<Probe<'_>> {
        let mut column = 0;
        self.plan
            .heads
            .iter()
            .map(|head| {
                let (n, first) = (self.plan.inputs, column);
                column += head.columns;
                let wide = |x: &[f32]| -> Vec<f64> { x.iter().map(|&x| f64::from(x)).collect() };
                let own = first * n..column * n;
                let mask = self.plan.masks.as_ref().map(|masks| wide(&masks[own.clone()]));
                let mask = mask.unwrap_or_else(|| vec![1.0; head.columns * n]);
                let w = wide(&self.weights[own]);
                Probe {
                    problem: self,
                    head: *head,
                    w: w.iter().zip(&mask).map(|(w, mask)| w * mask).collect(),
                    mask,
                    b: wide(&self.biases[first..column]),
                }
            })
            .collect()
    }
}

/// A probe in f64.
pub(crate) struct Probe<'a> {
    problem: &'a Problem,
    pub(crate) head: Head,
    mask: Vec<f64>,
    /// `[columns, inputs]`.
    pub(crate) w: Vec<f64>,
    pub(crate) b: Vec<f64>,
}

impl Probe<'_> {
    pub(crate) fn labelled(&self) -> &(Vec<u32>, Vec<f32>) {
        &self.problem.tasks[self.head.task]
    }

    /// Logits of the i-th labelled row.
    pub(crate) fn logits(&self, (w, b): (&[f64], &[f64]), i: usize) -> Vec<f64> {
        let n = self.problem.plan.inputs;
        let x = &self.problem.x[self.labelled().0[i] as usize * n..][..n];
        let dot = |w: &[f64]| w.iter().zip(x).map(|(w, x)| w * f64::from(*x)).sum::<f64>();
        w.chunks_exact(n).zip(b).map(|(w, b)| dot(w) + b).collect()
    }

    /// Loss and gradient of logits.
    pub(crate) fn loss(&self, z: &[f64], target: f32) -> (f64, Vec<f64>) {
        let y = f64::from(target);
        match self.head.loss {
            ProbeLoss::Softmax => {
                let top = z.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                let total: f64 = z.iter().map(|z| (z - top).exp()).sum();
                let class = target as usize;
                let p = z.iter().enumerate();
                let g = p.map(|(c, z)| (z - top).exp() / total - f64::from(u8::from(c == class)));
                (top + total.ln() - z[class], g.collect())
            }
            ProbeLoss::Logistic => {
                let p = 1.0 / (1.0 + (-z[0]).exp());
                (-(y * p.ln() + (1.0 - y) * (1.0 - p).ln()), vec![p - y])
            }
            ProbeLoss::Squared => ((z[0] - y).powi(2), vec![2.0 * (z[0] - y)]),
        }
    }

    /// Mean loss and its gradient over some labelled rows, penalties left out.
    pub(crate) fn mean(
        &self,
        at: (&[f64], &[f64]),
        rows: std::ops::Range<usize>,
    ) -> (f64, Vec<f64>, Vec<f64>) {
        let n = self.problem.plan.inputs;
        let (mut loss, mut gw, mut gb) = (0.0, vec![0.0; at.0.len()], vec![0.0; at.1.len()]);
        let count = rows.len() as f64;
        for i in rows {
            let x = &self.problem.x[self.labelled().0[i] as usize * n..][..n];
            let (one, g) = self.loss(&self.logits(at, i), self.labelled().1[i]);
            loss += one / count;
            for (c, g) in g.iter().enumerate() {
                gb[c] += g / count;
                let to = gw[c * n..][..n].iter_mut();
                to.zip(x).for_each(|(to, x)| *to += g * f64::from(*x) / count);
            }
        }
        (loss, gw, gb)
    }

    /// Epochs of Adam over batches in order, as PyTorch's: epsilon after the root.
    pub(crate) fn adam(&mut self, epochs: usize, batch: usize) {
        let n = self.w.len();
        let mut moments = vec![(0.0, 0.0); n + self.b.len()];
        let mut step = 0;
        for _ in 0..epochs {
            for first in (0..self.labelled().0.len()).step_by(batch) {
                let rows = first..self.labelled().0.len().min(first + batch);
                let (_, gw, gb) = self.mean((&self.w, &self.b), rows);
                step += 1;
                let norm = self.w.iter().map(|w| w * w).sum::<f64>().sqrt();
                let head = self.head;
                for (i, (g, (m, v))) in gw.into_iter().chain(gb).zip(&mut moments).enumerate() {
                    let bias = i >= n;
                    if !bias && self.mask[i] == 0.0 {
                        self.w[i] = 0.0;
                        continue;
                    }
                    let w = if bias { &mut self.b[i - n] } else { &mut self.w[i] };
                    let mut g = g;
                    if !bias {
                        let l2 = f64::from(head.l2);
                        let second = if !head.norm {
                            2.0 * l2 * *w
                        } else if norm > 0.0 {
                            l2 * *w / norm
                        } else {
                            0.0
                        };
                        let sign = if *w == 0.0 { 0.0 } else { w.signum() };
                        g += f64::from(head.l1) * sign + second;
                    }
                    *m = 0.9 * *m + 0.1 * g;
                    *v = 0.999 * *v + 0.001 * g * g;
                    let (m, v) =
                        (*m / (1.0 - 0.9_f64.powi(step)), *v / (1.0 - 0.999_f64.powi(step)));
                    *w -= f64::from(head.rate) * m / (v.sqrt() + 1e-8);
                }
            }
        }
    }

    /// Mean loss with penalties at its weights.
    pub(crate) fn objective(&self) -> f64 {
        let (loss, _, _) = self.mean((&self.w, &self.b), 0..self.labelled().0.len());
        let l1: f64 = self.w.iter().map(|w| w.abs()).sum();
        let l2: f64 = self.w.iter().map(|w| w * w).sum();
        loss + f64::from(self.head.l1) * l1 + f64::from(self.head.l2) * l2
    }

    /// How far its weights are from what an optimum demands: the gradient with the nearest of the
    /// subgradients of |w|, largest component.
    pub(crate) fn violation(&self) -> f64 {
        let (_, gw, gb) = self.mean((&self.w, &self.b), 0..self.labelled().0.len());
        let (l1, l2) = (f64::from(self.head.l1), f64::from(self.head.l2));
        let cells = gw.iter().zip(&self.w).zip(&self.mask);
        let weights = cells.filter(|(_, mask)| **mask != 0.0).map(|((g, w), _)| {
            let g = g + 2.0 * l2 * w;
            if *w == 0.0 { (g.abs() - l1).max(0.0) } else { (g + l1 * w.signum()).abs() }
        });
        weights.chain(gb.iter().map(|g| g.abs())).fold(0.0, f64::max)
    }

    /// Steps of FISTA with restarts, all in f64; answers losses and generalised gradients.
    pub(crate) fn fista(&mut self, step: f64, passes: usize) -> Vec<(f64, f64)> {
        let n = self.w.len();
        let (l1, l2) = (f64::from(self.head.l1), f64::from(self.head.l2));
        let (mut y, mut t) = ([self.w.clone(), self.b.clone()].concat(), 1.0_f64);
        let mut told = Vec::new();
        for _ in 0..passes {
            let (loss, gw, gb) = self.mean((&y[..n], &y[n..]), 0..self.labelled().0.len());
            let old = [self.w.clone(), self.b.clone()].concat();
            let g = [gw, gb].concat();
            let new: Vec<f64> = (0..y.len())
                .map(|i| match i < n {
                    true if self.mask[i] == 0.0 => 0.0,
                    true => {
                        let v = y[i] - step * (g[i] + 2.0 * l2 * y[i]);
                        v.signum() * (v.abs() - step * l1).max(0.0)
                    }
                    false => y[i] - step * g[i],
                })
                .collect();
            let residual: Vec<f64> = y.iter().zip(&new).map(|(y, w)| (y - w) / step).collect();
            told.push((loss, residual.iter().fold(0.0, |a: f64, r| a.max(r.abs()))));
            let uphill: f64 =
                residual.iter().zip(new.iter().zip(&old)).map(|(r, (w, o))| r * (w - o)).sum();
            let next = 0.5 * (1.0 + (1.0 + 4.0 * t * t).sqrt());
            let ahead = if uphill > 0.0 { 0.0 } else { (t - 1.0) / next };
            t = if uphill > 0.0 { 1.0 } else { next };
            y = new.iter().zip(&old).map(|(w, o)| w + ahead * (w - o)).collect();
            (self.w, self.b) = (new[..n].to_vec(), new[n..].to_vec());
        }
        told
    }
}

/// Weights and biases of a bank, head by head, must be those of the probes within an absolute bound.
pub(crate) fn assert_weights(
    (weights, biases): &(Vec<f32>, Vec<f32>),
    probes: &[Probe<'_>],
    (bound, what): (f64, &str),
) {
    let (mut w, mut b) = (weights.iter(), biases.iter());
    for (number, probe) in probes.iter().enumerate() {
        let own = w.by_ref().take(probe.w.len()).chain(b.by_ref().take(probe.b.len()));
        for (i, (ours, want)) in own.zip(probe.w.iter().chain(&probe.b)).enumerate() {
            let error = (f64::from(*ours) - want).abs();
            assert!(error <= bound, "{what}: head {number}, number {i}: {ours}, not {want}");
        }
    }
    assert!(w.next().is_none() && b.next().is_none());
}
