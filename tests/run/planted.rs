//! A neuron wired to one word, found from files to rankings. Oracle: the wiring of `tiny.rs`.

use std::collections::BTreeSet;

use electrode::artifact::rows::RankingRow;
use electrode::artifact::tables::{read_contexts, read_neurons, read_rankings};
use electrode::methods::METHODS;
use electrode::methods::registry::Family;

use super::tiny::{LABEL, LAYER, NEURON, PLANTED, config};
use super::{Bench, manifest};

/// The rankings that a run over a corpus can make.
fn rankings() -> Vec<&'static str> {
    let ranks = |family| matches!(family, Family::ConceptSearch | Family::NeuronSearch);
    METHODS
        .iter()
        .filter(|method| ranks(method.family) && !method.needs_matrix)
        .map(|method| method.name)
        .filter(|name| !["topctx", "topword"].contains(name))
        .collect()
}

#[test]
fn every_method_puts_the_planted_neuron_first() {
    for activation in ["gelu_new", "relu"] {
        let bench = Bench::new(1200);
        let mut config = config();
        config["activation_function"] = activation.into();
        std::fs::write(bench.path("model/config.json"), config.to_string()).expect("written");
        let mut methods = rankings();
        // It is defined for activations that are never negative.
        methods.retain(|name| activation == "relu" || *name != "ccmas");
        assert!(methods.len() >= 10, "{methods:?}");
        let list = format!("methods={methods:?}");
        bench.tables("out", &[&list, r#"capture.sites=["layers.*.mlp_act"]"#, "output.keep=0"]);
        assert_found(&bench, &methods, activation);
    }
}

/// First of its label for every method, and of no other label.
fn assert_found(bench: &Bench, methods: &[&str], activation: &str) {
    let (site, neuron) = (format!("layers.{LAYER}.mlp_act"), i32::try_from(NEURON).expect("small"));
    let rankings = read_rankings(&bench.path("out/rankings.parquet")).expect("readable");
    let firsts: Vec<_> = rankings.iter().filter(|row| row.rank == 1).collect();
    let found: Vec<_> = firsts.iter().filter(|row| row.concept == LABEL).collect();
    let names: BTreeSet<&str> = found.iter().map(|row| row.method.as_str()).collect();
    assert_eq!(names, methods.iter().copied().collect(), "{activation}: who ranked");
    for row in found {
        let method = &row.method;
        assert_eq!((&row.site, row.neuron), (&site, neuron), "{activation}: {method}");
        assert!(row.sign >= 0, "{activation}: {method}: it fires on the word");
        assert!(row.q_value.is_none_or(|q| q <= 1e-6), "{activation}: {method}: {row:?}");
    }
    // By a method that looks at one class alone; others rank a neuron for what it is not.
    let alone = |row: &&&RankingRow| row.concept == "fizz" && row.method == "auroc";
    let mut others = firsts.iter().filter(alone);
    assert!(others.all(|row| (&row.site, row.neuron) != (&site, neuron)), "it is about one label");
}

#[test]
fn its_contexts_and_numbers_are_those_of_the_word() {
    let bench = Bench::new(400);
    bench.tables("out", &["output.window=1"]);
    let site = format!("layers.{LAYER}.mlp_act");
    let neuron = i32::try_from(NEURON).expect("small");
    let contexts = read_contexts(&bench.path("out/contexts.parquet")).expect("readable");
    let top: Vec<_> = contexts
        .iter()
        .filter(|row| row.site == site && row.neuron == neuron && row.side == "top")
        .collect();
    assert_eq!(top.len(), 5, "as many as asked for");
    for row in &top {
        assert_eq!(row.words[row.focus as usize], PLANTED);
        assert_eq!(row.activations.len(), row.words.len(), "it has a page");
        assert_eq!(row.activations[row.focus as usize], row.value);
    }
    assert!(top.is_sorted_by(|a, b| a.value >= b.value));
    // What the corpus says of the word, but for first words, which are no rows here.
    let (words, _) = super::tiny::corpus(400);
    let rows: Vec<&str> = words.lines().flat_map(|line| line.split(' ').skip(1)).collect();
    let fired = rows.iter().filter(|word| **word == PLANTED).count();
    let neurons = read_neurons(&bench.path("out/neurons.parquet")).expect("readable");
    let row = neurons.iter().find(|row| row.site == site && row.neuron == neuron).expect("there");
    assert_eq!(row.n as usize, rows.len());
    assert_eq!((row.firing_rate * rows.len() as f64).round() as usize, fired);
    assert_eq!(row.max, top[0].value);
    let manifest = manifest(&bench.path("out"));
    let classes = manifest["labels"][0]["classes"].as_array().expect("a list");
    let planted = classes.iter().find(|class| class["name"] == LABEL).expect("there");
    assert_eq!(planted["rows"], fired);
}
