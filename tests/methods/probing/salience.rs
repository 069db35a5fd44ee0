//! Orders of neurons from weights. Oracles: the definitions as plain loops (NeuroX's walk over shares of
//! the mass), the fixture's `selection.json`, `ablation.json` and `toy.json`. The fixture's files are
//! passed over when absent.

use std::collections::BTreeSet;

use electrode::methods::probing::elastic_net::LinearProbe;
use electrode::methods::probing::salience::{
    above_threshold, bottom_by_mass, class_ranking, exact_order, granular, mean_abs, percent_order,
    threshold_set, top_by_mass,
};
use electrode::methods::probing::zeroing::zeroed;
use electrode::methods::probing::{Block, Rows};

use super::support::{CLASSES, Hidden, NEURONS, ids, json, numbers, table, toy};
use crate::methods::fixture_file::File;
use crate::methods::support::{Random, shared};

/// The shortest prefix by its definition: every length is tried.
fn shortest(weights: &[f64], p: f64) -> Vec<u32> {
    let mut order: Vec<u32> = (0..weights.len() as u32).collect();
    order.sort_by(|&a, &b| weights[b as usize].abs().total_cmp(&weights[a as usize].abs()));
    let mass = |n: usize| order[..n].iter().map(|&i| weights[i as usize].abs()).sum::<f64>();
    let total = mass(order.len());
    let len = (1..=order.len()).find(|&n| mass(n) >= p * total).expect("all of it is enough");
    order[..len].to_vec()
}

/// NeuroX's walk: the neurons that are new at each share of the mass.
fn walk(weights: &Block, stride: usize) -> Vec<BTreeSet<u32>> {
    let mut seen = BTreeSet::new();
    let mut groups = Vec::new();
    for i in 0..stride {
        let p = i as f64 / stride as f64;
        let union = weights.rows().flat_map(|class| shortest(class, p));
        let new: BTreeSet<u32> = union.filter(|n| !seen.contains(n)).collect();
        seen.extend(new.iter().copied());
        groups.push(new);
    }
    groups.push((0..weights.cols() as u32).filter(|n| !seen.contains(n)).collect());
    groups
}

fn random_weights(seed: u64, classes: usize, inputs: usize) -> Block {
    let mut random = Random(seed);
    let mut weights = Vec::new();
    for _ in 0..classes * inputs {
        // Some weights are exactly 0, as an L1 penalty leaves them.
        let zero = random.uniform() < 0.2;
        weights.push(if zero { 0.0 } else { random.normal() });
    }
    Block::new(weights, inputs)
}

#[test]
fn prefixes_are_the_shortest() {
    for seed in 0..5 {
        let weights = random_weights(seed, 1, 40);
        for p in [0.0, 0.01, 0.1, 0.5, 0.9, 0.99] {
            assert_eq!(top_by_mass(weights.row(0), p), shortest(weights.row(0), p), "{p}");
        }
    }
    assert_eq!(top_by_mass(&[1.0, -3.0, 2.0, 0.0], 1.0), [1, 2, 0, 3], "p = 1 is all");
    assert_eq!(top_by_mass(&[1.0, -3.0, 2.0], 0.0), [1], "p = 0 is one");
    assert_eq!(top_by_mass(&[1.0, -3.0, 2.0], 0.5), [1], "the crossing neuron reaches the mass");
    assert_eq!(bottom_by_mass(&[1.0, -3.0, 2.0], 0.2), [0, 2]);
    assert_eq!(above_threshold(&[1.0, -3.0, 2.0], 0.5), [1, 2]);
    for none in [top_by_mass(&[0.0; 3], 0.5), above_threshold(&[0.0; 3], 0.5)] {
        assert!(none.is_empty(), "a class without weights leans on nothing");
    }
}

/// The set is that of the thresholds of the classes together; groups are ranked as they come.
#[test]
fn sets_and_groups_are_rankings() {
    let weights = Block::new(vec![1.0, -3.0, 2.0, 0.0, 0.2, 0.0, 0.1, -0.4], 4);
    let ranking = threshold_set(&weights, 0.5);
    let mut set = ranking.selected.clone().expect("a set");
    set.sort_unstable();
    assert_eq!(set, [1, 2, 3], "of class 0: 1 and 2, of class 1: 3");
    assert_eq!(ranking.order[..2], [1, 3], "the largest of their classes");
    assert!(threshold_set(&Block::new(vec![0.0; 3], 3), 0.5).selected.expect("a set").is_empty());
    let order = percent_order(&random_weights(5, 3, 40), 10);
    let ranking = order.ranking();
    assert_eq!(ranking.order, order.order);
    assert!(ranking.scores.is_sorted_by(|a, b| a >= b));
    for (place, score) in ranking.scores.iter().enumerate() {
        let group = order.cutoffs.iter().filter(|&&end| end <= place).count();
        assert_eq!(*score, 1.0 - group as f64 / order.cutoffs.len() as f64);
    }
}

#[test]
fn the_percent_order_is_the_walk() {
    for (seed, stride) in [(1, 10), (2, 100), (3, 7)] {
        let weights = random_weights(seed, 4, 60);
        let groups = walk(&weights, stride);
        let found = percent_order(&weights, stride);
        let want: Vec<u32> = groups.iter().flatten().copied().collect();
        assert_eq!(found.order, want);
        let mut first = 0;
        for (group, &end) in groups.iter().zip(&found.cutoffs) {
            assert_eq!(end - first, group.len(), "stride {stride}");
            first = end;
        }
        assert_eq!(found.cutoffs.len(), stride + 1);
    }
}

#[test]
fn the_exact_order_is_that_of_a_stride_of_100_000() {
    for seed in 0..4 {
        let weights = random_weights(seed + 10, 3, 50);
        let fine = percent_order(&weights, 100_000);
        let exact = exact_order(&weights);
        let mut first = 0;
        for &end in fine.cutoffs.iter().filter(|&&end| end > 0) {
            let want: BTreeSet<u32> = fine.order[first..end].iter().copied().collect();
            let ours: BTreeSet<u32> = exact.order[first..end].iter().copied().collect();
            assert_eq!(ours, want, "neurons {first}..{end}");
            first = end;
        }
        assert!(exact.scores.is_sorted_by(|a, b| a >= b));
        // score = 1 - min_z E_z by its definition.
        for (&n, &score) in exact.order.iter().zip(&exact.scores) {
            let before = |class: &[f64]| {
                let own = class[n as usize].abs();
                let larger =
                    |&(i, w): &(usize, &f64)| w.abs() > own || (w.abs() == own && i < n as usize);
                let before: f64 =
                    class.iter().enumerate().filter(larger).map(|(_, w)| w.abs()).sum();
                before / class.iter().map(|w| w.abs()).sum::<f64>()
            };
            let least = weights.rows().map(before).fold(1.0, f64::min);
            assert!((score - (1.0 - least)).abs() < 1e-12, "{n}: {score}");
        }
    }
    // The largest of each class all score 1: by their share of its mass.
    let weights = Block::new(vec![4.0, 0.0, 1.0, 0.0, 9.0, 1.0], 3);
    let exact = exact_order(&weights);
    assert_eq!((exact.order, exact.values[0]), (vec![1, 0, 2], 0.9));
    assert_eq!(exact_order(&Block::new(vec![0.0; 6], 3)).scores, [0.0; 3]);
}

#[test]
fn other_orders_by_hand() {
    let weights = Block::new(vec![4.0, 0.0, -1.0, 0.0, -9.0, 2.0], 3);
    assert_eq!(mean_abs(&weights).order, [1, 0, 2]);
    assert_eq!(mean_abs(&weights).scores, [4.5, 2.0, 1.5]);
    let class = class_ranking(weights.row(1));
    assert_eq!((class.order, class.signs), (vec![1, 2, 0], vec![-1, 1, 0]));
    // Groups of 1, 0, 2, 1, 3 neurons; a chunk ends where 3 more are there.
    let order = electrode::methods::probing::salience::GroupedOrder {
        order: vec![6, 1, 5, 0, 2, 3, 4],
        cutoffs: vec![1, 1, 3, 4, 7],
    };
    let chunks = granular(&order, 3);
    assert_eq!(chunks.cutoffs, [1, 3, 7]);
    assert_eq!(chunks.order, [6, 1, 5, 0, 2, 3, 4]);
    assert_eq!(granular(&order, 4).cutoffs, [1, 4]);
}

#[test]
fn the_toy_s_neurons_at_half_the_mass() {
    let toy = toy();
    let weights = table(&toy["enet"]["w"]);
    for (class, want) in table(&toy["top_by_mass_0.5"]).iter().enumerate() {
        let ours: Vec<f64> = top_by_mass(&weights[class], 0.5).into_iter().map(f64::from).collect();
        assert_eq!(&ours, want, "class {class}");
    }
}

#[test]
fn selections_are_the_fixture_s() {
    let Some(folder) = shared() else { return };
    let weights = File::open(&folder, "expected/probe_adam.safetensors").f32("w_neurox");
    let weights = Block::from_f32(&weights, NEURONS);
    let want = json(&folder, "expected/selection.json");
    for (key, p) in [("top_0.1", 0.1), ("top_0.25", 0.25), ("top_0.5", 0.5)] {
        for class in 0..CLASSES {
            assert_eq!(top_by_mass(weights.row(class), p), ids(&want[key][class]), "{key} {class}");
        }
    }
    for class in 0..CLASSES {
        let row = weights.row(class);
        assert_eq!(bottom_by_mass(row, 0.02), ids(&want["bottom_0.02"][class]), "{class}");
        assert_eq!(above_threshold(row, 0.5), ids(&want["hard_2"][class]), "{class}");
    }
    let percent = percent_order(&weights, 100);
    assert_eq!(percent.order, ids(&want["ordering"]));
    let cutoffs: Vec<f64> = percent.cutoffs.iter().map(|&end| end as f64).collect();
    assert_eq!(cutoffs, numbers(&want["cutoffs"]));
}

#[test]
fn neurons_set_to_0_leave_the_fixture_s_answers() {
    let Some(folder) = shared() else { return };
    let file = File::open(&folder, "expected/probe_adam.safetensors");
    let want = json(&folder, "expected/ablation.json");
    let probe = LinearProbe {
        weights: Block::from_f32(&file.f32("w_neurox"), NEURONS),
        biases: file.f64("b_neurox"),
        ..LinearProbe::default()
    };
    let hidden = Hidden::open(&folder);
    let (rows, labels) = hidden.part(false);
    let all = hidden.rows();
    let values: Vec<f32> = rows.iter().flat_map(|&row| all.row(row).to_vec()).collect();
    let rows = Rows::new(&values, NEURONS);
    let top = ids(&json(&folder, "expected/selection.json")["ordering"]);
    let bottom: Vec<u32> = top.iter().rev().copied().collect();
    let random = File::open(&folder, "inputs.safetensors").f64("random_ranking");
    let random: Vec<u32> = random.into_iter().map(|n| n as u32).collect();
    let fractions = want["fractions"].as_object().expect("a table");
    let sizes: Vec<usize> =
        fractions.values().map(|row| row["k"].as_u64().expect("a count") as usize).collect();
    for (name, order) in [("top", top), ("bottom", bottom), ("random", random)] {
        let found = zeroed(&probe, (rows, &labels), &order, &sizes);
        for (row, found) in fractions.values().zip(found) {
            for (what, ours) in [("keep", found.kept), ("remove", found.removed)] {
                let cell = &row[format!("{what}_{name}").as_str()];
                let count = |key: &str| cell[key].as_u64().expect("a count");
                let off = ours.abs_diff(count("correct"));
                assert!(off <= count("close_calls"), "{what} {name} {}: off by {off}", found.size);
            }
        }
    }
}
