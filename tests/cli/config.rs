//! Run files that are wrong in one place: exit code 2, file, line and key named, nothing begun.
//! Oracle: the table of `config_table.rs`, by hand; lines are counted as the file is written.

use std::collections::BTreeSet;
use std::path::Path;

use electrode::config::RunConfig;
use electrode::config::keys::{KEYS, Key};
use electrode::error::Error;
use proptest::prelude::*;

use super::config_table::{ROWS, named, plain, with_value, write};
use super::{finish, run};

fn load(text: &str, overrides: &[&str]) -> electrode::error::Result<RunConfig> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("run.toml");
    std::fs::write(&path, text).expect("the run file is written");
    RunConfig::load(&path, &overrides.iter().map(|&text| text.to_owned()).collect::<Vec<_>>())
}

/// One wrong run file, through the program: `what` must stand in the message.
fn refused(folder: &Path, text: &str, what: &str) {
    std::fs::write(folder.join("run.toml"), text).expect("the run file is written");
    let out = finish(super::electrode().current_dir(folder).args(["run", "run.toml"]));
    assert_eq!(out.code, 2, "{what}: {}\n{text}", out.stderr);
    assert!(out.stderr.contains(what), "'{what}' is not in: {}", out.stderr);
    assert!(out.stderr.contains("remedy: "), "no remedy: {}", out.stderr);
    assert_eq!(out.stdout, "", "{what}");
    let left = std::fs::read_dir(folder).expect("the folder is read").count();
    assert_eq!(left, 1, "work was begun: {what}");
}

#[test]
fn every_mistake_in_every_key_is_refused() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut cases = 0;
    for row in ROWS {
        let key = row.path.rsplit('.').next().expect("a path has a last part");
        for bad in row.bad {
            let (text, line) = with_value(row.path, bad);
            refused(folder.path(), &text, &format!("run.toml:{line}: {}: ", named(row.path)));
            cases += 1;
        }
        // A letter too many, after the key or before it.
        for wrong in [format!("{key}s"), format!("x{key}")] {
            let (text, line) = write(row.path, |other, key| {
                let key = if other.path == row.path { &wrong } else { key };
                Some(format!("{key} = {}", other.good))
            });
            let path = named(&row.path.replace(key, &wrong));
            refused(folder.path(), &text, &format!("run.toml:{line}: {path}: unknown key"));
            refused(folder.path(), &text, &format!("did you mean '{key}'?"));
            cases += 1;
        }
        if row.required {
            let (text, _) =
                write("", |other, key| plain(other, key).filter(|_| other.path != row.path));
            refused(folder.path(), &text, &format!("{}: missing", named(row.path)));
            cases += 1;
        }
    }
    assert!(cases >= 300, "only {cases} cases");
}

#[test]
fn mistakes_between_keys_and_in_the_file_itself_are_refused() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (good, _) = write("", plain);
    for (text, what) in [
        ("name = \"a\"\nname = \"b\"\n".to_owned(), "run.toml:2: not TOML"),
        ("name = \"a\nout = 1\n".to_owned(), "run.toml:1: not TOML"),
        (String::new(), "missing"),
        (good.replace("[[concepts]]", "[concepts]"), "[[concepts]] with double brackets"),
        (good.replace("[model]", "[modle]"), "did you mean 'model'?"),
        (good.replace("format = \"parallel\"", ""), "corpus.label_files"),
        (good.replace("label_files = [\"a.label\"]", ""), "corpus.label_files: missing"),
        (good.replace("pool = \"none\"", "pool = \"last\""), "capture.special_tokens"),
        (good.replace("[capture]", "[[concepts]]\ncolumn = \"upos\"\n[capture]"), "listed twice"),
        (good.replace("[capture]", "[[concepts]]\ncolumn = \"form\"\n[capture]"), "most_frequent"),
    ] {
        refused(folder.path(), &text, what);
    }
    std::fs::write(folder.path().join("run.toml"), [0xff, 0xfe, 0x00]).expect("it is written");
    let out = finish(super::electrode().current_dir(folder.path()).args(["run", "run.toml"]));
    assert_eq!(out.code, 2, "{}", out.stderr);
    let out = run(&["run", "no/such.toml"]);
    assert_eq!(out.code, 2, "{}", out.stderr);
    assert!(out.stderr.contains("no/such.toml"), "{}", out.stderr);
}

#[test]
fn every_value_that_fits_is_taken_from_file_and_argument() {
    for row in ROWS {
        for value in [row.good, row.other] {
            let from_file = load(&with_value(row.path, value).0, &[])
                .unwrap_or_else(|error| panic!("{} = {value}: {error}", row.path));
            let argument = format!("{}={value}", named(row.path));
            let from_argument = load(&write("", plain).0, &[&argument])
                .unwrap_or_else(|error| panic!("{argument}: {error}"));
            assert_eq!(from_file.to_toml(), from_argument.to_toml(), "{argument}");
        }
    }
}

#[test]
fn the_identity_holds_all_that_decides_a_number_and_nothing_else() {
    let base = load(&write("", plain).0, &[]).expect("every good value fits");
    for row in ROWS.iter().filter(|row| row.good != row.other) {
        let changed = load(&with_value(row.path, row.other).0, &[]).expect("it fits");
        let outside = ["name", "out", "statistics.batch_tokens"].contains(&row.path)
            || row.path.starts_with("device.");
        assert_eq!(changed.run_id() == base.run_id(), outside, "{}", row.path);
    }
    let commented = write("", plain).0.replace('\n', "   # why\n\n");
    let commented = load(&commented, &[]).expect("comments change nothing");
    assert_eq!(commented.run_id(), base.run_id());
    assert_eq!(base.run_id().len(), 64);
}

#[test]
fn the_resolved_run_reads_back_as_itself() {
    for text in [write("", plain).0, QUICKSTART.to_owned()] {
        let run = load(&text, &[]).expect("it fits");
        let again = load(&run.to_toml(), &[]).expect("the resolved run is a run file");
        assert_eq!(run.identity(), again.identity());
        assert_eq!(run.to_toml(), again.to_toml());
    }
}

/// Keys of the types, of the table in `src/config/keys.rs`, and of the tests are the same.
#[test]
fn types_and_tables_list_the_same_keys() {
    let run = load(&write("", plain).0, &[]).expect("every good value fits");
    let json = serde_json::to_value(&run).expect("a run becomes JSON");
    let mut typed = BTreeSet::new();
    leaves(KEYS, "", &json, &mut typed);
    let table: BTreeSet<_> = KEYS.iter().map(|key| key.path.to_owned()).collect();
    let tested: BTreeSet<_> = ROWS.iter().map(|row| row.path.to_owned()).collect();
    assert_eq!(typed, table);
    assert_eq!(tested, table);
}

/// The paths of all values, of those in lists as the table of keys writes them.
pub(super) fn leaves(
    keys: &[Key],
    path: &str,
    value: &serde_json::Value,
    out: &mut BTreeSet<String>,
) {
    use serde_json::Value;
    let is_key = keys.iter().any(|key| key.path == path);
    match value {
        Value::Object(fields) if !is_key => {
            for (name, value) in fields {
                let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                leaves(keys, &path, value, out);
            }
        }
        Value::Array(items) if !is_key => {
            for item in items {
                leaves(keys, &format!("{path}[]"), item, out);
            }
        }
        _ => {
            out.insert(path.to_owned());
        }
    }
}

const QUICKSTART: &str = include_str!("../../configs/runs/quickstart.toml");

#[test]
fn arguments_that_are_wrong_name_themselves() {
    for (argument, what) in [
        ("corpus.max_documnets=5", "did you mean 'max_documents'?"),
        ("corpus.max_documents", "no '='"),
        ("corpus..files=1", "part of the key is empty"),
        ("=1", "part of the key is empty"),
        ("methods=[\"ap\"", "not a TOML value"),
        ("name=\"open", "not a TOML value"),
        ("corpus=5", "corpus: it is a number, not a table"),
        ("name.first=x", "name is a value, not a table"),
        ("concepts.99.column=upos", "no item '99'"),
        ("concepts.0=upos", "not a list of tables"),
        ("model={}", "model.path: missing"),
        ("statistics.bins=3", "0, or a whole number from 4 to 4096"),
        ("corpus.text=orignal", "did you mean 'original'?"),
        ("capture.sites=mlp_act", "a list of at least one text"),
    ] {
        let out = run(&["run", "configs/runs/quickstart.toml", argument]);
        assert_eq!(out.code, 2, "{argument}: {}", out.stderr);
        assert!(out.stderr.contains(argument), "{argument} is not in: {}", out.stderr);
        assert!(out.stderr.contains(what), "{argument}: {}", out.stderr);
    }
}

#[test]
fn arguments_without_quotes_are_texts_where_a_text_is_wanted() {
    let arguments = [
        "name=2024",
        "out=out/7b",
        "corpus.max_documents=100",
        "methods=[\"ap\"]",
        "model.path= x ",
    ];
    let run = load(QUICKSTART, &arguments).expect("they fit");
    assert_eq!(run.name, "2024");
    assert_eq!(run.out, Path::new("out/7b"));
    assert_eq!(run.corpus.max_documents, Some(100));
    assert_eq!(run.methods, ["ap"]);
    assert_eq!(run.model.path, "x");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Whatever is put anywhere into a run file, the answer is a run or a configuration error.
    #[test]
    fn damaged_files_never_panic(at in 0..QUICKSTART.len(), len in 0..40usize, new in "\\PC{0,12}") {
        let mut bytes = QUICKSTART.as_bytes().to_vec();
        let end = (at + len).min(bytes.len());
        bytes.splice(at..end, new.bytes());
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let answer = load(&text, &[]);
        prop_assert!(matches!(answer, Ok(_) | Err(Error::Config { .. })), "{answer:?}");
    }

    #[test]
    fn odd_arguments_never_panic(key in "[a-z.0-9]{0,20}", value in "\\PC{0,20}") {
        let argument = format!("{key}={value}");
        let answer = load(QUICKSTART, &[&argument]);
        prop_assert!(matches!(answer, Ok(_) | Err(Error::Config { .. })), "{answer:?}");
    }

    #[test]
    fn any_value_for_a_key_never_panics(row in 0..ROWS.len(), value in "\\PC{0,20}|-?[0-9]{1,20}|[0-9.e+-]{1,8}") {
        let argument = format!("{}={value}", named(ROWS[row].path));
        let answer = load(QUICKSTART, &[&argument]);
        prop_assert!(matches!(answer, Ok(_) | Err(Error::Config { .. })), "{answer:?}");
    }
}

#[test]
fn the_readme_lists_every_key() {
    let readme = include_str!("../../README.md");
    let reference = electrode::config::keys::reference(KEYS);
    assert!(readme.contains(&reference), "put this into README.md, Run files:\n{reference}");
}
