//! Sweeps. Oracle: every point run by itself with `electrode run`, whatever was shared, killed, done
//! twice or in another order.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use electrode::disk::{Act, Watcher, watch};
use electrode::run::sweep::{SweepPlan, work};

use super::{
    Bench, Finished, assert_same, electrode, finish, leftovers, manifest, snapshot, tables,
};

/// Twelve points of which eleven are left, in two passes; labels of one axis come from two columns.
pub(super) fn sweep_file(bench: &Bench, out: &str, more: &str) -> PathBuf {
    let path = bench.path(&format!("{out}.toml"));
    let text = format!(
        r#"
name = "tiny"
out = "{out}"
run = "{run}"
task_blocks = 2
exclude = [{{ sites = "stream", seed = "1", methods = "probeless" }}]
{more}

[[axis]]
key = "statistics.seed"
range = [0, 1]

[[axis]]
key = "capture.sites"
values = [["layers.*.mlp_act"], ["layers.0.resid_post", "layers.*.mlp_act"], ["layers.*.resid_post"]]
names = ["neurons", "both", "stream"]

[[axis]]
key = "methods"
values = [["probeless", "topctx"], ["auroc", "mi"]]
names = ["probeless", "order"]

[[override]]
when = {{ seed = "1" }}
set = {{ "output.keep" = 7 }}
"#,
        out = bench.path(out).display(),
        run = bench.path("run.toml").display(),
    );
    fs::write(&path, text).expect("written");
    path
}

pub(super) fn sweep(arguments: &[&str]) -> Finished {
    finish(electrode().arg("sweep").args(arguments))
}

pub(super) fn planned(bench: &Bench, out: &str) -> String {
    let done = sweep(&["plan", &sweep_file(bench, out, "").display().to_string()]);
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    assert!(done.stdout.contains("11 points share 2 passes"), "{}", done.stdout);
    bench.path(out).display().to_string()
}

pub(super) fn plan_of(out: &str) -> serde_json::Value {
    let bytes = fs::read(Path::new(out).join("sweep.json")).expect("a plan");
    serde_json::from_slice(&bytes).expect("it is JSON")
}

/// Every point has the bytes of its own run.
fn assert_as_alone(bench: &Bench, out: &str) {
    let plan = plan_of(out);
    let points = plan["points"].as_array().expect("a list");
    assert_eq!(points.len(), 11);
    for point in points {
        let name = point["name"].as_str().expect("a name");
        let config = &point["config"];
        let text = |value: &serde_json::Value| value.to_string();
        let alone = bench.tables(
            &format!("alone/{name}"),
            &[
                &format!("capture.sites={}", text(&config["capture"]["sites"])),
                &format!("methods={}", text(&config["methods"])),
                &format!("statistics.seed={}", config["statistics"]["seed"]),
                &format!("output.keep={}", config["output"]["keep"]),
            ],
        );
        let folder = Path::new(out).join("points").join(name);
        assert_same(&alone, &tables(&folder), name);
        assert!(folder.join("report.html").exists(), "{name} has a page");
        let values = point["values"].as_object().expect("by axis");
        let mut data = Path::new(out).join("data/rankings");
        data.extend(
            values
                .iter()
                .map(|(axis, value)| format!("{axis}={}", value.as_str().expect("a name"))),
        );
        let there = fs::read(data.join("rankings.parquet")).expect("the table of the data set");
        assert!(there == alone["rankings.parquet"], "{name}: data");
    }
    assert_eq!(leftovers(Path::new(out)), [] as [PathBuf; 0]);
}

#[test]
fn points_have_the_bytes_of_their_own_runs() {
    let bench = Bench::new(300);
    let out = planned(&bench, "sweep");
    let done = sweep(&["submit", &out, "--local", "3"]);
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    assert!(done.stdout.contains("11 points"), "{}", done.stdout);
    assert_as_alone(&bench, &out);
    // A second time nothing is left to do, and the same comes out.
    let again = sweep(&["resume", &out, "--local", "1"]);
    assert_eq!(again.code, Some(0), "{}", again.stderr);
    let status = sweep(&["status", &out]);
    assert!(status.stdout.contains("0.00 device-hours are left"), "{}", status.stdout);
}

/// Tasks killed at any moment, done twice at a time, in any order, some of them merged before others
/// are done: no bit changes, and nothing is merged that is not complete.
#[test]
fn tasks_may_be_killed_doubled_and_disordered() {
    let bench = Bench::new(400);
    let out = planned(&bench, "sweep");
    let tasks = plan_of(&out)["tasks"].as_array().expect("a list").len();
    assert!(tasks >= 6, "{tasks} tasks");
    let missing = sweep(&["merge", &out]);
    assert_eq!(missing.code, Some(75), "{}", missing.stderr);
    assert!(missing.stderr.contains("blocks of pass 0 are missing"), "{}", missing.stderr);
    assert!(!Path::new(&out).join("points").exists(), "nothing is written of an unfinished sweep");
    let task = |number: usize| {
        let mut command = electrode();
        command.args(["sweep", "task", &out, &number.to_string()]);
        command
    };
    for number in (0..tasks).rev() {
        let mut killed = task(number).spawn().expect("it starts");
        std::thread::sleep(Duration::from_millis(7 * (number as u64 % 9)));
        killed.kill().expect("it can be killed");
        killed.wait().expect("it ends");
        let twice = [task(number).spawn(), task(number).spawn()];
        for one in twice {
            let ended = one.expect("it starts").wait_with_output().expect("it ends");
            let said = String::from_utf8_lossy(&ended.stderr).into_owned();
            assert_eq!(ended.status.code(), Some(0), "task {number}: {said}");
        }
        if number == tasks / 2 {
            assert_eq!(sweep(&["merge", &out]).code, Some(75), "half is not all");
        }
        if number == 1 {
            assert_marked(&out);
        }
    }
    let done = sweep(&["merge", &out]);
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    assert_as_alone(&bench, &out);
}

/// What is merged of a part says of what part, in every place where one could take it for the whole.
fn assert_marked(out: &str) {
    let done = sweep(&["merge", out, "--partial"]);
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    assert!(done.stdout.contains("blocks of pass 0 are missing: "), "{}", done.stdout);
    let plan = plan_of(out);
    let mut parts = 0;
    for point in plan["points"].as_array().expect("a list") {
        let name = point["name"].as_str().expect("a name");
        let folder = Path::new(out).join("partial").join(name);
        if !folder.exists() {
            continue;
        }
        parts += 1;
        assert!(!Path::new(out).join("points").join(name).exists(), "{name}: no result yet");
        let manifest = manifest(&folder);
        let (blocks, covered) = (&manifest["plan"]["blocks"], &manifest["plan"]["done"]);
        assert!(covered.as_u64() < blocks.as_u64() && covered.as_u64() > Some(0), "{covered}");
        let note = manifest["notes"][0].as_str().expect("a note");
        assert!(note.starts_with("partial: ") && note.contains("are missing"), "{note}");
        let id = manifest["run_id"].as_str().expect("text");
        assert!(id.ends_with(&format!("+{covered}of{blocks}")), "{id}");
        for table in ["neurons.parquet", "rankings.parquet", "contexts.parquet"] {
            let stamped = electrode::artifact::table::run_id_of(&folder.join(table));
            assert_eq!(stamped.expect("a table").as_deref(), Some(id), "{table}");
        }
        assert!(folder.join("report.html").exists());
    }
    assert!(parts > 0, "a pass has a part");
}

/// A damaged record costs its blocks, which a later attempt does again.
#[test]
fn damaged_states_are_done_again() {
    let bench = Bench::new(120);
    let out = planned(&bench, "sweep");
    assert_eq!(sweep(&["submit", &out, "--local", "2"]).code, Some(0));
    let before = snapshot(&Path::new(&out).join("points"));
    let is_segment = |path: &PathBuf| path.extension().is_some_and(|suffix| suffix == "seg");
    fs::remove_dir_all(Path::new(&out).join("points")).expect("it was there");
    for pass in ["0000", "0001"] {
        let merged = Path::new(&out).join("passes").join(pass).join("merged");
        if merged.exists() {
            fs::remove_dir_all(merged).expect("it can be removed");
        }
    }
    for path in snapshot(&Path::new(&out).join("passes")).into_keys().filter(is_segment) {
        let mut bytes = fs::read(&path).expect("it is there");
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(&path, bytes).expect("written");
    }
    let damaged = sweep(&["merge", &out]);
    assert_eq!(damaged.code, Some(75), "{}", damaged.stderr);
    let done = sweep(&["resume", &out, "--local", "2"]);
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    let after = snapshot(&Path::new(&out).join("points"));
    for (path, bytes) in &before {
        if path.extension().is_some_and(|suffix| suffix == "parquet") {
            assert!(after.get(path) == Some(bytes), "{}", path.display());
        }
    }
}

#[test]
fn other_sweeps_models_and_corpora_are_refused() {
    let bench = Bench::new(60);
    let out = planned(&bench, "sweep");
    let other = sweep_file(&bench, "sweep", "").display().to_string();
    let text = fs::read_to_string(&other).expect("just written").replace("[0, 1]", "[0, 2]");
    fs::write(&other, text).expect("written");
    let done = sweep(&["plan", &other]);
    assert_eq!(done.code, Some(2), "{}", done.stderr);
    assert!(done.stderr.contains("the folder holds sweep"), "{}", done.stderr);
    assert_eq!(sweep(&["task", &out, "0"]).code, Some(0));
    // One more sentence: no task of the old plan may read it.
    for name in ["c.word", "c.label"] {
        let text = fs::read_to_string(bench.path(name)).expect("it is there");
        let more = text.lines().next().expect("a line").to_owned();
        fs::write(bench.path(name), format!("{text}{more}\n")).expect("written");
    }
    for command in [&["task", &out, "0"][..], &["merge", &out]] {
        let done = sweep(command);
        assert_eq!(done.code, Some(2), "{}", done.stderr);
        assert!(done.stderr.contains("changed since the sweep was planned"), "{}", done.stderr);
    }
    let none = sweep(&["status", &bench.path("nowhere").display().to_string()]);
    assert_eq!(none.code, Some(2), "{}", none.stderr);
    let far = sweep(&["task", &out, "9999"]);
    assert_eq!(far.code, Some(2), "{}", far.stderr);
    let path = Path::new(&out).join("sweep.json");
    let bytes = fs::read(&path).expect("a plan");
    fs::write(&path, &bytes[..bytes.len() / 2]).expect("written");
    let damaged = sweep(&["status", &out]);
    assert_eq!(damaged.code, Some(65), "{}", damaged.stderr);
    assert!(damaged.stderr.contains("sweep.json"), "{}", damaged.stderr);
}

#[test]
fn wrong_sweep_files_name_the_place() {
    let bench = Bench::new(40);
    let good = fs::read_to_string(sweep_file(&bench, "sweep", "")).expect("just written");
    let file = bench.path("wrong.toml");
    for (from, to, words) in [
        ("task_blocks = 2", "task_blocks = 3", &["task_blocks", "power of two"][..]),
        ("task_blocks = 2", "task_block = 2", &["wrong.toml:5", "task_block"]),
        ("range = [0, 1]", "range = [1, 0]", &["statistics.seed", "there is none"]),
        ("range = [0, 1]", "values = [0]\nrange = [0, 1]", &["exactly one of them"]),
        ("[\"neurons\", \"both\", \"stream\"]", "[\"a\", \"b\"]", &["2 names for 3 values"]),
        ("[\"neurons\", \"both\", \"stream\"]", "[\"a/b\", \"b\", \"c\"]", &["'a/b' is no name"]),
        ("sites = \"stream\"", "sites = \"river\"", &["no axis 'sites' with a value 'river'"]),
        (
            "key = \"statistics.seed\"",
            "key = \"statistics.sed\"\nname = \"seed\"",
            &["statistics.sed"],
        ),
        ("name = \"tiny\"", "name = \"a b\"", &["name", "part of a job's name"]),
        ("\"mi\"]", "\"mix\"]", &["mix"]),
    ] {
        assert!(good.contains(from), "{from}");
        fs::write(&file, good.replacen(from, to, 1)).expect("written");
        let done = sweep(&["plan", &file.display().to_string()]);
        assert_eq!(done.code, Some(2), "{to}: {}", done.stderr);
        for word in words {
            assert!(done.stderr.contains(word), "{to}: no '{word}' in {}", done.stderr);
        }
        assert!(!bench.path("sweep").exists(), "{to}: something was written");
    }
}

/// Another node gave another answer to the sentences of the calibration: nothing of this one is
/// believed before somebody has looked.
#[test]
fn who_gives_another_answer_reads_nothing() {
    let bench = Bench::new(400);
    let out = planned(&bench, "sweep");
    assert_eq!(plan_of(&out)["tasks"][1]["pass"], 0, "both are of one pass");
    assert_eq!(sweep(&["task", &out, "0"]).code, Some(0));
    let known = Path::new(&out).join("passes/0000/known.json");
    let right = fs::read_to_string(&known).expect("the first task writes it");
    let mut answer: serde_json::Value = serde_json::from_str(&right).expect("it is JSON");
    let hash = answer["blake3"].as_str().expect("text");
    let other = hash.replace('0', "1");
    assert_ne!(hash, other, "a hash of 64 digits without a 0");
    answer["blake3"] = other.into();
    answer["node"] = "n7".into();
    fs::write(&known, answer.to_string()).expect("written");
    let done = sweep(&["task", &out, "1"]);
    assert_eq!(done.code, Some(76), "{}", done.stderr);
    assert!(done.stderr.contains("than node 'n7' gave"), "{}", done.stderr);
    let folder = Path::new(&out).join("passes/0000/tasks/000001");
    let files = snapshot(&folder);
    assert!(files.keys().all(|path| path.extension().is_none_or(|suffix| suffix != "seg")));
    let notes = files.iter().filter(|(path, _)| path.extension().is_some_and(|s| s == "json"));
    let notes: Vec<serde_json::Value> =
        notes.map(|(_, bytes)| serde_json::from_slice(bytes).expect("a note")).collect();
    assert_eq!(notes.len(), 1);
    assert_eq!(notes[0]["exit"], 76, "a record of its health");
    fs::write(&known, &right[..right.len() / 2]).expect("written");
    let damaged = sweep(&["task", &out, "1"]);
    assert_eq!(damaged.code, Some(65), "{}", damaged.stderr);
    fs::write(&known, right).expect("written");
    assert_eq!(sweep(&["task", &out, "1"]).code, Some(0));
}

/// Counts how often a file is opened.
#[derive(Default)]
struct Opens(AtomicUsize);

impl Watcher for Opens {
    fn after(&self, _: &Path, act: Act<'_>) {
        if matches!(act, Act::Open) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }
}

/// A corpus is counted, hashed and checked once, when the sweep is planned; a task reads its blocks.
/// Where times say that a file was touched, everything is found again.
#[test]
fn tasks_read_no_more_than_their_blocks() {
    let bench = Bench::new(300);
    std::thread::sleep(Duration::from_millis(50));
    let out = PathBuf::from(planned(&bench, "sweep"));
    let corpus = bench.path("c.word");
    let plan = SweepPlan::read(&out).expect("a plan");
    let opens = |task: usize| {
        let counter = Arc::new(Opens::default());
        let _watch = watch(&corpus, Arc::clone(&counter) as Arc<dyn Watcher>);
        let stop = AtomicBool::new(false);
        work((&plan, &out), task, Some("cpu"), (&stop, &mut |_, _, _| {})).expect("it works");
        counter.0.load(Ordering::SeqCst)
    };
    let known = opens(0);
    let file = fs::File::options().append(true).open(&corpus).expect("it is there");
    file.set_modified(std::time::SystemTime::now()).expect("touched");
    let found = opens(1);
    assert!(known + 3 <= found, "opened {known} times, and {found} where it was touched");
    assert!(known <= 2, "opened {known} times: calibration and blocks");
}
