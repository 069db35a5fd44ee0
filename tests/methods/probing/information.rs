//! Code lengths, information and control tasks. Oracles: sums by hand, laws (labels that know nothing have
//! compression 1; a table of words has no selectivity), the fixture's online code (passed over
//! when absent).

use std::collections::HashMap;

use electrode::methods::probing::Block;
use electrode::methods::probing::code_length::{CodeLength, PORTIONS, ends, online};
use electrode::methods::probing::control::{
    Accuracy, ControlSettings, ControlTask, DrawnFrom, Selectivity,
};
use electrode::methods::probing::draw::{Draws, split};
use electrode::methods::probing::elastic_net::{ElasticNet, Targets};
use electrode::methods::probing::information::{
    Information, bits, entropy, judge, running_maximum, v_information,
};

use super::support::{CLASSES, Hidden, UNITS, json, noise_block, numbers};
use crate::methods::support::{Random, shared};

#[test]
fn information_by_hand() {
    assert_eq!(entropy(&[2, 2, 0, 4]), 1.5);
    assert_eq!((entropy(&[]), entropy(&[7])), (0.0, 0.0));
    assert!((bits(2.0_f64.ln()) - 1.0).abs() < 1e-15);
    // Certain and right on two classes: all there is to know, and not 1.44 of it.
    let right = Block::new(vec![0.0, -50.0, -50.0, 0.0], 2);
    let judged = judge(&right, &[0, 1], &[true, true]);
    assert_eq!((judged.information.mutual(), judged.accuracy), (1.0, 1.0));
    assert_eq!(judged.information.normalised(), 1.0);
    // A class that training never saw: an error, and no part of the information.
    let judged = judge(
        &Block::new([[-1.0, -0.5, -9.0]; 4].concat(), 3),
        &[0, 1, 1, 2],
        &[true, true, false],
    );
    assert_eq!((judged.unseen, judged.accuracy), (1, 0.5));
    assert!((judged.information.cross_entropy - bits(2.0 / 3.0)).abs() < 1e-12);
    assert!((judged.information.entropy - entropy(&[1, 2])).abs() < 1e-12);
    assert_eq!(Information::default().normalised(), 0.0, "nothing to know");
    // The prior of 3:1 costs 0.415 and 2 bits.
    let prior = 0.5 * (-(0.75_f64.log2()) + 2.0);
    assert!((v_information(&[3, 1, 0], &[5, 5, 9], 0.25) - (prior - 0.25)).abs() < 1e-12);
    assert_eq!(running_maximum(&[-1.0, 0.5, 0.25, 2.0]), [0.0, 0.5, 0.5, 2.0]);
}

#[test]
fn portions_nest_and_grow() {
    assert_eq!(
        ends(1000, &PORTIONS).expect("they grow"),
        [1, 2, 4, 8, 16, 32, 62, 125, 250, 500, 1000]
    );
    assert_eq!(ends(3, &PORTIONS).expect("they grow"), [1, 2, 3], "none twice");
    for wrong in [&[0.5, 0.25, 1.0][..], &[0.0, 1.0], &[0.5], &[]] {
        assert!(ends(100, wrong).is_err(), "{wrong:?}");
    }
    assert!(ends(1, &PORTIONS).is_err());
}

/// -Σ log2 p by a probe on all before, with one row of each class at their mean.
fn code(
    x: &Block,
    y: &[u32],
    (classes, ends): (usize, &[usize]),
    (l2, tolerance): (f64, f64),
) -> CodeLength {
    let columns: Vec<u32> = (0..x.cols() as u32).collect();
    let found = online(ends, classes, |seen, block| {
        let rows: Vec<usize> = seen.collect();
        let known = x.pick(&rows, &columns);
        let mut values = known.values().to_vec();
        let mean = |j: usize| known.column(j).iter().sum::<f64>() / rows.len() as f64;
        (0..classes).for_each(|_| values.extend((0..x.cols()).map(mean)));
        let labels: Vec<u32> = rows.iter().map(|&row| y[row]).chain(0..classes as u32).collect();
        let net = ElasticNet { l2, tolerance, ..ElasticNet::default() };
        let rows = Block::new(values, x.cols());
        let probe = net.fit(&rows, Targets::Classes(&labels, classes), None)?;
        let next: Vec<usize> = block.clone().collect();
        let log = probe.log_posteriors(&x.pick(&next, &columns));
        Ok(-log.rows().zip(&y[block]).map(|(row, &y)| bits(row[y as usize])).sum::<f64>())
    })
    .expect("a code");
    assert_eq!(found.rows(), *ends.last().expect("portions"));
    assert_eq!(found.blocks[0].1, ends[0] as f64 * (classes as f64).log2());
    assert!(found.final_rate() > 0.0);
    found
}

#[test]
fn labels_that_know_nothing_are_not_compressed() {
    let mut random = Random(4);
    let x = noise_block(&mut random, 400, 3);
    let chance: Vec<u32> = (0..400).map(|_| random.below(4) as u32).collect();
    let ends = ends(400, &[0.05, 0.1, 0.2, 0.4, 1.0]).expect("they grow");
    let compression = |y: &[u32]| code(&x, y, (4, &ends), (0.05, 1e-6)).compression();
    let none = compression(&chance);
    assert!((none - 1.0).abs() < 0.06, "{none}");
    let told: Vec<u32> =
        x.rows().map(|row| u32::from(row[0] > 0.0) * 2 + u32::from(row[1] > 0.0)).collect();
    let much = compression(&told);
    assert!(much > 1.5, "{much}");
    assert!(online(&[1, 2], 2, |_, _| Ok(f64::INFINITY)).is_err(), "a probability of 0");
}

/// The fixture's online code of the layer, to its 0.5 %.
#[test]
fn the_fixture_s_online_code() {
    let Some(folder) = shared() else { return };
    let hidden = Hidden::open(&folder);
    let want = &json(&folder, "expected/probe_converged.json")["online_code"];
    let (rows, labels) = hidden.part(true);
    let x = hidden.layer(&rows, &(0..UNITS as u32).collect::<Vec<_>>());
    let ends = ends(labels.len(), &numbers(&want["fractions"])).expect("they grow");
    // The last block takes half of the time of all; the others say as much.
    let ends = &ends[..6];
    let found = code(&x, &labels, (CLASSES, ends), (1e-3, 1e-4));
    for (block, want) in found.blocks.iter().zip(want["blocks"].as_array().expect("a list")) {
        let bits = want["bits"].as_f64().expect("a number");
        assert!((block.1 - bits).abs() <= 5e-3 * bits, "{block:?} and not {bits}");
    }
}

#[test]
fn control_labels_are_the_same_everywhere_and_drawn_from_the_labels() {
    let counts = [600, 300, 0, 100];
    let task = ControlTask::new(&counts, ControlSettings::default()).expect("classes");
    let shard = ControlTask::new(&counts, ControlSettings::default()).expect("classes");
    let words: Vec<String> = (0..20_000).map(|i| format!("word{i}")).collect();
    let labels: Vec<u32> = words.iter().map(|word| task.label(word)).collect();
    assert!(words.iter().rev().map(|word| shard.label(word)).eq(labels.iter().rev().copied()));
    let share = |labels: &[u32], class: u32| {
        labels.iter().filter(|&&l| l == class).count() as f64 / labels.len() as f64
    };
    // Five standard errors of 20,000 draws are below 0.018.
    for (class, want) in [0.6, 0.3, 0.0, 0.1].into_iter().enumerate() {
        assert!((share(&labels, class as u32) - want).abs() < 0.018, "{class}");
    }
    let uniform = ControlSettings { from: DrawnFrom::Uniform, ..ControlSettings::default() };
    let uniform = ControlTask::new(&counts, uniform).expect("classes");
    let drawn: Vec<u32> = words.iter().map(|word| uniform.label(word)).collect();
    (0..4).for_each(|class| assert!((share(&drawn, class) - 0.25).abs() < 0.018, "{class}"));
    let other = ControlSettings { seed: 1, ..ControlSettings::default() };
    let other = ControlTask::new(&counts, other).expect("classes");
    let same = words.iter().zip(&labels).filter(|(word, label)| other.label(word) == **label);
    let same = same.count() as f64 / 20_000.0;
    assert!((same - 0.46).abs() < 0.02, "as often as by chance: {same}");
    let fold = ControlSettings { case_sensitive: false, ..ControlSettings::default() };
    let fold = ControlTask::new(&[1; 1000], fold).expect("classes");
    let keep = ControlTask::new(&[1; 1000], ControlSettings::default()).expect("classes");
    assert_eq!(fold.label("Éclair"), fold.label("éclair"));
    assert_ne!(keep.label("Éclair"), keep.label("éclair"));
    assert!(ControlTask::new(&[0, 5], ControlSettings::default()).is_err(), "one class");
}

#[test]
fn a_table_of_words_has_no_selectivity_on_words_it_saw() {
    // Every word has one real label; a table knows the real and the control label of words it saw alike.
    let mut draws = Draws::new(1, 0);
    let real = |word: usize| (word % 3) as u32;
    let tokens: Vec<usize> = (0..2000).map(|_| draws.below(400).min(draws.below(400))).collect();
    let counts = (0..3).map(|c| tokens.iter().filter(|&&t| real(t) == c).count() as u64);
    let counts: Vec<u64> = counts.collect();
    let task = ControlTask::new(&counts, ControlSettings::default()).expect("classes");
    let accuracy = |label: &dyn Fn(usize) -> u32| {
        let table: HashMap<usize, u32> = tokens[..1500].iter().map(|&t| (t, label(t))).collect();
        let mut accuracy = Accuracy::default();
        for &t in &tokens[1500..] {
            let said = table.get(&t).copied().unwrap_or(0);
            accuracy.add(table.contains_key(&t), said == label(t));
        }
        accuracy
    };
    let (of_task, of_control) = (accuracy(&real), accuracy(&|t| task.label(&t.to_string())));
    assert!(of_task.fresh.0 > 0, "some words are new");
    let selectivity = Selectivity::of(&of_task, &of_control);
    assert_eq!(selectivity.on_seen, 0.0);
    assert!(selectivity.overall.abs() < 0.05, "{selectivity:?}");
    assert_eq!(Accuracy::default().overall(), 0.0);
}

#[test]
fn splits_part_the_rows() {
    for (n, share) in [(2, 0.1), (10, 0.3), (101, 0.1), (1, 0.5), (0, 0.5), (5, 1.0)] {
        let (held, rest) = split(n, share, 7);
        let mut all = [held.clone(), rest.clone()].concat();
        all.sort_unstable();
        assert!(all.into_iter().eq(0..n));
        assert!(n < 2 || (!held.is_empty() && !rest.is_empty()), "{n} {share}");
    }
    assert_ne!(split(50, 0.3, 1), split(50, 0.3, 2));
    assert_eq!(split(50, 0.3, 1).0.len(), 15);
}
