//! The optimum of a bank of probes: FISTA over as many passes as it takes.

use super::probe_ops::{Feed, Head, ProbeLoss, ProbeOps};
use crate::error::Result;

/// When a probe is done.
#[derive(Clone, Debug, PartialEq)]
pub struct Stop {
    /// Largest generalised gradient, in parts of `scales`.
    pub tolerance: f64,
    /// Passes, at most.
    pub passes: usize,
    /// What the generalised gradient of each head is held against: that at zero. None where heads start
    /// from zero: the first pass then finds them.
    pub scales: Option<Vec<f64>>,
}

/// How a head ended.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Solved {
    /// Passes it took part in.
    pub passes: usize,
    /// Mean loss at the point its last step began from, penalties left out.
    pub loss: f64,
    /// Largest component of the generalised gradient there, in parts of `scale`; NaN where rows hold
    /// numbers that are not finite.
    pub residual: f64,
    /// What it is held against; see [`Stop::scales`]. Another solve of the same rows takes it over.
    pub scale: f64,
    /// Whether the residual is at most the tolerance.
    pub converged: bool,
}

/// A bank on its way to the optimum, between two passes: for callers who feed many banks in one pass.
#[derive(Debug)]
pub struct Solve {
    stop: Stop,
    steps: Vec<f32>,
    solved: Vec<Solved>,
    passes: usize,
}

impl Solve {
    /// Before the first pass; `steps` are by head, see [`step_length`].
    pub fn new(steps: &[f32], stop: &Stop) -> Self {
        assert!(stop.scales.as_ref().is_none_or(|scales| scales.len() == steps.len()));
        let solved = vec![Solved::default(); steps.len()];
        Self { stop: stop.clone(), steps: steps.to_vec(), solved, passes: 0 }
    }

    /// Where it stands, as numbers for [`Self::restored`].
    pub fn numbers(&self) -> Vec<f64> {
        let head = |(step, own): (&f32, &Solved)| {
            let converged = f64::from(u8::from(own.converged));
            [f64::from(*step), own.passes as f64, own.loss, own.residual, own.scale, converged]
        };
        let heads = self.steps.iter().zip(&self.solved).flat_map(head);
        std::iter::once(self.passes as f64).chain(heads).collect()
    }

    /// Where one of so many heads stood; none if the numbers are of no such one.
    #[expect(clippy::cast_possible_truncation, reason = "they were a step, and counts")]
    #[expect(clippy::cast_sign_loss, reason = "counts")]
    pub fn restored(heads: usize, stop: &Stop, numbers: &[f64]) -> Option<Self> {
        let (passes, rest) = numbers.split_first()?;
        let (of_heads, []) = rest.as_chunks::<6>() else { return None };
        if of_heads.len() != heads {
            return None;
        }
        let solved = |&[_, passes, loss, residual, scale, converged]: &[f64; 6]| Solved {
            passes: passes as usize,
            loss,
            residual,
            scale,
            converged: converged != 0.0,
        };
        Some(Self {
            stop: stop.clone(),
            steps: of_heads.iter().map(|own| own[0] as f32).collect(),
            solved: of_heads.iter().map(solved).collect(),
            passes: *passes as usize,
        })
    }

    /// Whether another pass is wanted.
    pub fn is_open(&self) -> bool {
        self.passes < self.stop.passes && self.steps.iter().any(|step| *step > 0.0)
    }

    /// A step, once a whole pass was fed with [`Feed::Gradient`]. Heads that are done stay.
    pub fn step<D: ProbeOps>(&mut self, device: &D, bank: &mut D::Bank) -> Result<()> {
        device.end_pass(bank, Feed::Gradient);
        let progress = device.proximal(bank, &self.steps)?;
        self.passes += 1;
        for (h, (step, solved)) in self.steps.iter_mut().zip(&mut self.solved).enumerate() {
            if *step == 0.0 {
                continue;
            }
            if self.passes == 1 {
                let scales = self.stop.scales.as_ref();
                solved.scale = scales.map_or(progress[h].residual, |all| all[h]);
            }
            solved.passes = self.passes;
            solved.loss = progress[h].loss;
            solved.converged = progress[h].residual <= self.stop.tolerance * solved.scale;
            solved.residual = match progress[h].residual {
                0.0 => 0.0,
                residual => residual / solved.scale,
            };
            if solved.converged || !progress[h].residual.is_finite() {
                *step = 0.0;
            }
        }
        Ok(())
    }

    /// How the heads ended.
    pub fn finish(self) -> Vec<Solved> {
        self.solved
    }
}

/// Solves all heads of a bank. `pass` feeds all rows of a pass with the given [`Feed`]; `steps` are by head,
/// see [`step_length`].
pub fn solve<D: ProbeOps>(
    device: &D,
    bank: &mut D::Bank,
    steps: &[f32],
    stop: &Stop,
    mut pass: impl FnMut(&mut D::Bank, Feed) -> Result<()>,
) -> Result<Vec<Solved>> {
    let mut solve = Solve::new(steps, stop);
    while solve.is_open() {
        pass(bank, Feed::Gradient)?;
        solve.step(device, bank)?;
    }
    Ok(solve.finish())
}

/// A step that no rows can make too long: 1 / L, the gradient being L-Lipschitz. `largest` is the largest
/// eigenvalue of the mean of x x^T over a head's rows, x with a 1 for the bias at its end, from above. The
/// curvature of a softmax is at most half of it (Boehning 1992), of a logistic loss a quarter.
pub fn step_length(head: &Head, largest: f64) -> f32 {
    let curvature = match head.loss {
        ProbeLoss::Softmax => 0.5,
        ProbeLoss::Logistic => 0.25,
        ProbeLoss::Squared => 2.0,
    };
    #[expect(clippy::cast_possible_truncation, reason = "the bound has a margin")]
    let step = (1.0 / (curvature * largest + 2.0 * f64::from(head.l2))) as f32;
    if step.is_finite() { step } else { 1.0 }
}

/// The largest eigenvalue of a symmetric matrix `[n, n]` without negative ones, by power iteration, with a
/// margin of 2 percent: the iteration comes from below.
pub fn largest_eigenvalue(matrix: &[f64], n: usize) -> f64 {
    assert_eq!(matrix.len(), n * n);
    let norm = |v: &[f64]| v.iter().map(|x| x * x).sum::<f64>().sqrt();
    // Unequal, so that no eigenvector of a plain pattern is at right angles to it.
    let mut v: Vec<f64> = (0..n).map(|i| 1.0 + (i % 7) as f64 / 16.0).collect();
    let mut largest = 0.0;
    for _ in 0..1000 {
        let length = norm(&v);
        v.iter_mut().for_each(|x| *x /= length);
        let next: Vec<f64> = matrix
            .chunks_exact(n)
            .map(|row| row.iter().zip(&v).map(|(a, b)| a * b).sum())
            .collect();
        let found = norm(&next);
        if found == 0.0 || (found - largest).abs() <= 1e-5 * found {
            return 1.02 * found;
        }
        (largest, v) = (found, next);
    }
    1.02 * largest
}
