//! What a device does for probing: banks of linear probes trained on rows as they come by.
//!
//! A bank holds any number of probes of one site (concepts x seeds x penalties x control labels) as one
//! product: the rows of a call are read once for all of them. Every sum is taken over the rows of a
//! task in their order, with one rounding a row, and goes on where the call before left it: however
//! rows are cut into calls, the bits are the same.

use super::ops::Ops;
use crate::error::Result;

/// A device that can train probes.
pub trait ProbeOps: Ops {
    /// Probes of one site with the state of their solver.
    type Bank: Send;

    /// A bank with its first weights: `weights[c]` and `biases[c]` of the columns of all heads, one
    /// head after the other; weights row-major `[columns, inputs]`.
    fn bank(&self, plan: &BankPlan, weights: &[f32], biases: &[f32]) -> Result<Self::Bank>;
    /// Reads rows of `x`, `[rows, inputs]`: for each task those that have a label, in order. What is
    /// done with them is `what`. `tasks` are the bank's, all of them.
    fn feed(&self, bank: &mut Self::Bank, x: &Self::Tensor, tasks: &[TaskRows<'_>], what: Feed);
    /// Ends a pass over the rows. After [`Feed::Train`] a step is made on the batch that is not full;
    /// after [`Feed::Gradient`] the sums are complete.
    fn end_pass(&self, bank: &mut Self::Bank, what: Feed);
    /// One step of FISTA (Beck & Teboulle 2009) for each head from the gradients of a whole pass, which
    /// are spent; restarted where it points uphill (O'Donoghue & Candes 2015). `steps[h]` is the step
    /// length of head h, 0 for heads that stay.
    fn proximal(&self, bank: &mut Self::Bank, steps: &[f32]) -> Result<Vec<Progress>>;
    /// Losses and counts since the last call, which are then forgotten.
    fn take_measures(&self, bank: &mut Self::Bank) -> Result<Vec<Measures>>;
    /// Weights `[columns, inputs]` and biases `[columns]`, heads in order.
    fn read_bank(&self, bank: &Self::Bank) -> Result<(Vec<f32>, Vec<f32>)>;
    /// What a bank knows between two passes of its solver.
    fn save_bank(&self, bank: &Self::Bank) -> Result<BankState>;
    /// Puts a bank of the same plan where that one was: what follows has the same bits. False, and nothing
    /// is changed, if the state is of no such bank.
    fn restore_bank(&self, bank: &mut Self::Bank, state: &BankState) -> Result<bool>;
}

/// A bank between two passes: weights and moments as its kind of device lays them out.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct BankState {
    /// Weights and biases, then what the solver keeps for each.
    pub arrays: Vec<f32>,
    /// Which solver, then its steps or momenta.
    pub numbers: Vec<f64>,
}

/// What becomes of rows that are fed to a bank.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Feed {
    /// Adam (Kingma & Ba 2015): a step after every `batch` rows of a task, on the mean over them.
    /// Rows that do not fill a batch wait for the next call.
    Train {
        /// Rows of a step.
        batch: usize,
    },
    /// Sums of gradients at the point that the next proximal step starts from, and its losses: f32 in runs
    /// of [`RUN`] rows of a task, f64 across them.
    Gradient,
    /// Losses and counts at the weights that [`ProbeOps::read_bank`] gives.
    Measure,
}

/// Rows of a task whose gradients are added in f32 before they go to f64.
pub const RUN: usize = 512;

/// Probes of one site.
#[derive(Clone, Debug, PartialEq)]
pub struct BankPlan {
    /// Columns of the site.
    pub inputs: usize,
    /// Sets of labels that rows come with.
    pub tasks: usize,
    /// The probes.
    pub heads: Vec<Head>,
    /// 0 where a weight stays 0, 1 where it may move, `[columns, inputs]`; none where all may.
    pub masks: Option<Vec<f32>>,
}

impl BankPlan {
    /// Columns of all heads.
    pub fn columns(&self) -> usize {
        self.heads.iter().map(|head| head.columns).sum()
    }
}

/// One probe: mean loss + `l1 |W|_1` + l2 times the squared norm of W, or times its norm.
/// Biases go free.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Head {
    /// Whose labels it learns.
    pub task: usize,
    /// Outputs: classes of a softmax; 1 for a logistic or a squared loss.
    pub columns: usize,
    /// What is made small.
    pub loss: ProbeLoss,
    /// Weight of the sum of magnitudes.
    pub l1: f32,
    /// Weight of the squared norm, or of the norm.
    pub l2: f32,
    /// `l2 |W|`, as NeuroX has it, instead of `l2 |W|^2`. With Adam only.
    pub norm: bool,
    /// Step of Adam.
    pub rate: f32,
}

/// The loss of a row, in nats.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ProbeLoss {
    /// -log softmax at the class.
    Softmax,
    /// -log of the logistic function, targets 0 and 1.
    Logistic,
    /// `(w . x + b - target)^2`.
    Squared,
}

/// Rows with a label of one task.
#[derive(Clone, Copy, Debug)]
pub struct TaskRows<'a> {
    /// Row of the tensor, in the order in which they are learned from.
    pub rows: &'a [u32],
    /// Class of each, or the number asked for.
    pub targets: &'a [f32],
}

/// How a proximal step went.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Progress {
    /// Mean loss at the point the step began from, penalties left out.
    pub loss: f64,
    /// Largest change of a weight or bias.
    pub change: f64,
    /// Largest component of the generalised gradient `(y - w) / step`, y being the point the step began
    /// from: 0 at the optimum.
    pub residual: f64,
}

/// What a head did on the rows it was held against.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Measures {
    /// Rows.
    pub rows: u64,
    /// Sum of losses.
    pub loss: f64,
    /// Rows by their class, `[classes]`; two classes for a logistic loss, empty for a squared one.
    pub seen: Vec<u64>,
    /// Of these, answered right: the largest logit, the first of equal ones; above 0 for a logistic loss.
    pub right: Vec<u64>,
    /// Answers by class.
    pub said: Vec<u64>,
}

/// The next t of FISTA (Beck & Teboulle 2009, equation 4.2) and the part of a step that the next one
/// starts ahead; where steps went uphill, it begins anew.
pub(super) fn momentum(t: f64, uphill: bool) -> (f64, f64) {
    if uphill {
        return (1.0, 0.0);
    }
    let next = 0.5 * (1.0 + (1.0 + 4.0 * t * t).sqrt());
    (next, (t - 1.0) / next)
}
