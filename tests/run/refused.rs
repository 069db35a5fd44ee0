//! Runs that must not begin: wrong keys, and folders that belong to another run.
//! Oracle: the exit codes of the README; a folder is compared byte for byte.

use std::fs;

use super::{Bench, assert_refused, snapshot, tiny};

#[test]
fn another_run_in_the_same_folder_is_refused_and_changes_nothing() {
    let bench = Bench::new(120);
    bench.tables("out", &[]);
    let before = snapshot(&bench.path("out"));
    let refused = |more: &[&str], what: &str| {
        let done = bench.run("out", more);
        assert_eq!(done.code, Some(2), "{what}: {}", done.stderr);
        assert!(done.stderr.contains("the folder holds run"), "{what}: {}", done.stderr);
        assert!(done.stderr.contains("choose another out"), "{what}: {}", done.stderr);
        assert!(snapshot(&bench.path("out")) == before, "{what}: the folder changed");
    };
    for change in ["statistics.bins=8", "statistics.seed=1", "output.keep=3", "capture.pool=first"]
    {
        refused(&[change], change);
    }
    refused(&[r#"methods=["auroc"]"#], "methods");
    // The same names, but another weight; then another word.
    let weights = bench.path("model/model.safetensors");
    let original = fs::read(&weights).expect("readable");
    let mut tensors = tiny::tensors();
    tensors[0].2[5] += 0.5;
    fs::write(&weights, tiny::safetensors_bytes(&tensors)).expect("written");
    refused(&[], "another model");
    fs::write(&weights, original).expect("written");
    let words = fs::read_to_string(bench.path("c.word")).expect("readable");
    fs::write(bench.path("c.word"), words.replacen("w1", "w2", 1)).expect("written");
    refused(&[], "another corpus");
    fs::write(bench.path("c.word"), words).expect("written");
    // What is no part of the identity may change.
    let outside = [
        "name=another title",
        "--threads=1",
        "device.commit_seconds=9",
        "statistics.batch_tokens=99",
    ];
    let done = bench.run("out", &outside);
    assert_eq!(done.code, Some(0), "{}", done.stderr);
}

#[test]
fn a_dry_run_writes_nothing() {
    let bench = Bench::new(60);
    let done = bench.run("out", &["--dry-run"]);
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    assert!(
        done.stdout.contains("# memory: ") && done.stdout.contains("# run "),
        "{}",
        done.stdout
    );
    assert!(!bench.path("out").exists());
    bench.tables("out", &[]);
    let before = snapshot(&bench.path("out"));
    let done = bench.run("out", &["--dry-run", "statistics.bins=8"]);
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    assert!(snapshot(&bench.path("out")) == before);
}

#[test]
fn wrong_keys_and_names_are_refused() {
    let bench = Bench::new(60);
    for (change, words) in [
        (r#"capture.sites=["layers.*.mlp_akt"]"#, &["mlp_akt", "remedy"][..]),
        (r#"capture.sites=["layers.7.mlp_act"]"#, &["layers.7.mlp_act", "remedy"]),
        (r#"capture.sites=["layers.0.attn_probs"]"#, &["has no neurons"]),
        (r#"methods=["probless"]"#, &["no method 'probless'", "did you mean 'probeless'"]),
        (r#"methods=["auroc", "fstat", "auroc"]"#, &["'auroc' is listed twice"]),
        (r#"methods=["auroc", "topctx:k=5"]"#, &["'topctx' takes no settings in a run"]),
        (r#"methods=["bottom:of=lape"]"#, &["the name of a method that ranks"]),
        (r#"methods=["mi:bins=4000000000"]"#, &["to 1000000"]),
        (r#"methods=["auroc:nonsense=1"]"#, &["auroc", "nonsense"]),
        ("capture.pol=last", &["unknown key 'pol'", "did you mean 'pool'"]),
        ("statistics.bins=3", &["statistics.bins", "0, or a whole number from 4"]),
        (r#"methods=["auroc", "iou-neurox"]"#, &["needs the activations themselves"]),
        ("statistics.bins=0", &["needs histograms"]),
        ("model.dtype=f64", &["f64", "bf16"]),
        ("capture.pool=sentence-mean", &["rows are sentences", "labels words only"]),
        ("corpus.add_bos=true", &["bos_token_id"]),
        ("concepts=[]", &["needs labels"]),
        ("device.name=cuda:0", &["cuda:0"]),
    ] {
        assert_refused(&bench.run("out", &[change]), 2, words, &bench.path("out"));
    }
}

#[test]
fn a_folder_that_was_refused_takes_the_next_run() {
    let bench = Bench::new(60);
    let refused = bench.run("out", &["capture.pool=sentence-mean"]);
    assert_eq!(refused.code, Some(2), "{}", refused.stderr);
    bench.tables("out", &[]);
}
