//! `lape` from counts alone.
//! Oracles: `lape.json` (the fixture's `refs.lape`), exact sets, entropy 1e-6; and O-lape:
//! Poisson firing with one neuron planted for each corpus, found exactly.

use electrode::accumulate::summary::SiteSummary;
use electrode::corpus::block::{Column, Labels};
use electrode::device::statistics::{RowSample, TopTokens};
use electrode::id::{NeuronId, Site, SiteKind};
use electrode::methods::{Ranking, SummarySource};
use serde_json::Value;

use super::support::{Random, by_neuron, run};

/// The sum of all corpora, then each.
fn with_total(list: &[u64]) -> impl Iterator<Item = u64> {
    std::iter::once(list.iter().sum()).chain(list.iter().copied())
}

/// One layer's firing counts, `[neuron][corpus]`, as a summary.
fn summary(layer: u32, counts: &[Vec<u64>], totals: &[u64]) -> SiteSummary {
    let (neurons, groups) = (counts.len(), totals.len());
    let rows: Vec<u64> = with_total(totals).collect();
    let mut firing = vec![0; (groups + 1) * neurons];
    for (n, counts) in counts.iter().enumerate() {
        for (group, count) in with_total(counts).enumerate() {
            firing[group * neurons + n] = count;
        }
    }
    let cells = (groups + 1) * neurons;
    SiteSummary {
        site: Site::of_layer(layer, SiteKind::MlpGate),
        neurons,
        groups,
        count: rows.iter().flat_map(|&n| vec![n; neurons]).collect(),
        rows,
        mean: vec![0.0; cells],
        variance: vec![1.0; cells],
        min: vec![-1.0; cells],
        max: vec![1.0; cells],
        firing,
        bins: 0,
        edges: Vec::new(),
        histogram: Vec::new(),
        top: TopTokens::default(),
        bottom: TopTokens::default(),
        sample: RowSample::default(),
    }
}

/// Runs `method` over layers of counts.
fn lape(method: &str, layers: &[Vec<Vec<u64>>], totals: &[u64]) -> Ranking {
    let summaries: Vec<SiteSummary> =
        (0..).zip(layers).map(|(layer, counts)| summary(layer, counts, totals)).collect();
    let neurons: Vec<NeuronId> = summaries
        .iter()
        .flat_map(|s| (0..s.neurons as u32).map(|index| NeuronId { site: s.site, index }))
        .collect();
    let classes = (0..totals.len()).map(|g| format!("language {g}")).collect();
    let column = Column {
        name: "language".to_owned(),
        classes,
        first_group: 0,
        min_count: 1,
        numeric: false,
    };
    let labels = Labels { columns: vec![column] };
    let source = SummarySource::new(&summaries, &neurons, &labels, 0).expect("neurons are there");
    run(method, &source)
}

fn whole(value: &Value) -> Vec<u64> {
    value.as_array().expect("a list").iter().map(|x| x.as_u64().expect("a count")).collect()
}

#[test]
fn selects_what_the_fixture_selects() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/methods/lape.json");
    let json: Value =
        serde_json::from_slice(&std::fs::read(path).expect("it is in the repository"))
            .expect("it is JSON");
    let layers: Vec<Vec<Vec<u64>>> = json["counts"]
        .as_array()
        .expect("layers")
        .iter()
        .map(|layer| layer.as_array().expect("neurons").iter().map(whole).collect())
        .collect();
    let width = layers[0].len() as u64;
    let ranking = lape("lape:share=0.1,filter=0.8,bar=0.85", &layers, &whole(&json["totals"]));

    let overall = ranking.overall.as_ref().expect("lape ranks overall");
    let entropies = json["entropy"].as_array().expect("layers").iter();
    let want: Vec<f64> = entropies
        .flat_map(|layer| layer.as_array().expect("neurons"))
        .map(|x| x.as_f64().expect("a number"))
        .collect();
    for (ours, want) in by_neuron(overall, &overall.values).iter().zip(&want) {
        assert!((-ours - want).abs() <= 1e-6, "{ours} against {want}");
    }

    let flat = |pair: &Value| {
        let pair = whole(pair);
        pair[0] * width + pair[1]
    };
    let want: Vec<u64> = json["selected"].as_array().expect("pairs").iter().map(flat).collect();
    let ours = |list: &Option<Vec<u32>>| -> Vec<u64> {
        list.as_ref().expect("lape selects").iter().map(|&n| u64::from(n)).collect()
    };
    assert_eq!(ours(&overall.selected), want);
    for (group, sets) in ranking.groups.iter().zip(json["sets"].as_array().expect("sets")) {
        let mut selected = ours(&group.selected);
        selected.sort_unstable();
        let layers = (0..).zip(sets.as_array().expect("layers"));
        let want: Vec<u64> = layers
            .flat_map(|(l, set)| whole(set).into_iter().map(move |n| l * width + n))
            .collect();
        assert_eq!(selected, want, "{}", group.name);
    }
}

#[test]
fn finds_the_planted_languages() {
    let totals = [10_000_u64, 8_000, 12_000];
    let mut random = Random(7);
    let mut poisson = |mean: f64| {
        // The number of exponential waits that fit into one.
        let (mut count, mut time) = (0, -random.uniform().ln());
        while time < mean {
            count += 1;
            time -= random.uniform().ln();
        }
        count
    };
    let mut counts: Vec<Vec<u64>> =
        (0..300).map(|_| totals.iter().map(|&n| poisson(0.05 * n as f64)).collect()).collect();
    for (neuron, language) in [(11, 0), (122, 1), (233, 2)] {
        counts[neuron] = totals.iter().map(|&n| poisson(0.001 * n as f64)).collect();
        counts[neuron][language] = poisson(0.4 * totals[language] as f64);
    }
    counts[50] = vec![0; 3];
    let ranking = lape("lape", &[counts], &totals);
    for (group, neuron) in ranking.groups.iter().zip([11, 122, 233]) {
        assert_eq!(group.selected, Some(vec![neuron]), "{}", group.name);
        assert_eq!(group.order[0], neuron);
        assert!(group.q[0] <= 1e-100);
    }
    let overall = ranking.overall.expect("lape ranks overall");
    assert_eq!(overall.order.last(), Some(&50), "a neuron that never fires comes last");
}

#[test]
fn a_language_without_neurons_has_an_empty_set() {
    let mut counts = vec![vec![100, 100, 100]; 100];
    counts[3] = vec![900, 1, 1];
    let ranking = lape("lape", &[counts], &[1000, 1000, 1000]);
    let sets: Vec<_> = ranking.groups.iter().map(|group| group.selected.clone()).collect();
    assert_eq!(sets, [Some(vec![3]), Some(vec![]), Some(vec![])]);
}
