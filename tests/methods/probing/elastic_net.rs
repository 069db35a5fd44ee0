//! Converged linear probes. Oracles: `toy.json` and `probe_converged` of the fixture (numpy, float64; the
//! latter passed over when absent), optimality conditions as plain loops, ridge regression in closed form.

use electrode::methods::probing::Block;
use electrode::methods::probing::elastic_net::{ElasticNet, LinearProbe, Targets};
use electrode::methods::probing::pairs::{RegressionMoments, ridge};

use super::support::{CLASSES, Hidden, UNITS, ids, json, noise_block, numbers, table, toy};
use crate::methods::fixture_file::File;
use crate::methods::support::{Random, largest_error, shared};

fn toy_rows() -> (Block, Vec<u32>) {
    let toy = toy();
    (Block::new(table(&toy["x"]).concat(), 5), ids(&toy["y"]))
}

#[test]
fn the_toy_s_elastic_net() {
    let (x, y) = toy_rows();
    let want = &toy()["enet"];
    let net = ElasticNet { l1: 0.02, l2: 0.05, tolerance: 1e-12, ..ElasticNet::default() };
    let found = net.fit(&x, Targets::Classes(&y, 3), None).expect("it converges");
    let objective = want["objective"].as_f64().expect("a number");
    assert!((found.objective - objective).abs() < 1e-9, "{}", found.objective - objective);
    assert!(largest_error(found.weights.values(), &table(&want["w"]).concat()) < 1e-9);
    assert!(largest_error(&found.biases, &numbers(&want["b"])) < 1e-9);
}

#[test]
fn the_toy_s_ridge() {
    let (x, y) = toy_rows();
    let want = &toy()["ridge"];
    let one_hot: Vec<f64> =
        y.iter().flat_map(|&y| (0..3).map(move |c| f64::from(u8::from(c == y)))).collect();
    let moments = RegressionMoments::of(&x, &Block::new(one_hot, 3));
    let found = ridge(&moments, 1.0).expect("it has an optimum");
    assert!(largest_error(found.weights.values(), &table(&want["w"]).concat()) < 1e-12);
    assert!(largest_error(&found.biases, &numbers(&want["b"])) < 1e-12);
    let nothing = RegressionMoments { scatter: vec![0.0; 25], ..moments };
    assert!(ridge(&nothing, 0.0).is_err(), "inputs that depend on one another need a penalty");
}

/// The derivative of the mean loss by (weights, biases), from the formula, row by row.
fn slopes(x: &Block, y: &[bool], shares: &[f64], probe: &LinearProbe) -> (Vec<f64>, f64) {
    let (mut by_weight, mut by_bias) = (vec![0.0; x.cols()], 0.0);
    let total: f64 = shares.iter().sum();
    for ((row, &yes), share) in x.rows().zip(y).zip(shares) {
        let p = 1.0 / (1.0 + (-probe.logits(row)[0]).exp());
        let error = share / total * (p - if yes { 1.0 } else { 0.0 });
        by_weight.iter_mut().zip(row).for_each(|(sum, x)| *sum += error * x);
        by_bias += error;
    }
    (by_weight, by_bias)
}

#[test]
fn a_binary_probe_with_weighted_rows_meets_its_conditions() {
    let mut random = Random(5);
    let x = noise_block(&mut random, 80, 12);
    let y: Vec<bool> = x.rows().map(|row| row[0] - row[3] + random.normal() > 0.5).collect();
    let shares: Vec<f64> = (0..80).map(|_| random.uniform() * 3.0).collect();
    let net = ElasticNet { l1: 0.03, l2: 0.01, ..ElasticNet::default() };
    let found = net.fit(&x, Targets::Binary(&y), Some(&shares)).expect("it converges");
    let (by_weight, by_bias) = slopes(&x, &y, &shares, &found);
    assert!(by_bias.abs() < 1e-8, "{by_bias}");
    let mut zeros = 0;
    for (w, g) in found.weights.row(0).iter().zip(&by_weight) {
        let g = g + 2.0 * 0.01 * w;
        if *w == 0.0 {
            zeros += 1;
            assert!(g.abs() <= 0.03 + 1e-8, "{g}");
        } else {
            assert!((g + 0.03 * w.signum()).abs() < 1e-8, "{g}");
        }
    }
    assert!((1..12).contains(&zeros), "{zeros} of 12 are 0");
}

#[test]
fn a_squared_loss_has_the_ridge_in_closed_form() {
    let mut random = Random(6);
    let x = noise_block(&mut random, 50, 7);
    let y: Vec<f64> = x.rows().map(|row| 3.0 + 2.0 * row[1] + random.normal()).collect();
    let net = ElasticNet { l2: 0.1, tolerance: 1e-11, ..ElasticNet::default() };
    let found = net.fit(&x, Targets::Numbers(&y), None).expect("it converges");
    // The mean of squares and l2 are 1/n of the sum and n l2.
    let closed = ridge(&RegressionMoments::of(&x, &Block::new(y, 1)), 50.0 * 0.1).expect("solved");
    assert!(largest_error(found.weights.values(), closed.weights.values()) < 1e-9);
    assert!(largest_error(&found.biases, &closed.biases) < 1e-9);
}

#[test]
fn bad_input_is_refused() {
    let x = Block::new(vec![0.0, 1.0, 2.0], 1);
    let net = ElasticNet::default();
    assert!(net.fit(&x, Targets::Classes(&[0, 1], 2), None).is_err(), "labels for all rows");
    assert!(net.fit(&x, Targets::Classes(&[0, 1, 2], 2), None).is_err(), "classes there are");
    let nan = Block::new(vec![0.0, f64::NAN, 2.0], 1);
    assert!(net.fit(&nan, Targets::Binary(&[true, false, true]), None).is_err(), "NaN");
    let few = ElasticNet { steps: 50, ..net };
    let error = few.fit(&x, Targets::Binary(&[false, true, true]), None).expect_err("divisible");
    assert!(error.to_string().contains("l2"), "{error}");
}

/// Retrained on the first k units of the layer: objective, conditions and answers of the fixture.
#[test]
fn retrained_probes_are_the_fixture_s() {
    let Some(folder) = shared() else { return };
    let hidden = Hidden::open(&folder);
    let want = json(&folder, "expected/probe_converged.json");
    let probeless = File::open(&folder, "expected/probeless.safetensors").f64("overall");
    let layer = &probeless[super::support::LAYER * UNITS..];
    let mut ranking: Vec<u32> = (0..UNITS as u32).collect();
    ranking.sort_by(|&a, &b| layer[b as usize].total_cmp(&layer[a as usize]));
    let random = File::open(&folder, "inputs.safetensors").f64("random_ranking_layer");
    let random: Vec<u32> = random.into_iter().map(|n| n as u32).collect();
    let (rows, labels) = hidden.part(true);
    let (others, truth) = hidden.part(false);
    for (name, units) in
        [("top_10", &ranking[..10]), ("random_10", &random[..10]), ("top_50", &ranking[..50])]
    {
        let want = &want[format!("retrained_{name}").as_str()];
        let x = hidden.layer(&rows, units);
        let net = ElasticNet { l2: 1e-3, tolerance: 1e-7, ..ElasticNet::default() };
        let found = net.fit(&x, Targets::Classes(&labels, CLASSES), None).expect("it converges");
        let objective = want["objective"].as_f64().expect("a number");
        let above = found.objective - objective;
        assert!(above >= -1e-7 && above <= 1e-5 * objective, "{name}: {above:e}");
        let answers = found.classify(&hidden.layer(&others, units));
        let right = answers.iter().zip(&truth).filter(|(a, b)| a == b).count() as u64;
        let expected = want["eval"]["correct"].as_u64().expect("a count");
        assert!(right.abs_diff(expected) <= 1, "{name}: {right} and not {expected}");
    }
}
