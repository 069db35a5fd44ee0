//! Correlation of two rankings as a whole, and of their heads.

use std::cmp::Ordering;
use std::collections::HashSet;

/// Kendall's tau-b of paired scores (Kendall 1945), ties counted: concordant less discordant pairs,
/// divided by the root of the pairs not tied in one and not tied in the other. In n log n, by the
/// exchanges of a merge sort (Knight 1966). None if one side is all ties.
pub fn kendall_tau_b(a: &[f64], b: &[f64]) -> Option<f64> {
    assert_eq!(a.len(), b.len(), "pairs");
    // + 0.0 makes -0 and 0 equal.
    let mut pairs: Vec<(f64, f64)> = a.iter().zip(b).map(|(x, y)| (x + 0.0, y + 0.0)).collect();
    let first = |p: &(f64, f64), q: &(f64, f64)| p.0.total_cmp(&q.0);
    pairs.sort_by(|p, q| first(p, q).then(p.1.total_cmp(&q.1)));
    let all = pairs_of(pairs.len());
    let tied_first = ties(&pairs, first);
    let tied_both = ties(&pairs, |p, q| first(p, q).then(p.1.total_cmp(&q.1)));
    let mut second: Vec<f64> = pairs.into_iter().map(|pair| pair.1).collect();
    let exchanges = sort(&mut second);
    let tied_second = ties(&second, f64::total_cmp);
    let untied = (all - tied_first) * (all - tied_second);
    let agreeing = all - tied_first - tied_second + tied_both - 2.0 * exchanges as f64;
    (untied > 0.0).then(|| agreeing / untied.sqrt())
}

fn pairs_of(n: usize) -> f64 {
    n as f64 * (n as f64 - 1.0) / 2.0
}

/// Pairs of equals in a sorted list.
fn ties<T>(sorted: &[T], order: impl Fn(&T, &T) -> Ordering) -> f64 {
    let runs = sorted.chunk_by(|a, b| order(a, b) == Ordering::Equal);
    runs.map(|run| pairs_of(run.len())).sum()
}

/// Merge sort; how many pairs stood in the wrong order.
fn sort(list: &mut [f64]) -> u64 {
    if list.len() < 2 {
        return 0;
    }
    let (left, right) = list.split_at_mut(list.len() / 2);
    let mut exchanges = sort(left) + sort(right);
    let mut merged = Vec::with_capacity(left.len() + right.len());
    let (mut i, mut j) = (0, 0);
    while i < left.len() && j < right.len() {
        if right[j].total_cmp(&left[i]) == Ordering::Less {
            exchanges += (left.len() - i) as u64;
            merged.push(right[j]);
            j += 1;
        } else {
            merged.push(left[i]);
            i += 1;
        }
    }
    merged.extend_from_slice(&left[i..]);
    merged.extend_from_slice(&right[j..]);
    list.copy_from_slice(&merged);
    exchanges
}

/// Rank-biased overlap, extrapolated from the depth that is seen (Webber, Moffat and Zobel 2010,
/// equation 32; for lists of one length equation 30). A reader who goes on to the next rank with
/// probability `p` sees this share of agreement: p = 0.9 gives the first ten 86 % of the weight. In 0..=1;
/// lists name a neuron once; 0 if one is empty.
pub fn rank_biased_overlap(a: &[u32], b: &[u32], p: f64) -> f64 {
    assert!(p > 0.0 && p < 1.0, "a probability that is not certain: {p}");
    let (short, long) = if a.len() <= b.len() { (a, b) } else { (b, a) };
    if short.is_empty() {
        return 0.0;
    }
    let (s, l) = (short.len() as f64, long.len() as f64);
    let (mut seen_short, mut seen_long) = (HashSet::new(), HashSet::new());
    let (mut overlap, mut overlap_short, mut sum, mut weight) = (0.0, 0.0, 0.0, 1.0);
    for (i, &neuron) in long.iter().enumerate() {
        let depth = (i + 1) as f64;
        weight *= p;
        seen_long.insert(neuron);
        if let Some(&other) = short.get(i) {
            seen_short.insert(other);
            let both = seen_short.contains(&neuron);
            let back = other != neuron && seen_long.contains(&other);
            overlap += f64::from(u8::from(both)) + f64::from(u8::from(back));
            overlap_short = overlap;
        } else {
            overlap += f64::from(u8::from(seen_short.contains(&neuron)));
            // Below its end the short list is taken to go on agreeing as it did.
            sum += overlap_short * (depth - s) / (s * depth) * weight;
        }
        sum += overlap / depth * weight;
    }
    (1.0 - p) / p * sum + ((overlap - overlap_short) / l + overlap_short / s) * weight
}
