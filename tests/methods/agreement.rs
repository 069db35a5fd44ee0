//! Agreement of rankings. Oracles: counts by hand, all pairs, the infinite sum that rank-biased overlap
//! stands for, random rankings.

use electrode::methods::agreement::compatibility::borda;
use electrode::methods::agreement::{
    Ranked, Stability, chance_overlap, compatibility, jaccard, jaccard_matrix, kendall_tau_b,
    rank_biased_overlap, stability,
};

use super::support::Random;

fn ranked<'a>(name: &'a str, order: &'a [u32]) -> Ranked<'a> {
    Ranked { name, family: name, judges: true, order, scores: &[] }
}

fn shuffled(n: u32, random: &mut Random) -> Vec<u32> {
    let mut order: Vec<u32> = (0..n).collect();
    (1..n as usize).rev().for_each(|i| order.swap(i, random.below(i + 1)));
    order
}

fn near(a: f64, b: f64) -> bool {
    (a - b).abs() <= 1e-12
}

#[test]
fn overlap_counts_and_chance() {
    assert!(near(jaccard(&[1, 3, 5], &[3, 4, 5, 9]), 2.0 / 5.0));
    assert_eq!((jaccard(&[], &[]), jaccard(&[2], &[])), (0.0, 0.0));
    let matrix = jaccard_matrix(&[vec![1, 2], vec![2, 3], vec![7]]);
    assert_eq!(matrix.diagonal(), [1.0; 3]);
    assert!(near(matrix.at(0, 1), 1.0 / 3.0) && near(matrix.at(1, 0), 1.0 / 3.0));
    assert_eq!(matrix.at(2, 0), 0.0);
    // methods.md 10.2: 0.0336 for 50 of 768, 0.0342 when simulated.
    assert!((chance_overlap(50, 768) - 0.0336).abs() < 5e-5);
    let mut random = Random(1);
    let sum: f64 = (0..400)
        .map(|_| {
            let [mut a, mut b] = [(); 2].map(|()| shuffled(768, &mut random)[..50].to_vec());
            a.sort_unstable();
            b.sort_unstable();
            jaccard(&a, &b)
        })
        .sum();
    assert!((sum / 400.0 - 0.0342).abs() < 2.5e-3, "{}", sum / 400.0);
}

#[test]
fn a_vote_by_hand() {
    assert_eq!(borda(&[&[2, 0, 1], &[0, 3]], 5), [4, 1, 3, 1, 0]);
    let long: Vec<u32> = (0..150).collect();
    let points = borda(&[&long], 150);
    assert_eq!((points[0], points[99], points[100]), (100, 1, 0));
    let (a, b, c) = ([0, 1, 2, 3, 4, 5], [0, 2, 5, 1, 3, 4], [4, 0, 1, 5, 3, 2]);
    let mut rankings = [ranked("a", &a), ranked("b", &b), ranked("c", &c), ranked("chance", &c)];
    rankings[1].family = "a";
    rankings[3].judges = false;
    let found = compatibility(&rankings, 2, 6).expect("long enough");
    // {0 1} {0 2} {4 0}: a third each.
    assert!(near(found.average_overlap[0], 1.0 / 3.0), "{found:?}");
    // Points of b and c: 0 has 11, 1 has 7, 2 has 6, 4 has 7, 5 has 7: {0, 1}, the first of equals.
    assert!(near(found.neuron_vote[0], 1.0));
    // A ranking that does not judge is judged by all who do, its twin among them.
    assert!(near(found.average_overlap[3], (1.0 / 3.0 + 1.0 / 3.0 + 1.0) / 3.0));
    assert_eq!(found.families, ["a", "c"]);
    assert_eq!(found.by_family[2], [Some(1.0 / 3.0), None], "no other of its family judges it");
    assert_eq!(found.by_family[3][1], Some(1.0));
    assert!(near(found.chance, 0.2) && near(found.overlap.at(0, 3), 1.0 / 3.0));
}

#[test]
fn what_cannot_be_compared_is_named() {
    let (long, short, twice) = ([0, 1, 2, 3], [1, 2], [0, 3, 3, 1]);
    let error = |rankings: &[Ranked], size| {
        compatibility(rankings, size, 4).expect_err("it must not pass").to_string()
    };
    let text = error(&[ranked("ap", &long), ranked("lca", &short)], 3);
    assert!(text.contains("ranking 'lca'") && text.contains("top 3 of 2 neurons"), "{text}");
    let text = error(&[ranked("ap", &long), ranked("lca", &twice)], 2);
    assert!(text.contains("neuron 3 stands in it twice"), "{text}");
    let text = error(&[ranked("ap", &long)], 2);
    assert!(text.contains("no other ranking"), "{text}");
    let text = error(&[ranked("ap", &long), ranked("big", &[9, 1, 2, 0])], 2);
    assert!(text.contains("ranks neuron 9, there are 4"), "{text}");
    assert!(error(&[ranked("ap", &long), ranked("none", &[])], 2).contains("empty"));
    assert!(error(&[ranked("ap", &long), ranked("b", &long)], 0).contains("top 0"));
    assert!(stability(&[ranked("ap", &long)], 2, 4, 0.9).is_err());
    for p in [0.0, 1.0, f64::NAN] {
        assert!(stability(&[ranked("a", &long), ranked("b", &long)], 2, 4, p).is_err());
    }
}

#[test]
fn tau_counts_all_pairs() {
    let mut random = Random(7);
    for n in [2, 5, 40, 121] {
        for values in [3, 1000] {
            let mut list = || -> Vec<f64> { (0..n).map(|_| random.below(values) as f64).collect() };
            let (a, b) = (list(), list());
            let (mut agree, mut untied_a, mut untied_b) = (0.0, 0.0, 0.0);
            for i in 0..n {
                for j in 0..i {
                    let sign = |x: f64| if x == 0.0 { 0.0 } else { x.signum() };
                    let (x, y) = (sign(a[i] - a[j]), sign(b[i] - b[j]));
                    agree += x * y;
                    untied_a += x * x;
                    untied_b += y * y;
                }
            }
            let untied: f64 = untied_a * untied_b;
            let want = (untied > 0.0).then(|| agree / untied.sqrt());
            let found = kendall_tau_b(&a, &b);
            let close = found.zip(want).is_none_or(|(found, want)| near(found, want));
            assert!(found.is_some() == want.is_some() && close, "{n}: {found:?} {want:?}");
        }
    }
    assert_eq!(kendall_tau_b(&[1.0, 2.0, 3.0], &[-3.0, -2.0, 0.0]), Some(1.0));
    assert_eq!(kendall_tau_b(&[1.0, 1.0], &[0.0, 5.0]), None);
    assert_eq!(kendall_tau_b(&[0.0, -0.0], &[0.0, 5.0]), None, "-0 and 0 are one score");
    assert_eq!(kendall_tau_b(&[], &[]), None);
}

/// `(1 - p) Σ p^(d - 1) A_d`, with A as Webber et al. extrapolate it: below the end of the short list it
/// goes on agreeing as it did, below the end of the long one both do.
fn infinite_sum(a: &[u32], b: &[u32], p: f64) -> f64 {
    let (short, long) = if a.len() <= b.len() { (a, b) } else { (b, a) };
    let (s, l) = (short.len(), long.len());
    let overlap = |d: usize| {
        let head = &long[..d.min(l)];
        short[..d.min(s)].iter().filter(|neuron| head.contains(neuron)).count() as f64
    };
    let (at_s, at_l) = (overlap(s), overlap(l));
    let agreement = |d: usize| {
        let past = |d: usize| at_s * (d - s) as f64 / (s * d) as f64;
        match d {
            d if d <= s => overlap(d) / d as f64,
            d if d <= l => overlap(d) / d as f64 + past(d),
            _ => (at_l - at_s) / l as f64 + at_s / s as f64,
        }
    };
    (1..6000).map(|d| (1.0 - p) * p.powi(d - 1) * agreement(d as usize)).sum()
}

#[test]
fn rank_biased_overlap_is_the_sum_it_stands_for() {
    let mut random = Random(5);
    for (m, n) in [(1, 1), (4, 4), (3, 30), (60, 25), (100, 100)] {
        for p in [0.5, 0.9, 0.98] {
            let a = shuffled(120, &mut random)[..m].to_vec();
            let b = shuffled(120, &mut random)[..n].to_vec();
            let (found, want) = (rank_biased_overlap(&a, &b, p), infinite_sum(&a, &b, p));
            assert!((found - want).abs() <= 1e-10, "{m} {n} {p}: {found} {want}");
            assert!(near(found, rank_biased_overlap(&b, &a, p)), "symmetric");
        }
    }
    assert!(near(rank_biased_overlap(&[4, 1, 2], &[4, 1, 2], 0.9), 1.0));
    assert_eq!(rank_biased_overlap(&[1, 2], &[3, 4], 0.9), 0.0);
    assert_eq!(rank_biased_overlap(&[], &[3, 4], 0.9), 0.0);
    // The head counts most.
    let plain = [0, 1, 2, 3];
    let head = rank_biased_overlap(&plain, &[1, 0, 2, 3], 0.9);
    assert!(head < rank_biased_overlap(&plain, &[0, 1, 3, 2], 0.9));
}

#[test]
fn stability_of_several_rankings() {
    let (a, b, c) = ([0, 1, 2, 3], [1, 0, 2, 3], [3, 2, 1]);
    let rankings = [ranked("a", &a), ranked("b", &b), ranked("c", &c)];
    let found = stability(&rankings, 2, 4, 0.9).expect("comparable");
    assert_eq!((found.jaccard.at(0, 1), found.jaccard.at(0, 2)), (1.0, 0.0));
    // One of six pairs exchanged; all three shared neurons reversed; 3 2 1 against 1 2 3.
    let want = [4.0 / 6.0, -1.0, -1.0];
    assert!(found.tau.iter().zip(want).all(|(tau, want)| near(tau.expect("there"), want)));
    assert!(near(found.mean_tau().expect("there"), want.iter().sum::<f64>() / 3.0));
    assert!(near(Stability::mean(&found.jaccard), 1.0 / 3.0));
    assert_eq!(found.rank_biased.at(0, 2), rank_biased_overlap(&a, &c, 0.9));
    assert_eq!(found.rank_biased.diagonal(), [1.0; 3]);
    assert!(near(found.chance, 2.0 / 6.0));
    // Tied scores are no order.
    let tied = Ranked { scores: &[5.0, 5.0, 5.0, 1.0], ..ranked("tied", &b) };
    let found = stability(&[rankings[0], tied], 2, 4, 0.9).expect("comparable");
    assert!(near(found.tau[0].expect("there"), 3.0 / (6.0_f64 * 3.0).sqrt()));
    let few = Ranked { scores: &[5.0], ..tied };
    assert!(stability(&[rankings[0], few], 2, 4, 0.9).is_err());
}

#[test]
fn values_of_the_top() {
    let ranking = ranked("ap", &[2, 0, 1]);
    let mean = ranking.mean_of_top(2, &[0.5, 9.0, -1.5]).expect("long enough");
    assert!(near(mean, 1.0));
    assert!(ranking.mean_of_top(4, &[0.0; 3]).is_err());
    assert!(ranking.mean_of_top(1, &[0.0; 2]).is_err(), "neuron 2 has no value");
}
