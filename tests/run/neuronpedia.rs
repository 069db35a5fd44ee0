//! Runs in Neuronpedia's format. Oracle: lines written by hand, and the columns of its tables with
//! their types, as `export-data.py` of its repository lists them and its importer casts them.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read as _;
use std::path::Path;

use electrode::artifact::manifest::{FORMAT, FileFacts, Manifest, SiteFacts};
use electrode::artifact::rows::{ContextRow, HistogramRow, NeuronRow};
use electrode::artifact::tables::{
    CONTEXTS, HISTOGRAMS, NEURONS, write_contexts, write_histograms, write_neurons,
};
use serde_json::{Value, json};

use super::{Bench, electrode, finish};

const SITE: &str = "layers.3.mlp_act";

fn neuron(index: i32) -> NeuronRow {
    NeuronRow {
        site: SITE.to_owned(),
        layer: Some(3),
        neuron: index,
        n: 10,
        non_finite: 0,
        mean: 0.5,
        sd: 1.0,
        min: -1.0,
        max: 2.5,
        firing_rate: 0.25,
        constant: false,
        quantiles: Vec::new(),
    }
}

fn context(side: &str, activations: &[f32]) -> ContextRow {
    ContextRow {
        site: SITE.to_owned(),
        layer: Some(3),
        neuron: 1,
        side: side.to_owned(),
        rank: 1,
        value: 2.5,
        document: 0,
        sentence: 0,
        place: 1,
        focus: 1,
        words: ["a", "b</script>", "c"].map(str::to_owned).to_vec(),
        activations: activations.to_vec(),
    }
}

/// A run of one site with three neurons, two of them in the first file of 1024.
fn write_run(folder: &Path) {
    let manifest = Manifest {
        format: FORMAT.to_owned(),
        model: electrode::artifact::manifest::ModelFacts {
            path: "models/tiny-gpt2/".to_owned(),
            ..Default::default()
        },
        corpus: electrode::artifact::manifest::CorpusFacts {
            files: vec![FileFacts { name: "c.txt".to_owned(), ..FileFacts::default() }],
            ..Default::default()
        },
        sites: vec![SiteFacts { site: SITE.to_owned(), neurons: 3 }],
        ..Manifest::default()
    };
    fs::create_dir_all(folder).expect("made");
    manifest.write(folder).expect("written");
    let neurons = [0, 1, 1024].map(neuron);
    write_neurons(&folder.join(NEURONS), "id", neurons.into_iter()).expect("written");
    let contexts = [
        context("top", &[-1.0, 2.5, 0.0]),
        context("bottom", &[]),
        context("bottom", &[0.5, -1.0, 0.0]),
    ];
    write_contexts(&folder.join(CONTEXTS), "id", contexts.into_iter()).expect("written");
    let histogram = |label: &str, counts: &[i64]| HistogramRow {
        site: SITE.to_owned(),
        layer: Some(3),
        neuron: 1,
        label: label.to_owned(),
        concept: "*".to_owned(),
        edges: vec![-1.0, 0.0, 1.0, 3.0],
        counts: counts.to_vec(),
    };
    let histograms = [histogram("", &[5, 3, 2]), histogram("upos", &[1, 1, 1])];
    write_histograms(&folder.join(HISTOGRAMS), "id", histograms.into_iter()).expect("written");
}

/// The lines of a packed file.
fn unpacked(path: &Path) -> Vec<Value> {
    let packed = fs::File::open(path).unwrap_or_else(|error| panic!("{path:?}: {error}"));
    let mut text = String::new();
    flate2::read::GzDecoder::new(packed).read_to_string(&mut text).expect("it is gzip");
    assert!(text.ends_with('\n'));
    text.lines().map(|line| serde_json::from_str(line).expect("an object in each line")).collect()
}

/// What may stand in a column.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Text,
    MaybeText,
    Number,
    MaybeNumber,
    Bool,
    Numbers,
    Texts,
}

use Kind::{Bool, MaybeNumber, MaybeText, Number, Numbers, Text, Texts};

const FEATURE: [(&str, Kind); 29] = [
    ("modelId", Text),
    ("layer", Text),
    ("index", Text),
    ("maxActApprox", Number),
    ("creatorId", Text),
    ("frac_nonzero", Number),
    ("freq_hist_data_bar_heights", Numbers),
    ("freq_hist_data_bar_values", Numbers),
    ("logits_hist_data_bar_heights", Numbers),
    ("logits_hist_data_bar_values", Numbers),
    ("neuron_alignment_indices", Numbers),
    ("neuron_alignment_l1", Numbers),
    ("neuron_alignment_values", Numbers),
    ("correlated_neurons_indices", Numbers),
    ("correlated_neurons_l1", Numbers),
    ("correlated_neurons_pearson", Numbers),
    ("decoder_weights_dist", Numbers),
    ("neg_str", Texts),
    ("neg_values", Numbers),
    ("pos_str", Texts),
    ("pos_values", Numbers),
    ("sourceSetName", Text),
    ("topkCosSimIndices", Numbers),
    ("topkCosSimValues", Numbers),
    ("vector", Numbers),
    ("vectorLabel", MaybeText),
    ("hookName", MaybeText),
    ("vectorDefaultSteerStrength", MaybeNumber),
    ("hasVector", Bool),
];

const ACTIVATION: [(&str, Kind); 17] = [
    ("id", Text),
    ("modelId", Text),
    ("layer", Text),
    ("index", Text),
    ("creatorId", Text),
    ("dataSource", MaybeText),
    ("tokens", Texts),
    ("maxValue", Number),
    ("minValue", Number),
    ("values", Numbers),
    ("maxValueTokenIndex", Number),
    ("dfaValues", Numbers),
    ("dfaMaxValue", MaybeNumber),
    ("dfaTargetIndex", MaybeNumber),
    ("binContains", MaybeNumber),
    ("binMin", MaybeNumber),
    ("binMax", MaybeNumber),
];

/// Exactly these columns, each of its kind.
fn assert_columns(line: &Value, columns: &[(&str, Kind)]) {
    let line = line.as_object().expect("an object");
    let kinds: BTreeMap<&str, Kind> = columns.iter().copied().collect();
    assert_eq!(line.len(), kinds.len(), "{:?}", line.keys());
    let all =
        |value: &Value, of: fn(&Value) -> bool| value.as_array().is_some_and(|a| a.iter().all(of));
    for (name, value) in line {
        let right = match kinds.get(name.as_str()).unwrap_or_else(|| panic!("no column {name}")) {
            Text => value.is_string(),
            MaybeText => value.is_null() || value.is_string(),
            Number => value.is_number(),
            MaybeNumber => value.is_null() || value.is_number(),
            Bool => value.is_boolean(),
            Numbers => all(value, Value::is_number),
            Texts => all(value, Value::is_string),
        };
        assert!(right, "{name}: {value}");
    }
}

#[test]
fn features_and_activations_are_those_of_the_tables() {
    let folder = tempfile::tempdir().expect("a folder");
    let (run, out) = (folder.path().join("run"), folder.path().join("out"));
    write_run(&run);
    let export = |more: &[&str]| {
        let mut command = electrode();
        command.args(["export", "neuronpedia"]).arg(&run).arg("--out").arg(&out).args(more);
        finish(&mut command)
    };
    let done = export(&["--creator-id", "me"]);
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    let said = "1 sources, 3 features, 2 activations (1 contexts were not traced)";
    assert!(done.stdout.starts_with(said), "{}", done.stdout);
    let source = out.join("3-mlp_act");
    let features = unpacked(&source.join("features/batch-0.jsonl.gz"));
    features.iter().for_each(|line| assert_columns(line, &FEATURE));
    let indices: Vec<_> = features.iter().map(|line| &line["index"]).collect();
    assert_eq!(indices, ["0", "1"]);
    assert_eq!(unpacked(&source.join("features/batch-1.jsonl.gz"))[0]["index"], "1024");
    let of = |name: &str| &features[1][name];
    assert_eq!((of("modelId"), of("layer")), (&json!("tiny-gpt2"), &json!("3-mlp_act")));
    assert_eq!((of("maxActApprox"), of("frac_nonzero")), (&json!(2.5), &json!(0.25)));
    assert_eq!(*of("freq_hist_data_bar_heights"), json!([5, 3, 2]));
    assert_eq!(*of("freq_hist_data_bar_values"), json!([-0.5, 0.5, 2.0]));
    assert_eq!(features[0]["freq_hist_data_bar_values"], json!([]));
    let activations = unpacked(&source.join("activations/batch-0.jsonl.gz"));
    activations.iter().for_each(|line| assert_columns(line, &ACTIVATION));
    let by_hand = json!({
        "id": "tiny-gpt2-3-mlp_act-1-top-1", "modelId": "tiny-gpt2", "layer": "3-mlp_act",
        "index": "1", "creatorId": "me", "dataSource": null,
        "tokens": ["a", "b</script>", "c"], "values": [-1.0, 2.5, 0.0],
        "maxValue": 2.5, "maxValueTokenIndex": 1, "minValue": -1.0,
        "dfaValues": [], "dfaMaxValue": null, "dfaTargetIndex": null,
        "binContains": null, "binMin": null, "binMax": null,
    });
    assert_eq!(activations[0], by_hand);
    assert_eq!(activations[1]["maxValueTokenIndex"], 0);
    let about = fs::read_to_string(source.join("source.jsonl")).expect("written");
    assert_eq!(serde_json::from_str::<Value>(&about).expect("JSON")["dataset"], "c.txt");
    // What stands there is left alone.
    let again = export(&[]);
    assert_eq!(again.code, Some(2), "{}", again.stderr);
    assert!(again.stderr.contains("exists already"), "{}", again.stderr);
}

#[test]
fn a_run_of_the_program_is_exported_and_another_folder_is_not() {
    let bench = Bench::new(120);
    bench.tables("out", &[]);
    let (run, out) = (bench.path("out"), bench.path("export"));
    let export = |from: &Path, out: &Path| {
        let mut command = electrode();
        finish(command.args(["export", "neuronpedia"]).arg(from).arg("--out").arg(out))
    };
    let done = export(&run, &out);
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    for site in ["0-mlp_act", "1-mlp_act", "0-resid_post", "1-resid_post"] {
        let features = unpacked(&out.join(site).join("features/batch-0.jsonl.gz"));
        features.iter().for_each(|line| assert_columns(line, &FEATURE));
        let with_bars = features.iter().any(|line| line["freq_hist_data_bar_values"] != json!([]));
        assert!(with_bars, "{site}");
    }
    let none = export(&bench.path("nowhere"), &bench.path("other"));
    assert_ne!(none.code, Some(0));
    assert!(!bench.path("other").exists() && none.stderr.contains("nowhere"), "{}", none.stderr);
}
