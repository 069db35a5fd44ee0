//! k-sparse probing (Gurnee et al. 2023): neurons by a heuristic, then a logistic probe on the first k of
//! them, judged on rows it was not trained on.

use super::draw::Draws;
use super::elastic_net::{ElasticNet, LinearProbe, Targets};
use super::hinge::HingeProblem;
use super::logistic::{LogisticProbe, balanced, logistic, one_class};
use super::metrics::{Metrics, metrics};
use super::rows::{Block, Rows};
use crate::error::Result;
use crate::methods::corpus_based::mutual_information::binned_bits;
use crate::methods::evidence::{Cells, ClassStat};
use crate::methods::ranking::{GroupRanking, Score};
use crate::methods::significance::anova;

/// Least spread by which activations are divided.
const LEAST_SPREAD: f64 = 1e-3;
/// What they are divided by beside their spread, as in the paper's code.
const TEN: f64 = 10.0;
/// Bins of `mi`.
const BINS: usize = 32;
/// Columns gathered together: one 64-byte line of f32.
const GATHERED: usize = 16;
/// C of the L2 probe on k neurons.
const C: f64 = 1.0;
/// C of the L1 probe that ranks.
const C_L1: f64 = 0.1;
/// Sizes of supports: 1 to 8, then about half as many again.
pub const SIZES: [usize; 17] = [1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 16, 32, 48, 64, 96, 128, 256];

/// How neurons are ranked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Heuristic {
    /// |mean with - mean without|.
    #[default]
    MeanDifference,
    /// F of a one-way analysis of variance.
    FStatistic,
    /// Mutual information with the activation cut into 32 bins of equal mass, as the method `mi` has it
    /// (the paper's code takes a nearest-neighbour estimate).
    MutualInformation,
    /// |weight| of an L1 logistic probe, C = 0.1, class-balanced.
    Logistic,
    /// |weight| of a support vector machine, class-balanced, C = 1.
    Svm,
    /// By chance.
    Random {
        /// Of the order.
        seed: u64,
    },
}

/// Rows with a concept or without.
#[derive(Clone, Copy, Debug)]
pub struct Labelled<'a> {
    /// Activations.
    pub rows: Rows<'a>,
    /// Whether each row has the concept.
    pub labels: &'a [bool],
}

impl Labelled<'_> {
    /// `10 max(sigma, 1e-3)` of each neuron: what activations are divided by, so that a penalty means the
    /// same for all.
    pub fn scales(&self) -> Vec<f64> {
        let scale = |[mut all, with]: [ClassStat; 2]| {
            all.merge(&with);
            TEN * all.variance().sqrt().max(LEAST_SPREAD)
        };
        self.statistics().into_iter().map(scale).collect()
    }

    /// Moments of each neuron without the concept and with it, in two passes along the rows.
    fn statistics(&self) -> Vec<[ClassStat; 2]> {
        let mut all = vec![[ClassStat::default(); 2]; self.rows.cols()];
        let rows = || (0..self.rows.len()).zip(self.labels.iter().map(|&label| usize::from(label)));
        for (row, class) in rows() {
            for (stats, &x) in all.iter_mut().zip(self.rows.row(row)) {
                stats[class].n += 1;
                stats[class].mean += f64::from(x);
            }
        }
        for stat in all.iter_mut().flatten().filter(|stat| stat.n > 0) {
            stat.mean /= stat.count();
        }
        for (row, class) in rows() {
            for (stats, &x) in all.iter_mut().zip(self.rows.row(row)) {
                stats[class].m2 += (f64::from(x) - stats[class].mean).powi(2);
            }
        }
        all
    }

    /// Bits between each neuron and the concept. Columns are gathered a few at a time.
    fn binned_bits(&self) -> Vec<f64> {
        let mut bits = Vec::with_capacity(self.rows.cols());
        for first in (0..self.rows.cols()).step_by(GATHERED) {
            let width = GATHERED.min(self.rows.cols() - first);
            let mut columns = vec![Vec::with_capacity(self.rows.len()); width];
            for (row, &label) in self.labels.iter().enumerate() {
                let values = &self.rows.row(row)[first..first + width];
                for (column, &x) in columns.iter_mut().zip(values) {
                    column.push((f64::from(x), u32::from(label)));
                }
            }
            let own =
                |column: &mut Vec<(f64, u32)>| binned_bits(&Cells::from_values(column), 2, BINS);
            bits.extend(columns.iter_mut().map(own));
        }
        bits
    }

    /// Chosen neurons of all rows, each divided by its scale.
    pub fn scaled(&self, columns: &[u32], scales: &[f64]) -> Block {
        let all: Vec<usize> = (0..self.rows.len()).collect();
        let mut block = self.rows.block(&all, columns);
        for row in block.rows_mut() {
            let own = columns.iter().map(|&column| scales[column as usize]);
            row.iter_mut().zip(own).for_each(|(x, scale)| *x /= scale);
        }
        block
    }
}

/// Neurons by a heuristic, on training rows. `lr` and `svm` read all neurons at once in f64: for many,
/// take the first of another heuristic before.
///
/// Refuses rows of one class.
pub fn rank_neurons(data: Labelled<'_>, how: Heuristic) -> Result<GroupRanking> {
    let Some(shares) = balanced(data.labels).filter(|shares| shares.len() == data.rows.len())
    else {
        return Err(one_class("sparse"));
    };
    let neurons = data.rows.cols();
    let moments =
        |score: fn(&[ClassStat; 2]) -> Score| data.statistics().iter().map(score).collect();
    let scores: Vec<Score> = match how {
        Heuristic::MeanDifference => {
            moments(|[without, with]| Score::signed(with.mean - without.mean, None))
        }
        Heuristic::FStatistic => moments(|stats| {
            let found = anova(stats.iter());
            Score::unsigned(found.f, Some(found.p))
        }),
        Heuristic::MutualInformation => {
            data.binned_bits().into_iter().map(|bits| Score::unsigned(bits, None)).collect()
        }
        Heuristic::Random { seed } => {
            let mut draws = Draws::new(seed, 1);
            (0..neurons).map(|_| Score::unsigned(draws.uniform(), None)).collect()
        }
        Heuristic::Logistic | Heuristic::Svm => {
            let all: Vec<u32> = (0..neurons as u32).collect();
            let x = data.scaled(&all, &data.scales());
            let weights = match how {
                Heuristic::Svm => {
                    let labels = data.labels;
                    HingeProblem { x: &x, labels, costs: &shares, ridge: 1.0 }
                        .fit(f64::INFINITY)
                        .weights
                }
                _ => sparse_logistic(&x, data.labels, (C_L1, 1.0))?.weights.row(0).to_vec(),
            };
            weights.into_iter().map(|w| Score::signed(w, None)).collect()
        }
    };
    Ok(GroupRanking::from_scores(&scores, &vec![false; neurons]))
}

/// The optimum of `C Σ s_i loss_i + r |w|_1 + (1 - r)/2 |w|²` with class-balanced s, as scikit-learn has
/// the elastic net.
fn sparse_logistic(x: &Block, labels: &[bool], (c, ratio): (f64, f64)) -> Result<LinearProbe> {
    let Some(shares) = balanced(labels) else { return Err(one_class("sparse")) };
    let total = c * labels.len() as f64;
    let net = ElasticNet {
        l1: ratio / total,
        l2: (1.0 - ratio) / (2.0 * total),
        tolerance: 1e-7,
        ..ElasticNet::default()
    };
    net.fit(x, Targets::Binary(labels), Some(&shares))
}

/// A probe on some neurons.
#[derive(Clone, Debug, PartialEq)]
pub struct SparseProbe {
    /// The neurons, best first.
    pub support: Vec<u32>,
    /// On these, divided by their scales.
    pub probe: LogisticProbe,
    /// On held-out rows; none where those are of one class.
    pub metrics: Option<Metrics>,
}

/// A class-balanced L2 logistic probe, C = 1, on each of the supports, trained on one part and judged on
/// the other. Scales are those of the training rows. Supports may be nested or single neurons (`mono`).
pub fn probe_supports(
    trained: Labelled<'_>,
    held_out: Labelled<'_>,
    supports: &[Vec<u32>],
) -> Result<Vec<SparseProbe>> {
    let scales = trained.scales();
    let one = |support: &Vec<u32>| {
        let probe = logistic(&trained.scaled(support, &scales), trained.labels, C)?;
        let scores = probe.logits(&held_out.scaled(support, &scales));
        let metrics = metrics(&scores, held_out.labels);
        Ok(SparseProbe { support: support.clone(), probe, metrics })
    };
    supports.iter().map(one).collect()
}

/// The first k of an order for each size; sizes above the order are cut to it, once.
pub fn nested(order: &[u32], sizes: &[usize]) -> Vec<Vec<u32>> {
    let mut sizes: Vec<usize> = sizes.iter().map(|&k| k.min(order.len())).collect();
    sizes.retain(|&k| k > 0);
    sizes.dedup();
    sizes.into_iter().map(|k| order[..k].to_vec()).collect()
}

/// Each of the first `most` neurons of an order alone.
pub fn mono(order: &[u32], most: usize) -> Vec<Vec<u32>> {
    order.iter().take(most).map(|&neuron| vec![neuron]).collect()
}

/// Supports that shrink (`telescope`): from the first neurons of an order, an elastic net on what is left
/// ranks it anew by |weight| for each smaller size, with C = k/20 and an L1 share of
/// `clip(e^(-k/20), 0.1, 0.9)`. `sizes` in decreasing order; supports best first.
pub fn telescope(trained: Labelled<'_>, order: &[u32], sizes: &[usize]) -> Result<Vec<Vec<u32>>> {
    let scales = trained.scales();
    let mut left = order.to_vec();
    let mut supports = Vec::new();
    for &k in sizes.iter().filter(|&&k| k > 0 && k <= order.len()) {
        let c = k as f64 / 20.0;
        let ratio = (-c).exp().clamp(0.1, 0.9);
        let x = trained.scaled(&left, &scales);
        let probe = sparse_logistic(&x, trained.labels, (c, ratio))?;
        let scores: Vec<Score> =
            probe.weights.row(0).iter().map(|&w| Score::signed(w, None)).collect();
        let ranked = GroupRanking::from_scores(&scores, &vec![false; left.len()]);
        left = ranked.order.iter().take(k).map(|&place| left[place as usize]).collect();
        supports.push(left.clone());
    }
    Ok(supports)
}
