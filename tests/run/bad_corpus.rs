//! Corpora and labels that are missing, empty or wrong. Oracle: the exit codes of the README.

use std::fs;
use std::sync::atomic::AtomicBool;

use electrode::config::RunConfig;
use electrode::run::{Prepared, run};

use super::{Bench, assert_refused, snapshot};

fn refuse(bench: &Bench, more: &[&str], code: i32, words: &[&str]) {
    assert_refused(&bench.run("out", more), code, words, &bench.path("out"));
}

#[test]
fn missing_and_empty_files() {
    let bench = Bench::new(60);
    let nowhere = bench.path("nowhere.word").display().to_string();
    refuse(&bench, &[&format!("corpus.files=[\"{nowhere}\"]")], 2, &[&nowhere]);
    let labels = format!("corpus.label_files=[\"{nowhere}\"]");
    refuse(&bench, &[&labels], 2, &[&nowhere]);
    fs::write(bench.path("c.word"), "").expect("written");
    fs::write(bench.path("c.label"), "").expect("written");
    refuse(&bench, &[], 65, &["c.word", "empty corpus"]);
}

#[test]
fn labels_of_another_length() {
    let bench = Bench::new(60);
    let text = fs::read_to_string(bench.path("c.label")).expect("readable");
    let lines: Vec<&str> = text.lines().collect();
    let with = |lines: &[&str]| {
        fs::write(bench.path("c.label"), lines.join("\n") + "\n").expect("written");
    };
    with(&lines[..59]);
    refuse(&bench, &[], 65, &["c.label", "remedy"]);
    let longer = format!("{} other", lines[4]);
    let mut wrong = lines.clone();
    wrong[4] = &longer;
    with(&wrong);
    refuse(&bench, &[], 65, &["line 5", "remedy"]);
    let more = [&lines[..], &["other"]].concat();
    with(&more);
    refuse(&bench, &[], 65, &["c.label", "remedy"]);
}

#[test]
fn concepts_that_are_not_there() {
    let bench = Bench::new(60);
    let concept = |text: &str| format!("concepts=[{{{text}}}]");
    let column = concept(r#"column = "upos""#);
    refuse(&bench, &[&column], 2, &["no column 'upos'", "label"]);
    let class = concept(r#"column = "label", classes = ["fizz", "buzz"]"#);
    refuse(&bench, &[&class], 2, &["label", "buzz"]);
    let one = concept(r#"column = "label", classes = ["fizz"]"#);
    refuse(&bench, &[&one], 2, &["fewer than two classes", "fizz"]);
    let many = concept(r#"column = "label", min_count = 100000"#);
    refuse(&bench, &[&many], 2, &["fewer than two classes", "100000"]);
    let open = concept(r#"column = "form""#);
    refuse(&bench, &[&open], 2, &["most_frequent"]);
}

/// Changes between the plan and the pass: by size, and with the size kept.
#[test]
fn a_corpus_that_changes_under_the_run_ends_it() {
    let bench = Bench::new(200);
    let words = fs::read_to_string(bench.path("c.word")).expect("readable");
    for (name, changed) in
        [("shorter", words[..words.len() / 2].to_owned()), ("other", words.replace("w1 ", "w2 "))]
    {
        fs::write(bench.path("c.word"), &words).expect("written");
        let out = bench.path(name);
        let overrides = [format!("out={}", out.display())];
        let config = RunConfig::load(bench.path("run.toml"), &overrides).expect("it is right");
        let prepared = Prepared::new(config).expect("all is there");
        fs::write(bench.path("c.word"), changed).expect("written");
        let error = run(&prepared, &AtomicBool::new(false), &mut |_, _, _| {})
            .expect_err("the corpus is another");
        assert_eq!(error.exit_code(), 65, "{error}");
        assert!(error.to_string().contains("the corpus changed"), "{error}");
        assert!(error.to_string().contains("c.word"), "{error}");
        let tables = snapshot(&out).into_keys();
        let tables: Vec<_> =
            tables.filter(|path| path.extension().is_some_and(|s| s == "parquet")).collect();
        assert_eq!(tables, [] as [std::path::PathBuf; 0], "{name}");
    }
}
