//! Keys of probing files. Oracle: the types of the configuration, and the page that lists them.

use std::collections::BTreeSet;

use electrode::config::keys::reference;
use electrode::run::probing::{ProbingConfig, keys};

use super::config::leaves;

/// A good value for every key.
const EVERY: &str = r#"
name = "all"
out = "out/all"
methods = ["probeless"]
[model]
path = "models/tiny-gpt2-en"
dtype = "f32"
[corpus]
files = ["a.conllu"]
format = "conllu"
label_files = []
text = "words"
add_bos = true
max_tokens = 100
long = "split"
block_bytes = 4096
max_documents = 10
max_bad = 0.1
[corpus.file_labels]
language = ["en"]
[[concepts]]
column = "upos"
classes = ["NOUN", "VERB"]
min_count = 2
most_frequent = 3
missing = "class"
[capture]
sites = ["embeddings"]
pool = "last"
special_tokens = "exclude"
first_position = "auto"
[split]
dev = 0.1
test = 0.2
by = "sentence"
seed = 1
dev_files = ["b.conllu"]
test_files = ["c.conllu"]
[probes]
target = "classes"
objective = "mean"
solver = "adam"
epochs = 2
batch = 16
rate = 0.01
shuffle = true
tolerance = 1e-4
iterations = 10
seeds = [0, 1]
standardise = false
each_site = true
all_sites = true
control = "uniform"
cache = "memory"
[[penalties]]
l1 = 0.1
l2 = 0.2
[judge]
retain = [1, 2]
ablate = [0.5]
random = 2
bottom = false
code_length = true
delta = 0.05
overlap = [5]
select = true
layer_delta = 0.02
cluster = 0.4
[output]
keep = 10
[device]
name = "cpu"
threads = 1
commit_seconds = 0
"#;

fn load(text: &str, overrides: &[&str]) -> electrode::error::Result<ProbingConfig> {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("probes.toml");
    std::fs::write(&file, text).expect("written");
    let overrides: Vec<String> = overrides.iter().map(|text| (*text).to_owned()).collect();
    ProbingConfig::load(&file, &overrides)
}

#[test]
fn types_and_table_list_the_same_keys() {
    let read = load(EVERY, &[]).expect("every value fits");
    let json = serde_json::to_value(&read).expect("plain data");
    let mut typed = BTreeSet::new();
    leaves(keys(), "", &json, &mut typed);
    let table: BTreeSet<_> = keys().iter().map(|key| key.path.to_owned()).collect();
    assert_eq!(typed, table);
}

#[test]
fn the_page_of_probes_lists_every_key() {
    let page = include_str!("../../docs/probes.md");
    let reference = reference(keys());
    assert!(page.contains(&reference), "put this into docs/probes.md:\n{reference}");
}

#[test]
fn what_cannot_work_is_refused_with_its_line() {
    for (change, what) in [
        ("probes.epoch=3", "did you mean 'epochs'?"),
        ("probes.seeds=[]", "no seed, so no probe"),
        ("probes.cache=none", "rows that are not kept come in the order of the corpus"),
        ("probes.cache=disk", "rows in files come in the order of the corpus"),
        ("probes.target=number", "control labels are classes"),
        ("penalties=[{ l1 = 1 }, { l1 = 1 }]", "stands there twice"),
        ("penalties=[{ l3 = 1 }]", "unknown key 'l3'"),
        ("concepts=[]", "there are no labels to learn"),
        ("judge.retain=[0]", "a list of whole numbers from 1"),
        ("probes.all_sites=false", "features are selected among all sites"),
        ("split.dev=2", "a number from 0 to 1"),
    ] {
        let error = load(EVERY, &[change]).expect_err(change);
        assert!(error.to_string().contains(what), "{change}: {error}");
        assert_eq!(error.exit_code(), 2, "{change}");
    }
    let changes = ["probes.solver=fista", "probes.objective=neurox"];
    let error = load(EVERY, &changes).expect_err("no proximal step").to_string();
    assert!(error.contains("probes.objective") && error.contains("proximal"), "{error}");
    let changes = ["probes.each_site=false", "probes.all_sites=false", "judge.select=false"];
    let error = load(EVERY, &changes).expect_err("no probes").to_string();
    assert!(error.contains("no probes are asked for"), "{error}");
}
