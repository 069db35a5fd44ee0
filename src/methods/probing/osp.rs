//! Optimal sparse probes (`osp`; Gurnee et al. 2023 after Bertsimas et al. 2021): the k neurons, out of a
//! few dozen candidates, on which a class-balanced hinge loss with a ridge is smallest.
//!
//! No support has to be fitted that a cheap bound rules out. Multipliers that are feasible for one support
//! are feasible for all, and bound the objective on support S by `Σ α - Σ_{j in S} q_j / (2 ridge)` with
//! `q_j = (Σ_i α_i y_i x_ij)²`: one addition for each neuron. So after each fit all supports get the bound
//! of its multipliers, the one with the lowest bound is fitted next, and the search ends when no bound is
//! below the best objective: of the 19,600 triples of 50 candidates a few dozen are fitted, most of them
//! only until their bound is high enough. That is the outer approximation of the paper with the master
//! problem enumerated, and as exact.

use super::class_moments::ClassMoments;
use super::hinge::{HingeProbe, HingeProblem};
use super::logistic::{balanced, one_class};
use super::metrics::{Metrics, metrics};
use super::rows::Block;
use crate::error::{Error, Result};

/// Supports that are enumerated at most: triples of 50 are 19,600.
const ENUMERATED: usize = 200_000;
/// Part of the objective that two supports may differ by and be called equal.
const SAME: f64 = 1e-7;
/// Sweeps over all exchanges at most.
const SWEEPS: usize = 50;

/// An optimal sparse probe.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SparseSupport {
    /// Columns of the candidates, in increasing order.
    pub columns: Vec<u32>,
    /// The probe on them.
    pub probe: HingeProbe,
    /// No support of this size has a smaller objective than this.
    pub bound: f64,
    /// Whether objective and bound meet: the support is optimal. Else it is the best of a search by
    /// exchanges, a heuristic.
    pub exact: bool,
    /// Supports that were fitted.
    pub fits: usize,
}

/// The neurons with the largest |mean with - mean without|, at most `most`, in increasing order: the
/// candidates.
pub fn candidates(without: &ClassMoments, with: &ClassMoments, most: usize) -> Vec<u32> {
    let difference = |n: u32| (with.mean[n as usize] - without.mean[n as usize]).abs();
    let mut order: Vec<u32> = (0..with.dims() as u32).collect();
    order.sort_by(|&a, &b| difference(b).total_cmp(&difference(a)));
    order.truncate(most);
    order.sort_unstable();
    order
}

/// A search under way.
struct Search<'a> {
    x: &'a Block,
    labels: &'a [bool],
    costs: Vec<f64>,
    ridge: f64,
    /// (Σ α, q by column / (2 ridge)) of every fit.
    cuts: Vec<(f64, Vec<f64>)>,
    best: SparseSupport,
}

impl Search<'_> {
    /// Fits one support, keeps its cut, and the fit if it is the best.
    fn fit(&mut self, support: &[u32]) {
        let rows: Vec<usize> = (0..self.x.len()).collect();
        let x = self.x.pick(&rows, support);
        let problem =
            HingeProblem { x: &x, labels: self.labels, costs: &self.costs, ridge: self.ridge };
        let probe = problem.fit(self.best.probe.objective);
        let mut along = vec![0.0; self.x.cols()];
        for (row, m) in self.x.rows().zip(&probe.multipliers) {
            along.iter_mut().zip(row).for_each(|(sum, x)| *sum += m * x);
        }
        let total: f64 = probe.multipliers.iter().map(|m| m.abs()).sum();
        let shares = along.iter().map(|a| a * a / (2.0 * self.ridge)).collect();
        self.cuts.push((total, shares));
        self.best.fits += 1;
        if probe.objective < self.best.probe.objective {
            self.best.columns = support.to_vec();
            self.best.probe = probe;
        }
    }

    /// What the last fit says of a support.
    fn last_bound(&self, support: &[u32]) -> f64 {
        self.cuts.last().map_or(f64::NEG_INFINITY, |cut| bound(cut, support))
    }

    /// Whether some fit rules a support out.
    fn ruled_out(&self, support: &[u32]) -> bool {
        self.cuts.iter().any(|cut| bound(cut, support) >= self.best.probe.objective)
    }

    /// What all fits say of any support of `k` columns: for each, those with the largest q are the best.
    fn overall_bound(&self, k: usize) -> f64 {
        let of = |(total, shares): &(f64, Vec<f64>)| {
            let mut shares = shares.clone();
            shares.sort_by(|a, b| b.total_cmp(a));
            total - shares[..k].iter().sum::<f64>()
        };
        self.cuts.iter().map(of).fold(f64::NEG_INFINITY, f64::max)
    }

    /// By rising bound until nothing is below the best.
    fn enumerate(&mut self, k: usize) {
        let supports = subsets(self.x.cols(), k);
        let mut bounds = vec![f64::NEG_INFINITY; supports.len()];
        let mut open = vec![true; supports.len()];
        loop {
            let left = (0..supports.len()).filter(|&i| open[i]);
            let lowest = left.min_by(|&a, &b| bounds[a].total_cmp(&bounds[b]));
            let Some(next) = lowest else { break };
            if bounds[next] >= self.best.probe.objective * (1.0 - SAME) {
                break;
            }
            self.fit(&supports[next]);
            open[next] = false;
            for (bound, support) in bounds.iter_mut().zip(&supports) {
                *bound = bound.max(self.last_bound(support));
            }
        }
        self.close(bounds.into_iter().fold(f64::INFINITY, f64::min));
    }

    /// Ends with a bound of all supports.
    fn close(&mut self, bound: f64) {
        self.best.bound = bound.min(self.best.probe.objective);
        let gap = self.best.probe.objective - self.best.bound;
        self.best.exact = gap <= SAME * self.best.probe.objective;
    }

    /// Adds the best column until there are k, then exchanges while that helps.
    fn exchange(&mut self, k: usize) {
        let mut support: Vec<u32> = Vec::new();
        while support.len() < k {
            self.best.probe.objective = f64::INFINITY;
            for column in self.others(&support) {
                let grown = with(&support, column);
                if !self.ruled_out(&grown) {
                    self.fit(&grown);
                }
            }
            support.clone_from(&self.best.columns);
        }
        for _ in 0..SWEEPS {
            let before = self.best.columns.clone();
            for dropped in before.clone() {
                let kept: Vec<u32> = before.iter().copied().filter(|&c| c != dropped).collect();
                for column in self.others(&before) {
                    let changed = with(&kept, column);
                    if !self.ruled_out(&changed) {
                        self.fit(&changed);
                    }
                }
            }
            if self.best.columns == before {
                break;
            }
        }
        self.close(self.overall_bound(k));
    }

    fn others(&self, support: &[u32]) -> Vec<u32> {
        (0..self.x.cols() as u32).filter(|column| !support.contains(column)).collect()
    }
}

fn bound((total, shares): &(f64, Vec<f64>), support: &[u32]) -> f64 {
    total - support.iter().map(|&column| shares[column as usize]).sum::<f64>()
}

fn with(support: &[u32], column: u32) -> Vec<u32> {
    let mut grown = support.to_vec();
    grown.push(column);
    grown.sort_unstable();
    grown
}

/// n over k, at most usize::MAX.
fn choose(n: usize, k: usize) -> usize {
    (0..k).fold(1_usize, |all, i| all.saturating_mul(n - i) / (i + 1))
}

/// All sets of `k` of `n` columns in lexicographic order.
fn subsets(n: usize, k: usize) -> Vec<Vec<u32>> {
    let mut all = vec![Vec::new()];
    for left in (0..k).rev() {
        let grow = |set: &Vec<u32>| {
            let first = set.last().map_or(0, |&last| last + 1);
            let grown = |column| [set.as_slice(), &[column]].concat();
            (first..(n - left) as u32).map(grown).collect::<Vec<_>>()
        };
        all = all.iter().flat_map(grow).collect();
    }
    all
}

/// The best k of the columns of `x` by
/// `min_{w,b} Σ_i c_i hinge(y_i f_i) + 1/(2 reg) |w|²`, reg = 1/sqrt(rows), c class-balanced: exact for up
/// to three columns (and as long as there are no more than 200,000 supports), by exchanges beyond, and
/// then still proved where bounds meet.
///
/// k is cut to the columns there are; refuses k = 0 and rows of one class.
pub fn optimal_support(x: &Block, labels: &[bool], k: usize) -> Result<SparseSupport> {
    let Some(costs) = balanced(labels).filter(|costs| costs.len() == x.len()) else {
        return Err(one_class("osp"));
    };
    let k = k.min(x.cols());
    if k == 0 {
        return Err(Error::config("osp", "k is 0", "ask for at least one neuron"));
    }
    let mut search = Search {
        x,
        labels,
        ridge: (x.len() as f64).sqrt(),
        costs,
        cuts: Vec::new(),
        best: SparseSupport { bound: f64::NEG_INFINITY, ..SparseSupport::default() },
    };
    search.best.probe.objective = f64::INFINITY;
    match k <= 3 && choose(x.cols(), k) <= ENUMERATED {
        true => search.enumerate(k),
        false => search.exchange(k),
    }
    Ok(search.best)
}

/// A neuron that was taken away.
#[derive(Clone, Debug, PartialEq)]
pub struct Pruned {
    /// The support it stood in.
    pub support: SparseSupport,
    /// The column that was taken away: of the support, the one with the best F1 alone.
    pub column: u32,
    /// What it does alone on the training rows.
    pub alone: Metrics,
}

/// Finds the best k columns, takes the best single one away, and again, `rounds` times (Gurnee et al.
/// 2023, section 5): good neurons that keep coming are an ensemble, a quick end is one detector.
pub fn prune(x: &Block, labels: &[bool], k: usize, rounds: usize) -> Result<Vec<Pruned>> {
    let rows: Vec<usize> = (0..x.len()).collect();
    let mut left: Vec<u32> = (0..x.cols() as u32).collect();
    let mut pruned = Vec::new();
    while pruned.len() < rounds && !left.is_empty() {
        let mut support = optimal_support(&x.pick(&rows, &left), labels, k)?;
        support.columns.iter_mut().for_each(|column| *column = left[*column as usize]);
        let mut best: Option<(u32, Metrics)> = None;
        for &column in &support.columns {
            let own = x.pick(&rows, &[column]);
            let probe = optimal_support(&own, labels, 1)?.probe;
            let Some(alone) = metrics(&probe.scores(&own), labels) else { continue };
            if best.is_none_or(|(_, top)| alone.f1 > top.f1) {
                best = Some((column, alone));
            }
        }
        let Some((column, alone)) = best else { break };
        left.retain(|&other| other != column);
        pruned.push(Pruned { support, column, alone });
    }
    Ok(pruned)
}
