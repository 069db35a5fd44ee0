//! `electrode inspect` on the embedded model. Oracle: its model card and arithmetic by hand, with
//! L = 4, D = 256, F = 1024, V = 6144, P = 256 positions.

use serde_json::Value;

use super::{finish, run};

const MODEL: &str = "models/tiny-gpt2-en";

#[test]
fn parameters_and_operations_are_those_of_the_formulas() {
    let out = run(&["inspect", MODEL, "--json"]);
    assert_eq!(out.code, 0, "{}", out.stderr);
    let seen: Value = serde_json::from_str(&out.stdout).expect("--json is JSON");
    // Tables; per block 12 D^2 + 13 D (GPT-2); the last norm. The head is tied.
    let tables = 6144 * 256 + 256 * 256;
    assert_eq!(seen["parameters"], tables + 4 * (12 * 256 * 256 + 13 * 256) + 2 * 256);
    assert_eq!(seen["embedding_parameters"], tables);
    let flops = &seen["flops_per_token"];
    assert_eq!(flops["projections"], 4 * 2 * 4 * 256 * 256);
    assert_eq!(flops["mlp"], 4 * 2 * 2 * 256 * 1024);
    assert_eq!(flops["head"], 2 * 256 * 6144);
    // Scores and sums, 2 D each per key; a token of 256 sees 257 / 2 keys on average.
    assert_eq!(flops["attention"], 4 * 4 * 256 * 257 / 2);
    assert_eq!(seen["sequence_tokens"], 256);
    let sites = seen["sites"].as_array().expect("a list");
    let width = |name: &str| {
        sites.iter().find(|site| site["site"] == name).map(|site| site["neurons"].clone())
    };
    assert_eq!(width("layers.3.mlp_act"), Some(1024.into()));
    assert_eq!(width("embeddings"), Some(256.into()));
    assert_eq!(width("layers.4.mlp_act"), None);
}

#[test]
fn people_get_one_line_per_kind_of_site() {
    let out = run(&["inspect", MODEL]);
    assert_eq!(out.code, 0, "{}", out.stderr);
    assert!(out.stdout.contains("4,797,952"), "{}", out.stdout);
    let line = |name: &str| out.stdout.lines().filter(|line| line.starts_with(name)).count();
    assert_eq!(line("layers.*.mlp_act "), 1, "{}", out.stdout);
    assert!(out.stdout.lines().all(|line| line.len() <= 100), "{}", out.stdout);
}

#[test]
fn what_cannot_be_inspected_has_the_right_exit_code() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = |name: &str| folder.path().join(name);
    let inspect = || finish(super::electrode().arg("inspect").arg(folder.path()));

    let out = inspect();
    assert_eq!(out.code, 2, "{}", out.stderr);
    assert!(out.stderr.contains("config.json"), "{}", out.stderr);

    let config = std::fs::read_to_string(format!("{MODEL}/config.json")).expect("it is embedded");
    std::fs::write(path("config.json"), config.replace("\"gpt2\"", "\"gpt9\"")).expect("written");
    std::fs::copy(format!("{MODEL}/model.safetensors"), path("model.safetensors")).expect("copied");
    let out = inspect();
    assert_eq!(out.code, 2, "{}", out.stderr);
    assert!(out.stderr.contains("gpt9"), "{}", out.stderr);

    std::fs::write(path("config.json"), config).expect("written");
    let whole = std::fs::read(path("model.safetensors")).expect("just copied");
    std::fs::write(path("model.safetensors"), &whole[..whole.len() - 1]).expect("written");
    let out = inspect();
    assert_eq!(out.code, 65, "{}", out.stderr);
    assert!(out.stderr.contains("model.safetensors"), "{}", out.stderr);

    std::fs::write(path("model.safetensors"), whole).expect("written");
    assert_eq!(inspect().code, 0);
}
