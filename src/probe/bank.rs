//! Which probes there are, and what their weights begin as.

use crate::device::probe_ops::{BankPlan, Head, ProbeLoss};
use crate::hash::{GAMMA, mix};

/// One probe of a site.
#[derive(Clone, Debug, PartialEq)]
pub struct Probe {
    /// Number of its task.
    pub task: usize,
    /// Classes of the task; 0 for numbers.
    pub classes: usize,
    /// What is made small.
    pub loss: ProbeLoss,
    /// Weight of the sum of magnitudes, beside the mean loss.
    pub l1: f64,
    /// Weight of the squared norm, or of the norm.
    pub l2: f64,
    /// `l2 |W|` instead of `l2 |W|^2`.
    pub norm: bool,
    /// Step of Adam.
    pub rate: f64,
    /// Of its first weights; none begins at 0.
    pub seed: Option<u64>,
    /// The inputs that it may read; all of them where none are named.
    pub inputs: Option<Vec<u32>>,
}

impl Probe {
    /// Its outputs.
    pub fn columns(&self) -> usize {
        match self.loss {
            ProbeLoss::Softmax => self.classes,
            ProbeLoss::Logistic | ProbeLoss::Squared => 1,
        }
    }
}

impl Probe {
    /// As devices know it.
    #[expect(clippy::cast_possible_truncation, reason = "penalties are applied in f32")]
    pub fn head(&self) -> Head {
        Head {
            task: self.task,
            columns: self.columns(),
            loss: self.loss,
            l1: self.l1 as f32,
            l2: self.l2 as f32,
            norm: self.norm,
            rate: self.rate as f32,
        }
    }
}

/// Weights and biases of a probe, `[columns, inputs]` and `[columns]`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Weights {
    /// Row-major.
    pub weights: Vec<f32>,
    /// By column.
    pub biases: Vec<f32>,
}

/// The bank of these probes over a site of so many columns, with the weights they begin with:
/// uniform within ±1/√inputs, as PyTorch's linear layer has them, drawn by seed, task and place.
pub fn bank(inputs: usize, tasks: usize, probes: &[Probe]) -> (BankPlan, Weights) {
    let mut begin = Weights::default();
    let limited = probes.iter().any(|probe| probe.inputs.is_some());
    let mut masks = limited.then(Vec::new);
    for probe in probes {
        let columns = probe.columns();
        let draws =
            Draws { seed: probe.seed, task: probe.task, bound: 1.0 / (inputs as f32).sqrt() };
        let own = begin.weights.len();
        begin.weights.extend((0..columns * inputs).map(|at| draws.at(at)));
        begin.biases.extend((0..columns).map(|at| draws.at(columns * inputs + at)));
        if let Some(masks) = &mut masks {
            let row = mask(inputs, probe.inputs.as_deref());
            for weights in begin.weights[own..].chunks_exact_mut(inputs.max(1)) {
                weights.iter_mut().zip(&row).for_each(|(w, open)| *w *= open);
                masks.extend_from_slice(&row);
            }
        }
    }
    (BankPlan { inputs, tasks, heads: probes.iter().map(Probe::head).collect(), masks }, begin)
}

/// 1 where an input is read.
fn mask(inputs: usize, open: Option<&[u32]>) -> Vec<f32> {
    let Some(open) = open else { return vec![1.0; inputs] };
    let mut row = vec![0.0; inputs];
    open.iter().for_each(|&input| row[input as usize] = 1.0);
    row
}

struct Draws {
    seed: Option<u64>,
    task: usize,
    bound: f32,
}

impl Draws {
    fn at(&self, place: usize) -> f32 {
        let Some(seed) = self.seed else { return 0.0 };
        let stream = mix(seed ^ mix((self.task as u64 + 1).wrapping_mul(GAMMA)));
        let bits = mix((place as u64 + 1).wrapping_mul(GAMMA) ^ stream) >> 40;
        self.bound * (bits as f32 / (1 << 23) as f32 - 1.0)
    }
}

/// Cuts the weights of a bank into those of its probes.
pub fn divide(
    inputs: usize,
    probes: &[Probe],
    (weights, biases): (&[f32], &[f32]),
) -> Vec<Weights> {
    let mut at = 0;
    let mut own = |probe: &Probe| {
        let columns = at..at + probe.columns();
        at = columns.end;
        Weights {
            weights: weights[columns.start * inputs..columns.end * inputs].to_vec(),
            biases: biases[columns].to_vec(),
        }
    };
    probes.iter().map(&mut own).collect()
}
