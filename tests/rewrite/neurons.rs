//! Pruning neurons. Oracles: the original with the neurons set to 0, or to their mean, while it
//! runs; which neurons a ranking means, by hand.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use electrode::artifact::effects::{EffectRow, write_effects};
use electrode::artifact::ranked::{RankedRow, read_ranked};
use electrode::artifact::rows::RankingRow;
use electrode::artifact::tables::write_rankings;
use electrode::device::cuda::Element;
use electrode::model::{LayerParam, Param};
use electrode::rewrite::choose::{Amount, Choice, Wanted, choose, scores};
use electrode::rewrite::neurons::{Means, Neurons, Removal, remove};
use safetensors::Dtype;
use serde_json::{Value, json};

use super::{
    assert_close, changed, differ, fixtures, floats, golden, make, open, raw, rounding, run, run_on,
};
use crate::cuda::device;

/// Some neurons of each layer: `first`, and every third after it.
fn some(layers: usize, width: usize, first: usize) -> Neurons {
    (0..layers).map(|layer| (layer, (first + layer..width).step_by(3).collect())).collect()
}

fn edits(kind: &str, neurons: &Neurons, values: impl Fn(usize, usize) -> f64) -> Value {
    let of_layer = |(&layer, set): (&usize, &BTreeSet<usize>)| {
        let mut edit = json!({"kind": kind, "layer": layer, "neurons": set});
        if kind != "zero" {
            edit["values"] = set.iter().map(|&neuron| values(layer, neuron)).collect();
        }
        edit
    };
    json!({"edits": neurons.iter().map(of_layer).collect::<Vec<_>>()})
}

#[test]
fn removed_neurons_are_neurons_that_say_nothing() {
    for fixture in fixtures() {
        let name = fixture.display().to_string();
        let model = open(&fixture);
        let (layers, width) = (model.spec.layers, model.spec.mlp.width);
        let neurons = some(layers, width, 0);
        let want = run(&fixture, &fixture, Some(&edits("zero", &neurons, |_, _| 0.0)));
        let end = layers - 1;
        let zeroed = make(remove(&model, &neurons, Removal::Zero, None).expect("they may go"));
        let got = run(&zeroed.folder, &fixture, None);
        assert_close(&name, (&got, end), (&want, end), 1e-6);
        assert!(differ(&got, &run(&fixture, &fixture, None)), "{name}");
        let changes = changed(&raw(&fixture), &raw(&zeroed.folder));
        assert_eq!(changes.len(), zeroed.written.changed, "{name}: {changes:?}");
        let act = floats(&got[&format!("layers.{end}.mlp_act")]);
        assert!(
            neurons[&end].iter().all(|&n| act.iter().skip(n).step_by(width).all(|x| *x == 0.0))
        );
        // Deleted: as many of each layer, so that the model stays one of one width.
        let even: Neurons = neurons
            .iter()
            .map(|(&l, set)| (l, set.iter().copied().take(width / 4).collect()))
            .collect();
        let deleted = remove(&model, &even, Removal::Delete, None);
        if name.contains("bloom") || name.contains("t5-full") {
            let error = deleted.err().expect("its width is not free").to_string();
            assert!(error.contains("fixed in this") || error.contains("a decoder"), "{error}");
            continue;
        }
        let made = make(deleted.expect("they may go"));
        let want = run(&fixture, &fixture, Some(&edits("zero", &even, |_, _| 0.0)));
        assert_eq!(open(&made.folder).spec.mlp.width, width - width / 4, "{name}");
        assert_close(&name, (&run(&made.folder, &fixture, None), end), (&want, end), 3e-5);
    }
}

#[test]
fn removed_neurons_say_nothing_on_a_gpu_either() {
    let Some(gpu) = device(Element::F32) else { return };
    let fixture = golden("gpt2-tied");
    let model = open(&fixture);
    let neurons = some(model.spec.layers, model.spec.mlp.width, 1);
    let zeroed = make(remove(&model, &neurons, Removal::Zero, None).expect("they may go"));
    let want = run_on(gpu.clone(), &fixture, &fixture, Some(&edits("zero", &neurons, |_, _| 0.0)));
    let got = run_on(gpu, &zeroed.folder, &fixture, None);
    let end = model.spec.layers - 1;
    assert_close("gpt2-tied", (&got, end), (&want, end), 1e-6);
}

#[test]
fn what_neurons_wrote_on_average_goes_to_the_bias() {
    let mut compared = 0;
    for fixture in fixtures() {
        let name = fixture.display().to_string();
        let model = open(&fixture);
        let (layers, width) = (model.spec.layers, model.spec.mlp.width);
        let mean = |layer: usize, neuron: usize| 0.25 + ((7 * neuron + layer) % 5) as f64 * 0.125;
        let means: Means =
            (0..layers).map(|l| (l, (0..width).map(|n| mean(l, n)).collect())).collect();
        let neurons = some(layers, width, 1);
        let made = remove(&model, &neurons, Removal::Zero, Some(&means));
        if !model.has(Param::Layer(0, LayerParam::DownBias)) {
            let error = made.err().expect("there is no bias").to_string();
            assert!(error.contains("no bias"), "{error}");
            continue;
        }
        let made = make(made.expect("they may go"));
        let want = run(&fixture, &fixture, Some(&edits("set", &neurons, mean)));
        let end = layers - 1;
        // The bias is rounded to the type of the checkpoint.
        let bound = (rounding(&fixture) as f32 * 10.0).max(3e-5);
        assert_close(&name, (&run(&made.folder, &fixture, None), end), (&want, end), bound);
        let without = make(remove(&model, &neurons, Removal::Zero, None).expect("they may go"));
        let without = run(&without.folder, &fixture, None);
        assert!(differ(&without, &want), "{name}: the means are not 0");
        compared += 1;
    }
    assert!(compared >= 9, "only {compared} have biases");
}

#[test]
fn types_are_kept() {
    let fixture = golden("llama-bias-bf16");
    let model = open(&fixture);
    let neurons = some(model.spec.layers, model.spec.mlp.width, 0);
    let made = make(remove(&model, &neurons, Removal::Zero, None).expect("they may go"));
    let (old, new) = (raw(&fixture), raw(&made.folder));
    let dtype = |raw: &super::Raw| -> BTreeMap<String, Dtype> {
        raw.iter().map(|(name, (dtype, ..))| (name.clone(), *dtype)).collect()
    };
    assert_eq!(dtype(&old), dtype(&new));
    assert!(new.values().any(|(dtype, ..)| *dtype == Dtype::BF16));
}

#[test]
fn impossible_neurons_are_refused() {
    let model = open(&golden("gpt2-tied"));
    let width = model.spec.mlp.width;
    let one = |layer, neuron| Neurons::from([(layer, BTreeSet::from([neuron]))]);
    for (neurons, removal, word) in [
        (one(0, width), Removal::Zero, "no neuron"),
        (one(9, 0), Removal::Zero, "2 layers"),
        (Neurons::from([(1, (0..width).collect())]), Removal::Zero, "would be removed"),
        (one(0, 3), Removal::Delete, "--per-layer"),
    ] {
        let error = remove(&model, &neurons, removal, None).err().expect(word);
        assert_eq!(error.exit_code(), 2);
        assert!(error.to_string().contains(word), "{error}");
    }
    let short = Means::from([(0, vec![0.5; 3])]);
    let error = remove(&model, &one(0, 3), Removal::Zero, Some(&short)).err().expect("too few");
    assert!(error.to_string().contains("no means"), "{error}");
}

fn row(method: &str, concept: &str, (layer, neuron): (usize, i32), score: f64) -> RankedRow {
    RankedRow {
        method: method.into(),
        label: "upos".into(),
        concept: concept.into(),
        site: format!("layers.{layer}.mlp_act"),
        neuron,
        rank: 1,
        score,
    }
}

/// Two layers of three neurons with scores 5 3 3 / 4 1 2.
fn table(method: &str) -> Vec<RankedRow> {
    let scores = [[5.0, 3.0, 3.0], [4.0, 1.0, 2.0]];
    let of = |layer: usize| (0..3).map(move |n| ((layer, n as i32), scores[layer][n]));
    (0..2).flat_map(of).map(|(id, score)| row(method, "*", id, score)).collect()
}

#[test]
fn rankings_mean_the_neurons_they_should() {
    let ranking = scores("table", table("a"), &Wanted::default()).expect("there is one");
    let set = |amount, highest, per_layer| {
        let choice = Choice { amount, highest, per_layer };
        let chosen = choose(&ranking, (2, 3), &choice).map_err(|error| error.to_string())?;
        let list = |(l, set): (usize, BTreeSet<usize>)| (l, set.into_iter().collect::<Vec<_>>());
        Ok::<_, String>(chosen.into_iter().map(list).collect::<Vec<_>>())
    };
    let count = Amount::Count;
    assert_eq!(set(count(1), true, false), Ok(vec![(0, vec![0])]));
    assert_eq!(set(count(2), false, false), Ok(vec![(1, vec![1, 2])]));
    // A third of layer 1 would be all of it: the next is of layer 0, of equal scores the later.
    assert_eq!(set(count(3), false, false), Ok(vec![(0, vec![2]), (1, vec![1, 2])]));
    assert_eq!(set(count(1), false, true), Ok(vec![(0, vec![2]), (1, vec![1])]));
    assert_eq!(set(count(2), true, true), Ok(vec![(0, vec![0, 1]), (1, vec![0, 2])]));
    assert_eq!(set(Amount::Share(0.34), true, true), Ok(vec![(0, vec![0]), (1, vec![0])]));
    assert_eq!(set(Amount::Share(0.5), true, false), set(count(3), true, false));
    for (amount, per_layer) in [(count(5), false), (count(3), true), (Amount::Share(0.01), false)] {
        assert!(set(amount, false, per_layer).is_err_and(|error| error.contains("is kept")));
    }
    let mut part = table("a");
    part.truncate(5);
    let part = scores("table", part, &Wanted::default()).expect("there is one");
    let mut choice = Choice { amount: count(1), highest: false, per_layer: false };
    let error = choose(&part, (2, 3), &choice).expect_err("the lowest is not there").to_string();
    assert!(error.contains("ranks 2 of the 3 neurons of layer 1"), "{error}");
    choice.highest = true;
    choose(&part, (2, 3), &choice).expect("the highest is there");
}

#[test]
fn the_ranking_must_be_one() {
    let mut rows = table("a");
    rows.extend(table("b"));
    rows.push(row("b", "NOUN", (0, 1), 9.0));
    let wanted = |method: Option<&str>, concept: Option<&str>| Wanted {
        method: method.map(str::to_owned),
        label: None,
        concept: concept.map(str::to_owned),
    };
    let ask = |method, concept| scores("table", rows.clone(), &wanted(method, concept));
    assert_eq!(ask(Some("a"), None).expect("one").len(), 6);
    assert_eq!(ask(Some("b"), None).expect("the one for all").len(), 6);
    assert_eq!(ask(Some("b"), Some("NOUN")).expect("one").len(), 1);
    for (method, concept, word) in
        [(None, None, "several rankings fit"), (Some("c"), None, "no such ranking")]
    {
        let error = ask(method, concept).expect_err(word);
        assert_eq!(error.exit_code(), 2);
        assert!(error.to_string().contains(word), "{error}");
    }
    assert_eq!(Amount::parse("12"), Ok(Amount::Count(12)));
    assert_eq!(Amount::parse("0.25"), Ok(Amount::Share(0.25)));
    assert_eq!(Amount::parse("25%"), Ok(Amount::Share(0.25)));
    for wrong in ["0", "1.5", "100%", "-1", "NaN", "", "%", "a"] {
        assert!(Amount::parse(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn both_tables_are_read() {
    let home = tempfile::tempdir().expect("a temporary folder");
    let path = |name: &str| home.path().join(name);
    let effects = table("a").into_iter().map(effect);
    write_effects(&path("effects.parquet"), "run", effects).expect("written");
    let rankings = table("a").into_iter().map(|row| RankingRow {
        method: row.method,
        label: row.label,
        concept: row.concept,
        site: row.site,
        layer: Some(0),
        neuron: row.neuron,
        rank: 1,
        score: row.score,
        sign: 1,
        n: 3,
        n_concept: 1,
        p_value: None,
        q_value: None,
    });
    write_rankings(&path("rankings.parquet"), "run", rankings).expect("written");
    for name in ["effects.parquet", "rankings.parquet"] {
        assert_eq!(read_ranked(&path(name)).expect("readable"), table("a"), "{name}");
    }
    assert!(read_ranked(Path::new("/nowhere.parquet")).is_err());
}

/// A row of `effects.parquet`.
pub(super) fn effect(row: RankedRow) -> EffectRow {
    let layer = row.site.split('.').nth(1).and_then(|layer| layer.parse().ok());
    EffectRow {
        method: row.method,
        label: row.label,
        concept: row.concept,
        site: row.site,
        layer,
        neuron: row.neuron,
        rank: 1,
        score: row.score,
        effect: row.score,
        error: 0.0,
        n: 1,
        p_value: None,
        q_value: None,
        share: None,
        selected: false,
    }
}
