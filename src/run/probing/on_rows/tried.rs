//! What a method's probe of some neurons did on rows that it was not trained on.

use crate::methods::probing::Block;
use crate::methods::probing::information::judge;
use crate::methods::probing::metrics::{Metrics, metrics};
use crate::methods::ranking::{GroupRanking, Score};
use crate::probe::split::Part;

/// Parts that are reported.
pub(super) const TRIED: [Part; 2] = [Part::Dev, Part::Test];
/// The size that did best on dev rows.
pub(super) const CHOSEN: &str = "chosen";
/// A neuron alone (`mono`).
pub(super) const ALONE: &str = "alone";
/// A neuron that iterative pruning took away, alone.
pub(super) const PRUNED: &str = "pruned";
/// Not proved to be the best.
pub(super) const HEURISTIC: &str = "heuristic";
/// Answers were scaled on dev labels.
pub(super) const CALIBRATED: &str = "calibrated";

/// See the module.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Tried {
    pub(super) part: Part,
    /// Neurons that it reads, best first; empty for all of a site.
    pub(super) neurons: Vec<u32>,
    /// How many they are.
    pub(super) size: usize,
    /// Rows.
    pub(super) n: usize,
    /// Share answered right.
    pub(super) accuracy: f64,
    /// For two classes.
    pub(super) metrics: Option<Metrics>,
    /// Bits.
    pub(super) information: Option<f64>,
    /// Expected calibration error.
    pub(super) ece: Option<f64>,
    /// max(a, 1 - a) of the accuracy, for directions whose sign labels had to tell.
    pub(super) either_way: Option<f64>,
    pub(super) flags: Vec<&'static str>,
}

impl Tried {
    /// Scores above 0 say that a row is of the class.
    pub(super) fn of_scores(
        (part, neurons, size): (Part, &[u32], usize),
        scores: &[f64],
        labels: &[bool],
    ) -> Self {
        let right = scores.iter().zip(labels).filter(|&(score, &label)| (*score > 0.0) == label);
        Self {
            part,
            neurons: neurons.to_vec(),
            size,
            n: labels.len(),
            accuracy: right.count() as f64 / labels.len().max(1) as f64,
            metrics: metrics(scores, labels),
            information: None,
            ece: None,
            either_way: None,
            flags: Vec::new(),
        }
    }

    /// Log posteriors `[rows, classes]`; rows of classes that are not there count as wrong.
    pub(super) fn of_posteriors(
        (part, neurons): (Part, &[u32]),
        posteriors: &Block,
        labels: &[u32],
    ) -> Self {
        let classes = posteriors.cols();
        let judged = judge(posteriors, labels, &vec![true; classes]);
        let yes: Vec<bool> = labels.iter().map(|label| *label == 1).collect();
        let score = |row: &[f64]| if classes == 2 { row[1] - row[0] } else { 0.0 };
        let scores: Vec<f64> = posteriors.rows().map(score).collect();
        let own = Self::of_scores((part, neurons, neurons.len()), &scores, &yes);
        Self {
            accuracy: judged.accuracy,
            metrics: own.metrics.filter(|_| classes == 2),
            information: Some(judged.information.mutual()),
            ..own
        }
    }
}

/// Marks the size that is best on dev rows, the smallest of equal ones; test rows are not asked.
pub(super) fn choose(tried: &mut [Tried], score: impl Fn(&Tried) -> f64) {
    let mut best: Option<(f64, usize)> = None;
    for own in tried.iter().filter(|own| own.part == Part::Dev && own.n > 0) {
        if best.is_none_or(|(top, _)| score(own) > top) {
            best = Some((score(own), own.size));
        }
    }
    let Some((_, size)) = best else { return };
    tried.iter_mut().filter(|own| own.size == size).for_each(|own| own.flags.push(CHOSEN));
}

/// F1; the accuracy where a part has rows of one kind.
pub(super) fn f1(tried: &Tried) -> f64 {
    tried.metrics.map_or(tried.accuracy, |metrics| metrics.f1)
}

/// A ranking by the places of a list: 1 for the first of `most`, 0 for neurons that are not in it, which
/// follow by their numbers.
pub(super) fn of_places(chosen: &[(u32, i8)], (most, width): (usize, usize)) -> GroupRanking {
    let mut scores = vec![Score::default(); width];
    for (place, (neuron, sign)) in chosen.iter().enumerate() {
        let score = 1.0 - place as f64 / most as f64;
        scores[*neuron as usize] = Score { score, value: score, sign: *sign, p: None };
    }
    GroupRanking::from_scores(&scores, &vec![false; width])
}
