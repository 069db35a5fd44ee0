//! Oracle: the run itself, undisturbed. Neither threads nor repetition change a bit of a table.

use std::fs;

use electrode::artifact::tables::read_neurons;

use super::{Bench, assert_same, electrode, finish, manifest, tables};

#[test]
fn threads_change_no_bit() {
    let bench = Bench::new(600);
    let one = bench.tables("one", &["--threads", "1"]);
    for threads in ["2", "7"] {
        let other = bench.tables(threads, &["--threads", threads]);
        assert_same(&one, &other, &format!("{threads} threads"));
    }
    let of = |out: &str| manifest(&bench.path(out));
    let (one, seven) = (of("one"), of("7"));
    assert_eq!(one["run_id"], seven["run_id"], "threads are no part of the identity");
    assert_eq!((&one["machine"]["threads"], &seven["machine"]["threads"]), (&1.into(), &7.into()));
    assert!(one["plan"]["blocks"].as_u64().expect("a number") > 8, "{}", one["plan"]);
}

/// Widths that the matrix product cuts into panels, words of several tokens, and a real text.
#[test]
fn threads_change_no_bit_of_a_trained_model() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let run = |threads: &str| {
        let out = folder.path().join(threads);
        let mut command = electrode();
        command.args(["run", "configs/runs/conllu.toml", "--threads", threads]);
        command.arg(format!("out={}", out.display()));
        command.args(["corpus.max_documents=12", "corpus.block_bytes=1024"]);
        command.args(["statistics.bins=8", "statistics.calibration_rows=100", "output.pages=1"]);
        command.args([r#"capture.sites=["layers.1.mlp_act", "layers.3.resid_post"]"#]);
        command.args([r#"methods=["probeless", "ap2"]"#]);
        command.args([r#"concepts=[{column = "upos"}]"#, "capture.pool=mean"]);
        let done = finish(&mut command);
        assert_eq!(done.code, Some(0), "{}", done.stderr);
        tables(&out)
    };
    let one = run("1");
    assert_same(&one, &run("2"), "2 threads");
    assert_same(&one, &run("7"), "7 threads");
}

#[test]
fn a_finished_folder_can_be_run_again() {
    let bench = Bench::new(200);
    let first = bench.tables("out", &[]);
    let before = manifest(&bench.path("out"));
    fs::remove_file(bench.path("out/rankings.parquet")).expect("it was there");
    fs::remove_file(bench.path("out/report.html")).expect("it was there");
    let again = bench.run("out", &[]);
    assert_eq!(again.code, Some(0), "{}", again.stderr);
    assert!(again.stdout.contains("blocks from earlier attempts"), "{}", again.stdout);
    assert_same(&first, &tables(&bench.path("out")), "the second run");
    assert!(bench.path("out/report.html").exists());
    let after = manifest(&bench.path("out"));
    for key in ["run_id", "config", "corpus", "labels", "sites", "plan", "outputs"] {
        assert_eq!(before[key], after[key], "{key}");
    }
    assert!(again.stdout.contains("nothing left to read"), "{}", again.stdout);
    // The rate of the attempt that did the work stays.
    assert_eq!(before["timings"], after["timings"]);
}

/// Batches of a few sentences, of a part of a block, and by default of whole blocks.
#[test]
fn the_size_of_batches_changes_no_bit_of_a_table() {
    let bench = Bench::new(400);
    let some = bench.tables("some", &[]);
    for tokens in ["16", "100", "2048"] {
        let other = bench.tables(tokens, &[&format!("statistics.batch_tokens={tokens}")]);
        assert_same(&some, &other, &format!("{tokens} tokens"));
    }
    let run = fs::read_to_string(bench.path("run.toml")).expect("readable");
    fs::write(bench.path("run.toml"), run.replace("batch_tokens = 256\n", "")).expect("written");
    assert_same(&some, &bench.tables("default", &[]), "the default");
    let of = |out: &str| manifest(&bench.path(out));
    let (some, default) = (of("some"), of("default"));
    assert_eq!(some["run_id"], default["run_id"]);
    assert_eq!(default["config"]["statistics"]["batch_tokens"], serde_json::Value::Null);
}

/// Real sentences, longer than the token budget: each is then a batch of its own, and what is
/// measured does not depend on how sequences were packed.
#[test]
fn a_budget_smaller_than_a_sentence_gives_the_same_statistics() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let neurons = |tokens: u32| {
        let out = folder.path().join(tokens.to_string());
        let mut command = electrode();
        command.args([
            "run",
            "configs/runs/quickstart.toml",
            "corpus.max_documents=3",
            "capture.pool=mean",
            "concepts=[]",
            "methods=[\"topctx\"]",
            &format!("out={}", out.display()),
            &format!("statistics.batch_tokens={tokens}"),
        ]);
        let done = finish(&mut command);
        assert_eq!(done.code, Some(0), "{}", done.stderr);
        read_neurons(&out.join("neurons.parquet")).expect("it was written")
    };
    let (small, large) = (neurons(16), neurons(2048));
    assert_eq!(small.len(), 5376);
    assert!(small[0].n > 100);
    assert!(small == large, "packing changed a bit");
}
