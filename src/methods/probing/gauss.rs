//! The Gaussian probe (Torroba Hennigen et al. 2020): each class is a normal distribution, so that a probe
//! of any subset of neurons is a marginal of the one that was trained.

use std::f64::consts::TAU;

use super::class_moments::ClassMoments;
use super::greedy::Chosen;
use super::rows::{Block, log_sum_exp};
use crate::error::{Error, Result};
use crate::methods::algebra::cholesky::{cholesky, solve};

/// A variance that is this share of what a neuron had, or of its squared mean, is rounding.
const LEAST: f64 = 1e-12;
/// How often a diagonal is raised before it is given up.
const RAISES: usize = 12;

/// How covariances are estimated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Covariance {
    /// Under a normal-inverse-Wishart prior taken from the data: `(diag(cov) + S) / (n + 2 D + 4)`, the
    /// mode for k_0 = 0.01, nu_0 = D + 2, mean prior at the class mean. D is that of all neurons, for
    /// subsets too. Definite for any number of rows.
    #[default]
    Map,
    /// `S / (n - 1)`.
    Mle,
}

/// One class.
#[derive(Clone, Debug, PartialEq)]
pub struct ClassGaussian {
    /// ln of its share of the training rows.
    pub log_prior: f64,
    /// `[D]`.
    pub mean: Vec<f64>,
    /// `[D, D]`.
    pub covariance: Vec<f64>,
}

impl ClassGaussian {
    /// Whether a neuron has no variance here but rounding.
    fn is_flat(&self, neuron: usize) -> bool {
        let variance = self.covariance[neuron * (self.mean.len() + 1)];
        variance <= LEAST * self.mean[neuron].powi(2)
    }
}

/// The probe.
#[derive(Clone, Debug, PartialEq)]
pub struct Gaussian {
    /// The classes in order.
    pub classes: Vec<ClassGaussian>,
    /// Neurons without variance in some class: they have no density there and are never chosen.
    pub excluded: Vec<u32>,
}

impl Gaussian {
    /// From the moments of classes; `diagonal` leaves covariances between neurons out (naive Bayes).
    ///
    /// Refuses fewer than two classes, and classes of fewer than two rows: leave those out before.
    pub fn fit(classes: &[ClassMoments], kind: Covariance, diagonal: bool) -> Result<Self> {
        if classes.len() < 2 || classes.iter().any(|class| class.rows < 2) {
            let few = classes.iter().position(|class| class.rows < 2);
            return Err(Error::config(
                "gauss",
                match few {
                    Some(class) => format!("class {class} has fewer than two rows"),
                    None => format!("{} class, at least two are compared", classes.len()),
                },
                "label more rows, or raise min_count so that rare classes are left out",
            ));
        }
        let total: f64 = classes.iter().map(ClassMoments::count).sum();
        let d = classes[0].dims();
        let one = |class: &ClassMoments| ClassGaussian {
            log_prior: (class.count() / total).ln(),
            mean: class.mean.clone(),
            covariance: covariance(class, kind, diagonal),
        };
        let classes: Vec<ClassGaussian> = classes.iter().map(one).collect();
        let flat = |n: &u32| classes.iter().any(|class| class.is_flat(*n as usize));
        let excluded = (0..d as u32).filter(flat).collect();
        Ok(Self { classes, excluded })
    }

    /// Neurons.
    pub fn dims(&self) -> usize {
        self.classes[0].mean.len()
    }

    /// Makes the covariances of all neurons together positive definite: adds 10 |least eigenvalue| to the
    /// diagonals of those that are not (Antverg & Belinkov 2022, `Gaussian.py`), or more where that is
    /// lost in rounding. Where a neuron has no variance it gets 1. Needed for
    /// [`Covariance::Mle`] with few rows; `least(matrix, D)` gives the least eigenvalue of a symmetric
    /// matrix. Returns the classes that were raised.
    pub fn make_definite(&mut self, least: impl Fn(&[f64], usize) -> f64) -> Result<Vec<usize>> {
        let d = self.dims();
        for class in &mut self.classes {
            for &neuron in &self.excluded {
                if class.is_flat(neuron as usize) {
                    class.covariance[neuron as usize * (d + 1)] = 1.0;
                }
            }
        }
        let mut raised = Vec::new();
        for (number, class) in self.classes.iter_mut().enumerate() {
            if cholesky(class.covariance.clone(), d).is_some() {
                continue;
            }
            let scale = (0..d).map(|i| class.covariance[i * (d + 1)]).fold(0.0, f64::max);
            let mut step = (10.0 * least(&class.covariance, d).abs()).max(scale * f64::EPSILON);
            let mut tries = 0;
            while cholesky(class.covariance.clone(), d).is_none() {
                if tries == RAISES || !step.is_finite() {
                    return Err(not_definite(number));
                }
                (0..d).for_each(|i| class.covariance[i * (d + 1)] += step);
                (step, tries) = (step * 10.0, tries + 1);
            }
            raised.push(number);
        }
        Ok(raised)
    }

    /// ln p(class | x of the neurons `subset`), `[rows, classes]`, rows normalised. `rows` holds all D
    /// neurons.
    ///
    /// Refuses a subset whose covariance in some class is not positive definite.
    pub fn log_posteriors(&self, rows: &Block, subset: &[u32]) -> Result<Block> {
        let (d, k, g) = (self.dims(), subset.len(), self.classes.len());
        let mut joint = vec![0.0; rows.len() * g];
        for (number, class) in self.classes.iter().enumerate() {
            let at = |i: u32, j: u32| class.covariance[i as usize * d + j as usize];
            let marginal = subset.iter().flat_map(|&i| subset.iter().map(move |&j| at(i, j)));
            let factor = cholesky(marginal.collect(), k).ok_or_else(|| not_definite(number))?;
            let log_det: f64 = (0..k).map(|i| factor[i * k + i].ln()).sum();
            let front = class.log_prior - log_det - 0.5 * k as f64 * TAU.ln();
            for (row, x) in rows.rows().enumerate() {
                let centred = subset.iter().map(|&i| x[i as usize] - class.mean[i as usize]);
                let centred: Vec<f64> = centred.collect();
                let mut solved = centred.clone();
                solve(&factor, &mut solved);
                let distance: f64 = centred.iter().zip(&solved).map(|(a, b)| a * b).sum();
                joint[row * g + number] = front - 0.5 * distance;
            }
        }
        let mut joint = Block::new(joint, g);
        for row in joint.rows_mut() {
            let norm = log_sum_exp(row);
            row.iter_mut().for_each(|x| *x -= norm);
        }
        Ok(joint)
    }

    /// The probe before any neuron is chosen, on development rows of all D neurons.
    /// Memory: 8 bytes x classes x D x (rows + D).
    pub fn selection<'a>(&'a self, rows: &Block) -> GaussianSelection<'a> {
        let one = |class: &ClassGaussian| {
            let column = |n: usize| rows.rows().map(move |row| row[n] - class.mean[n]);
            Residuals {
                rows: rows.len(),
                residual: (0..self.dims()).flat_map(column).collect(),
                variance: class.covariance.clone(),
                log_density: vec![class.log_prior; rows.len()],
            }
        };
        GaussianSelection { probe: self, classes: self.classes.iter().map(one).collect() }
    }
}

fn not_definite(class: usize) -> Error {
    Error::config(
        "gauss",
        format!("the covariance of class {class} is not positive definite"),
        "use the MAP estimate, the diagonal option, fewer neurons or more rows",
    )
}

fn covariance(class: &ClassMoments, kind: Covariance, diagonal: bool) -> Vec<f64> {
    let (d, n) = (class.dims(), class.count());
    let entry = |at: usize| {
        let (i, j) = (at / d, at % d);
        let scatter = class.scatter[at];
        match kind {
            _ if diagonal && i != j => 0.0,
            Covariance::Map => {
                let prior = if i == j { scatter / (n - 1.0) } else { 0.0 };
                (prior + scatter) / (n + 2.0 * d as f64 + 4.0)
            }
            Covariance::Mle => scatter / (n - 1.0),
        }
    };
    (0..d * d).map(entry).collect()
}

/// What is left of the rows and of the covariance of one class once the chosen neurons are known.
struct Residuals {
    rows: usize,
    /// Rows minus what the chosen neurons predict, `[D, rows]`.
    residual: Vec<f64>,
    /// Covariance given the chosen neurons, `[D, D]`.
    variance: Vec<f64>,
    /// ln p(class, chosen neurons), `[rows]`.
    log_density: Vec<f64>,
}

impl Residuals {
    fn dims(&self) -> usize {
        self.variance.len().isqrt()
    }

    fn of(&self, neuron: usize) -> &[f64] {
        &self.residual[neuron * self.rows..(neuron + 1) * self.rows]
    }

    /// ln p(class, chosen, neuron) of each row: one conditional density more.
    fn with<'a>(&'a self, neuron: usize, v: f64) -> impl Iterator<Item = f64> + 'a {
        let front = -0.5 * (TAU * v).ln();
        let pairs = self.log_density.iter().zip(self.of(neuron));
        pairs.map(move |(lp, z)| lp + front - 0.5 * z * z / v)
    }

    /// Conditions on a neuron: `R -= z V[c,:] / v`, `V -= V[c,:]^T V[c,:] / v`.
    fn add(&mut self, neuron: usize, v: f64) {
        let d = self.dims();
        self.log_density = self.with(neuron, v).collect();
        let z = self.of(neuron).to_vec();
        let along = self.variance[neuron * d..(neuron + 1) * d].to_vec();
        for (n, residual) in self.residual.chunks_exact_mut(self.rows.max(1)).enumerate() {
            let share = along[n] / v;
            if share != 0.0 {
                residual.iter_mut().zip(&z).for_each(|(r, z)| *r -= share * z);
            }
        }
        for (n, row) in self.variance.chunks_exact_mut(d).enumerate() {
            let share = along[n] / v;
            if share != 0.0 {
                row.iter_mut().zip(&along).for_each(|(v, along)| *v -= share * along);
            }
        }
    }
}

/// A Gaussian probe with some neurons chosen, for [`select`](super::greedy::select). All candidates are
/// scored from residuals and conditional variances at once: O(rows x D x classes) a step, where a Cholesky
/// factor for each would be D times that. Equal to it but for rounding.
pub struct GaussianSelection<'a> {
    probe: &'a Gaussian,
    classes: Vec<Residuals>,
}

impl GaussianSelection<'_> {
    /// The conditional variance in each class; none if some class has none left.
    fn variances(&self, neuron: usize) -> Option<Vec<f64>> {
        let at = neuron * (self.probe.dims() + 1);
        let one = |(now, before): (&Residuals, &ClassGaussian)| {
            let v = now.variance[at];
            (v > LEAST * before.covariance[at]).then_some(v)
        };
        self.classes.iter().zip(&self.probe.classes).map(one).collect()
    }
}

impl Chosen for GaussianSelection<'_> {
    fn neurons(&self) -> usize {
        self.probe.dims()
    }

    fn with(&self, neuron: usize, joint: &mut [f64]) -> bool {
        if self.probe.excluded.binary_search(&(neuron as u32)).is_ok() {
            return false;
        }
        let Some(variances) = self.variances(neuron) else { return false };
        let parts = self.classes.iter().zip(variances);
        let all = parts.flat_map(|(class, v)| class.with(neuron, v));
        joint.iter_mut().zip(all).for_each(|(out, x)| *out = x);
        true
    }

    fn add(&mut self, neuron: usize) {
        let Some(variances) = self.variances(neuron) else { return };
        for (class, v) in self.classes.iter_mut().zip(variances) {
            class.add(neuron, v);
        }
    }
}
