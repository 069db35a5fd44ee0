//! Which neurons a linear probe leans on: orders of neurons from its weights `[classes, inputs]`
//! (Dalvi et al., AAAI 2019; NeuroX, `linear_probe.py`).
//!
//! Weights are comparable only if the inputs were standardised.

use super::rows::Block;
use crate::methods::ranking::{GroupRanking, Score};

/// Columns by decreasing magnitude, equal ones by index; `ascending` turns the magnitudes round.
fn by_magnitude(weights: &[f64], ascending: bool) -> Vec<u32> {
    let mut order: Vec<u32> = (0..weights.len() as u32).collect();
    let size = |i: u32| weights[i as usize].abs();
    order.sort_by(|&a, &b| match ascending {
        true => size(a).total_cmp(&size(b)),
        false => size(b).total_cmp(&size(a)),
    });
    order
}

/// The shortest prefix of `order` with at least a share `p` of all magnitude, the neuron that crosses it
/// included.
fn prefix(weights: &[f64], order: Vec<u32>, p: f64) -> Vec<u32> {
    let magnitude = |&i: &u32| weights[i as usize].abs();
    let total: f64 = order.iter().map(magnitude).sum();
    if total <= 0.0 {
        return Vec::new();
    }
    if p >= 1.0 {
        return order;
    }
    let mut sum = 0.0;
    let crossing = order.iter().position(|i| {
        sum += magnitude(i);
        sum >= p * total
    });
    let len = crossing.map_or(order.len(), |place| place + 1);
    order[..len].to_vec()
}

/// Salient neurons of one class at mass `p`, largest weight first: one for p = 0, all for p = 1, none for
/// a class without weights.
pub fn top_by_mass(weights: &[f64], p: f64) -> Vec<u32> {
    prefix(weights, by_magnitude(weights, false), p)
}

/// The same from the smallest weight up (`bottom`).
pub fn bottom_by_mass(weights: &[f64], p: f64) -> Vec<u32> {
    prefix(weights, by_magnitude(weights, true), p)
}

/// Neurons of one class with |w| > f max |w|, by index; none for a class without weights.
/// NeuroX divides by its `fraction`: its 2 is 1/2 here.
pub fn above_threshold(weights: &[f64], f: f64) -> Vec<u32> {
    let largest = weights.iter().fold(0.0, |top: f64, w| top.max(w.abs()));
    let above = |&i: &u32| largest > 0.0 && weights[i as usize].abs() > f * largest;
    (0..weights.len() as u32).filter(above).collect()
}

/// The neurons of one class by |w|, with the sign of their weight.
pub fn class_ranking(weights: &[f64]) -> GroupRanking {
    let scores: Vec<Score> = weights.iter().map(|&w| Score::signed(w, None)).collect();
    GroupRanking::from_scores(&scores, &vec![false; weights.len()])
}

/// All neurons by the mean over classes of |w|: the order that Antverg & Belinkov (2022) compare with.
pub fn mean_abs(weights: &Block) -> GroupRanking {
    let mut sums = vec![0.0; weights.cols()];
    for class in weights.rows() {
        sums.iter_mut().zip(class).for_each(|(sum, w)| *sum += w.abs());
    }
    let classes = weights.len().max(1) as f64;
    let scores: Vec<Score> = sums.iter().map(|sum| Score::unsigned(sum / classes, None)).collect();
    GroupRanking::from_scores(&scores, &vec![false; sums.len()])
}

/// All neurons in the order in which they enter the union over classes of [`top_by_mass`] as p grows:
/// score(n) = 1 - min_z E_z(n), E_z(n) being the share of class z's mass strictly before n in its order
/// (n enters at every p > E_z). It is the order of [`percent_order`] for a stride that goes to infinity.
/// Equal scores go by the larger share of mass in the class that gave the score, then by index; the value
/// of a ranked neuron is that share.
pub fn exact_order(weights: &Block) -> GroupRanking {
    let mut best = vec![(0.0_f64, 0.0_f64); weights.cols()];
    for class in weights.rows() {
        let order = by_magnitude(class, false);
        let total: f64 = order.iter().map(|&i| class[i as usize].abs()).sum();
        let mut before = 0.0;
        for &i in order.iter().take_while(|&&i| class[i as usize] != 0.0) {
            let own = class[i as usize].abs();
            let found = ((1.0 - before / total).max(0.0), own / total);
            let place = &mut best[i as usize];
            if found > *place {
                *place = found;
            }
            before += own;
        }
    }
    let mut order: Vec<u32> = (0..best.len() as u32).collect();
    let key = |i: u32| best[i as usize];
    order.sort_by(|&a, &b| {
        let ((score_a, own_a), (score_b, own_b)) = (key(a), key(b));
        score_b.total_cmp(&score_a).then(own_b.total_cmp(&own_a))
    });
    GroupRanking {
        scores: order.iter().map(|&i| key(i).0).collect(),
        values: order.iter().map(|&i| key(i).1).collect(),
        signs: vec![0; order.len()],
        order,
        ..GroupRanking::default()
    }
}

/// Neurons in groups that entered together.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GroupedOrder {
    /// Neurons, by index inside a group.
    pub order: Vec<u32>,
    /// Neurons up to the end of each group; a group may be empty.
    pub cutoffs: Vec<usize>,
}

/// NeuroX's order: the unions over classes of [`top_by_mass`] at p = 0, 1/stride, 2/stride, … below 1, and
/// all that is left as the last group. NeuroX leaves the order inside a group to chance; here it is by
/// index.
pub fn percent_order(weights: &Block, stride: usize) -> GroupedOrder {
    let entry: Vec<usize> = {
        let mut entry = vec![stride; weights.cols()];
        for class in weights.rows() {
            enter(class, stride, &mut entry);
        }
        entry
    };
    let mut order: Vec<u32> = (0..entry.len() as u32).collect();
    order.sort_by_key(|&i| entry[i as usize]);
    let cutoffs = (0..=stride).map(|at| order.partition_point(|&i| entry[i as usize] <= at));
    GroupedOrder { cutoffs: cutoffs.collect(), order }
}

/// Lowers the step at which each neuron enters to that of one class: the neuron at place k enters at the
/// first step whose share is above the mass of the k before it.
fn enter(weights: &[f64], stride: usize, entry: &mut [usize]) {
    let order = by_magnitude(weights, false);
    let total: f64 = order.iter().map(|&i| weights[i as usize].abs()).sum();
    if total <= 0.0 {
        return;
    }
    let (mut before, mut step) = (0.0, 0);
    for (place, &i) in order.iter().enumerate() {
        // The first neuron is there at share 0; others once what came before does not reach the share.
        while place > 0 && step < stride && before >= step as f64 / stride as f64 * total {
            step += 1;
        }
        entry[i as usize] = entry[i as usize].min(step);
        before += weights[i as usize].abs();
    }
}

impl GroupedOrder {
    /// As a ranking: a neuron's score is the share of groups that end after its own begins.
    pub fn ranking(&self) -> GroupRanking {
        let groups = self.cutoffs.len().max(1) as f64;
        let group = |at: usize| self.cutoffs.partition_point(|&end| end <= at) as f64;
        GroupRanking {
            scores: (0..self.order.len()).map(|at| 1.0 - group(at) / groups).collect(),
            values: vec![0.0; self.order.len()],
            signs: vec![0; self.order.len()],
            order: self.order.clone(),
            ..GroupRanking::default()
        }
    }
}

/// All neurons by the largest share over classes of |w| in the class's largest |w|; those with more than
/// `f` in any class are the set (NeuroX, `hard threshold`).
pub fn threshold_set(weights: &Block, f: f64) -> GroupRanking {
    let mut best = vec![0.0_f64; weights.cols()];
    for class in weights.rows() {
        let largest = class.iter().fold(0.0, |top: f64, w| top.max(w.abs()));
        if largest > 0.0 {
            best.iter_mut().zip(class).for_each(|(best, w)| *best = best.max(w.abs() / largest));
        }
    }
    let scores: Vec<Score> = best.iter().map(|&share| Score::unsigned(share, None)).collect();
    let mut ranking = GroupRanking::from_scores(&scores, &vec![false; best.len()]);
    let above = |i: &&u32| best[**i as usize] > f;
    ranking.selected = Some(ranking.order.iter().filter(above).copied().collect());
    ranking
}

/// Larger groups (NeuroX, `granular`): each ends with the first group of `order` at which a further
/// `size` neurons are there.
pub fn granular(order: &GroupedOrder, size: usize) -> GroupedOrder {
    let size = size.max(1);
    let mut cutoffs: Vec<usize> = Vec::new();
    let mut wanted = 0;
    while wanted <= order.order.len() {
        if let Some(&end) = order.cutoffs.iter().find(|&&end| end >= wanted)
            && end > cutoffs.last().copied().unwrap_or(0)
        {
            cutoffs.push(end);
        }
        wanted += size;
    }
    let mut merged = order.order.clone();
    let mut first = 0;
    for &end in &cutoffs {
        merged[first..end].sort_unstable();
        first = end;
    }
    GroupedOrder { order: merged, cutoffs }
}
