//! Keys of experiment files. Oracle: the types of the configuration, and the page that lists them.

use std::collections::BTreeSet;

use electrode::config::keys::reference;
use electrode::run::questions::ExperimentConfig;
use electrode::run::questions::keys::KEYS;

use super::config::leaves;

/// A good value for every key.
const EVERY: &str = r#"
name = "all"
out = "out/all"
methods = ["gradact"]
[model]
path = "models/tiny-gpt2-en"
dtype = "f32"
[questions]
files = ["a.jsonl"]
prompt = "p"
answer = "a"
wrong = "w"
counterfactual = "c"
group = "g"
quantity = "q"
covariates = ["c1"]
only = { kind = "one" }
limit = 3
long_answers = "skip"
[neurons]
site = "resid_post"
layers = [0, 1]
add_bos = true
block = 2
batch_tokens = 64
[judge]
sizes = [1]
shares = [0.1, 1]
how = "zero"
random = 2
bottom = true
keep = true
steer = [1, -0.5]
greedy = 1
candidates = 4
sets = { a = ["layers.0.mlp_act.1"] }
[[judge.rankings]]
run = "out/x"
method = "ap"
label = "upos"
concept = "NOUN"
[probe]
align = "end"
penalty = 2
[metric]
probes = "out/p/probes.safetensors"
site = "layers.3.resid_post"
label = "upos"
class = "NOUN"
seed = 1
output = "log_prob"
[device]
name = "cpu"
threads = 1
commit_seconds = 0
"#;

fn load(text: &str, overrides: &[&str]) -> electrode::error::Result<ExperimentConfig> {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("experiment.toml");
    std::fs::write(&file, text).expect("written");
    let overrides: Vec<String> = overrides.iter().map(|text| (*text).to_owned()).collect();
    ExperimentConfig::load(&file, &overrides)
}

#[test]
fn types_and_table_list_the_same_keys() {
    let read = load(EVERY, &[]).expect("every value fits");
    let json = serde_json::to_value(&read).expect("plain data");
    let mut typed = BTreeSet::new();
    leaves(KEYS, "", &json, &mut typed);
    let table: BTreeSet<_> = KEYS.iter().map(|key| key.path.to_owned()).collect();
    assert_eq!(typed, table);
}

#[test]
fn the_page_of_experiments_lists_every_key() {
    let page = include_str!("../../docs/experiments.md");
    let reference = reference(KEYS);
    assert!(page.contains(&reference), "put this into docs/experiments.md:\n{reference}");
}

#[test]
fn wrong_keys_and_values_are_named_with_their_line() {
    for (change, what) in [
        ("judge.sises=[1]", "did you mean 'sizes'?"),
        ("metric={ probes = \"p.safetensors\" }", "site"),
        ("metric.output=prob", "one of"),
        ("judge.sizes=[0]", "a list of whole numbers from 1"),
        ("judge.shares=[2.5]", "a list of numbers from 0 to 1"),
        ("questions.only={ kind = [1] }", "a table of texts"),
        ("judge.sets={ a = 3 }", "a table of lists of texts"),
        ("neurons.site=nowhere", "one of"),
        ("judge.rankings=[{ run = \"x\" }]", "judge.rankings.0.method"),
    ] {
        let error = load(EVERY, &[change]).expect_err(change).to_string();
        assert!(error.contains(what), "{change}: {error}");
    }
    let text = EVERY.replace("random = 2", "random = \"two\"");
    let error = load(&text, &[]).expect_err("no number").to_string();
    assert!(error.contains("experiment.toml:30: judge.random"), "{error}");
    // A word for a text needs no quotes, also inside a table of texts.
    let read = load(EVERY, &["questions.only.kind=7"]).expect("fits");
    assert_eq!(read.questions.only["kind"], "7");
}
