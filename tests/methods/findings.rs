//! Findings read off rankings. Oracles: counts by hand, all pairs (Gini), limits in closed form.

use electrode::methods::agreement::Ranked;
use electrode::methods::findings::{
    FEATURE_SHARES, concepts_per_neuron, effective_number, entropy, gini, layer_entropy,
    layer_shares, near_best, neurons_by_concepts, smallest_reaching, top_by_layer, top_with_floor,
};

use super::support::Random;

fn ranked<'a>(name: &'a str, order: &'a [u32]) -> Ranked<'a> {
    Ranked { name, order, ..Ranked::default() }
}

fn near(a: f64, b: f64) -> bool {
    (a - b).abs() <= 1e-12
}

#[test]
fn top_neurons_by_layer() {
    // Layers of 4, 0, 6 and 2: neurons 0-3, none, 4-9, 10-11.
    let sizes = [4, 0, 6, 2];
    let order = [11, 0, 5, 3, 10, 9, 1, 2, 4, 6, 7, 8];
    let ranking = ranked("ap", &order);
    assert_eq!(top_by_layer(&ranking, &sizes, 0.25).expect("long enough"), [1, 0, 1, 1]);
    assert_eq!(top_by_layer(&ranking, &sizes, 0.5).expect("long enough"), [2, 0, 2, 2]);
    assert_eq!(top_by_layer(&ranking, &sizes, 1e-6).expect("one at least"), [0, 0, 0, 1]);
    let found = layer_shares((&ranking, &[]), &sizes, 0.5, 0.95).expect("long enough");
    let shares: Vec<f64> = found.iter().map(|layer| layer.share).collect();
    assert_eq!(shares, [0.5, 0.0, 2.0 / 6.0, 1.0]);
    assert!(found.iter().all(|layer| (layer.low, layer.high) == (layer.share, layer.share)));
    assert_eq!((found[2].neurons, found[2].top), (6, 2));
    // Five resamples: layer 0 has 0, 1, 2, 3 and 4 of the top four.
    let orders: Vec<Vec<u32>> = (0..5_u32).map(|n| (4 - n..8).chain(0..4 - n).collect()).collect();
    let resamples: Vec<Ranked> = orders.iter().map(|order| ranked("again", order)).collect();
    let found = layer_shares((&ranking, &resamples), &sizes, 1.0 / 3.0, 0.5).expect("fit");
    // Quartiles of 0, 0.25 .. 1.
    assert!(near(found[0].low, 0.25) && near(found[0].high, 0.75), "{found:?}");
    let wide = layer_shares((&ranking, &resamples), &sizes, 1.0 / 3.0, 0.9).expect("fit");
    assert!(near(wide[0].low, 0.05) && near(wide[0].high, 0.95), "{wide:?}");
}

#[test]
fn layers_that_do_not_fit_are_refused() {
    let order = [0, 1, 9];
    let text = |result: electrode::error::Result<Vec<usize>>| {
        result.expect_err("it must not pass").to_string()
    };
    let ranking = ranked("ap", &order);
    assert!(text(top_by_layer(&ranking, &[2, 2], 0.75)).contains("neuron 9, the layers have 4"));
    assert!(text(top_by_layer(&ranking, &[8, 8], 0.5)).contains("ranking 'ap'"));
    for share in [0.0, 1.5, f64::NAN] {
        assert!(text(top_by_layer(&ranking, &[2, 2], share)).contains("share"));
    }
    assert!(layer_shares((&ranking, &[]), &[10], 0.2, 1.0).is_err());
    assert!(top_by_layer(&ranked("none", &[]), &[], 0.5).is_err());
}

#[test]
fn mass_in_one_neuron_or_in_all() {
    let (one, equal) = ([0.0, 0.0, -7.0, 0.0], [2.0, -2.0, 2.0, 2.0]);
    assert!(near(gini(&one), 0.75) && near(gini(&equal), 0.0));
    assert!(near(effective_number(&one), 1.0) && near(effective_number(&equal), 4.0));
    assert_eq!((gini(&[0.0; 3]), effective_number(&[0.0; 3]), entropy(&[])), (0.0, 0.0, 0.0));
    // Half the mean difference of all pairs, divided by the mean.
    let mut random = Random(2);
    let x: Vec<f64> = (0..37).map(|_| random.normal().powi(3)).collect();
    let mass: Vec<f64> = x.iter().map(|x| x.abs()).collect();
    let pairs = mass.iter().flat_map(|a| mass.iter().map(move |b| (a - b).abs()));
    let want = pairs.sum::<f64>() / (2.0 * 37.0 * mass.iter().sum::<f64>());
    assert!(near(gini(&x), want), "{} {want}", gini(&x));
    // 1/2, 1/4, 1/4: 1.5 bits.
    assert!(near(entropy(&[2.0, 1.0, 1.0]), 1.5 * std::f64::consts::LN_2));
    assert!(near(layer_entropy(&[1.0, -1.0, 2.0, 0.0], &[2, 2]), 1.0));
    assert!(near(layer_entropy(&[3.0, 1.0, 0.0, 0.0], &[2, 2]), 0.0));
    assert_eq!(layer_entropy(&[3.0, 1.0], &[2]), 0.0);
    assert_eq!(near_best(&[0.5, 1.0, 0.95, 0.94, -2.0], 0.95), 2);
    assert_eq!(near_best(&[-1.0, 0.0], 0.95), 0);
}

#[test]
fn concepts_of_neurons() {
    let values = [0.9, 0.2, 0.8, 0.7];
    let ranking = ranked("ap", &[0, 2, 3, 1]);
    assert_eq!(top_with_floor(&ranking, 4, &values, 0.7).expect("there"), [0, 2, 3]);
    assert_eq!(top_with_floor(&ranking, 2, &values, 0.85).expect("there"), [0]);
    assert!(top_with_floor(&ranking, 5, &values, 0.0).is_err());
    let concepts = concepts_per_neuron(&[vec![0, 2], vec![2], vec![0, 2, 3]], 5);
    assert_eq!(concepts, [2, 0, 3, 1, 0]);
    assert_eq!(neurons_by_concepts(&concepts), [2, 1, 1, 1]);
    assert_eq!(neurons_by_concepts(&[]), [0; 0]);
}

#[test]
fn the_smallest_set_that_does() {
    let curve = [(100, 0.96), (10, 0.80), (50, 0.94), (20, 0.95), (30, 0.949)];
    assert_eq!(smallest_reaching(&curve, 1.0, 0.05), Some((20, 0.95)), "though 30 falls short");
    assert_eq!(smallest_reaching(&curve, 1.0, 0.04), Some((100, 0.96)));
    assert_eq!(smallest_reaching(&curve, 1.0, 0.01), None);
    assert_eq!(smallest_reaching(&curve, 0.8, 0.0), Some((10, 0.80)));
    assert_eq!(smallest_reaching(&[(1, f64::NAN)], 1.0, 0.5), None);
    assert!(FEATURE_SHARES.is_sorted() && FEATURE_SHARES[26] == 0.9);
}
